r"""A mixture forgets itself: the forward Fokker-Planck equation solved four ways.

:math:`dX = -\tfrac12 X\,dt + dB` from :math:`\tfrac12 N(\pm2, \tfrac14)`. The law stays a mixture, with means
:math:`\pm2\alpha` and variance :math:`\tfrac14\alpha^2 + \sigma^2` (closed form); the exact semigroup finds it from the
values on a grid; finite volumes find it from the equation

.. math::  \partial_t p = \partial_x\left(\tfrac12 x\,p\right) + \tfrac12\,\partial_x^2 p ,

which needs only drift and noise; particles find it by chance. A published script differences :math:`(p\,U')'` and then
adds :math:`p\,U''` a second time: its mass is multiplied by :math:`e^{U'' t}`.

Source: Chen Kai, *PDE and Machine Learning (7)*, experiment 1: the mixture, the rate 1 and the times are those of its
figure, which draws the closed form only.
"""

from ..experiment import Experiment, Part
from .finite_volumes import finite_volumes
from .jumps import PARTICLES, particles, semigroup
from .setting import ARTICLE
from .wrong import what_goes_wrong

MIXTURE_FORWARD = Experiment(
    "mixture-forward",
    "A mixture under the forward equation",
    "Do the closed form, the semigroup, finite volumes and particles tell one story?",
    ARTICLE,
    4,
    (
        Part("finite-volumes", "Does the scheme converge, and keep what the equation keeps?", finite_volumes),
        Part("semigroup", "Can time be jumped over?", semigroup),
        Part("particles", "Do particles agree?", particles),
        Part("what-goes-wrong", "What does the published fault do?", what_goes_wrong),
    ),
    settings={"modes": 2.0, "variance": 0.25, "beta": 1.0, "particles": PARTICLES},
)
