r"""The heat equation in one dimension: exact forward, hopeless backward, and saved by a score.

:math:`\partial_t p = D\,\Delta p` spreads :math:`\tfrac12 N(\pm2, \tfrac14)` to
:math:`\tfrac12 N(\pm2, \tfrac14 + 2Dt)`.
Forward every Fourier mode decays, and a periodic grid is exact to rounding once it resolves the density and holds its
tails. Backward every mode grows by :math:`e^{+Dk^2\tau}`: whatever is not known of the fine modes, be it the last bit
of a float, is multiplied. A diffusion model runs backward all the same, because the score carries what was lost:
:math:`\partial_\tau q = -\nabla\cdot(g^2 s\, q) + \tfrac12 g^2\Delta q` is a well-posed equation.

Source: Chen Kai, *PDE and Machine Learning (7)*, experiment 1; its heat equation, figure 1.
"""

from ..experiment import Experiment, Part
from .backward import backward
from .forward import PARTICLES, forward, particles
from .setting import ARTICLE, SEPARATION, SPREAD, VARIANCE

HEAT_1D = Experiment(
    "heat-1d",
    "The heat equation in one dimension",
    "How exactly can a density be blurred, and can the blur be undone?",
    ARTICLE,
    4,
    (
        Part("forward", "Is the propagator exact, and where does it stop being so?", forward),
        Part("particles", "Do particles follow the equation?", particles),
        Part("backward", "Can the heat equation be run backward?", backward),
    ),
    settings={"modes": SEPARATION, "variance": VARIANCE, "Dt": SPREAD, "particles": PARTICLES},
)
