"""The experiment on spectral bias: in which order, and how fast, denoisers learn the components of the data."""

from ..experiment import Experiment, Part
from . import generated, network, weights
from .setting import PAPER

SPECTRAL_BIAS = Experiment(
    name="spectral-bias",
    title="Spectral bias: large variances are learned first",
    question="What does a denoiser learn first, and how long does the rest take?",
    source=PAPER,
    seconds=20,
    parts=(
        Part("one-layer", "Does one layer learn as the closed form says?", weights.one_layer),
        Part("two-layers", "And two layers with shared weights?", weights.two_layers),
        Part("stochastic", "And on real batches?", weights.stochastic),
        Part("generated", "What does it generate meanwhile, and when do components emerge?", generated.generated),
        Part("network", "What of that is left in a nonlinear network?", network.network),
    ),
    settings={
        "data": "scikit-learn's digits, 64 pixels in [-1, 1]; their 32 largest variances (generated); "
        f"{network.COMPONENTS} variances from {network.SMALLEST:g} to {network.LARGEST:g} (network)",
        "noise levels": f"{', '.join(f'{level:g}' for level in weights.LEVELS.tolist())}; {generated.NODES} from "
        f"{generated.SIGMA_0:g} to {generated.SIGMA_T:g} (generated)",
        "batches": f"the population's moments; {weights.BATCH:,} digits with fresh noise (stochastic)",
        "network": f"MLP of 96 x 2, {network.STEPS} steps of {network.BATCH} examples",
    },
)

__all__ = ["SPECTRAL_BIAS"]
