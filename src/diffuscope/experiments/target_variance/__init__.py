"""The experiment on the noise of the target: what averaging posterior draws changes, exactly and in a network."""

from ..experiment import Experiment, Part
from ..three_modes import DEPTH, VARIANCE, WIDTH
from . import gradient, identity, learned, networks
from .dial import DIAL, EXAMPLES, PAPER, written

TARGET_VARIANCE = Experiment(
    name="target-variance",
    title="The noise of the target: a dial between denoising and memorizing",
    question="What does a network make of the noise in its targets?",
    source=PAPER,
    seconds=45,
    parts=(
        Part("identity", "Does averaging M draws divide the target's covariance by M?", identity.identity),
        Part("gradient", "How much of the gradient's noise is the target's?", gradient.gradient),
        Part("floor", "What is the least loss at M?", learned.floors),
        Part("generalization", "Does less noise mean more memory?", learned.generalization),
    ),
    settings={
        "M": ", ".join(map(written, DIAL)),
        "data": f"{EXAMPLES} draws of three equal modes of variance {VARIANCE:.4g} on the unit circle, in the plane",
        "training": f"{networks.SETS} training sets, a network for every M, {networks.STEPS} steps of {networks.BATCH} "
        "examples, the same batches at every M",
        "network": f"MLP of {WIDTH} x {DEPTH}",
    },
)

__all__ = ["TARGET_VARIANCE"]
