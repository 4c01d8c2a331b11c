r"""One dial from the probability flow to Anderson's equation and beyond: every eta generates the same law, if it may.

.. math::
    \partial_\tau q = -\nabla\cdot\left(\left[-f x + \tfrac{1 + \eta^2}{2} g^2 s\right] q\right)
        + \tfrac{\eta^2}{2} g^2 \Delta q .

With the exact score and the exact start all of them carry :math:`p_T` back to :math:`p_0`. They differ in what they do
with a wrong start: :math:`\frac{d}{d\tau}\mathrm{KL}(q\|p) = -\tfrac{\eta^2}{2} g^2\int q\,|\nabla\log(q/p)|^2`. The
flow (eta = 0) keeps every error: :math:`\log(q/p)` is constant along each trajectory. Noise forgets, at a rate that
grows with :math:`\eta^2`, which is why a stochastic start followed by a deterministic end is a good sampler.

Source: Cao, Johnston, Laurent, Le & Motsch 2025, https://arxiv.org/abs/2501.17054, section 2.
"""

from ..experiment import Experiment, Part
from .forgetting import forgetting, hybrid
from .generated import same_law, there_and_back
from .setting import HORIZON
from .starts import PARTICLES, characteristics, particles

REVERSE_FAMILY = Experiment(
    "reverse-family",
    "The reverse family with one dial",
    "What does each sampler's equation generate, from a right and from a wrong start?",
    "Cao et al. 2025, https://arxiv.org/abs/2501.17054, section 2",
    30,
    (
        Part("there-and-back", "Is generation the forward flow played backward?", there_and_back),
        Part("forgetting", "How much of a wrong start does each dial forget?", forgetting),
        Part("same-law", "Does every eta generate the data law?", same_law),
        Part("characteristics", "What does the deterministic flow do with a wrong start?", characteristics),
        Part("particles", "Do a million particles agree?", particles),
        Part("hybrid", "Stochastic early, deterministic late?", hybrid),
    ),
    settings={"T": HORIZON, "particles": PARTICLES},
)
