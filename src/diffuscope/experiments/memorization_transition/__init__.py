"""The experiment on memorization: how many training examples turn a network from a copier into a model of the law."""

from ..experiment import Experiment, Part
from ..three_modes import DEPTH, SAMPLING_STEPS, SCHEDULE, VARIANCE, WIDTH
from . import agreement, ladder, losses, share

MEMORIZATION_TRANSITION = Experiment(
    name="memorization-transition",
    title="Memorization: few examples are copied, many are learned from",
    question="From how many training examples on does one network stop copying them?",
    source="https://github.com/Animadversio/DiffusionMemorizationPhaseTrans; Gu et al. 2023, "
    "https://arxiv.org/abs/2310.02664; Kadkhodaie et al. 2024, https://arxiv.org/abs/2310.02557",
    seconds=70,
    parts=(
        Part("share", "How many samples are copies, and how many would be by chance?", share.shares),
        Part("losses", "At which noise levels does the held-out loss leave the training loss?", losses.losses),
        Part("agreement", "Do networks on disjoint examples make the same samples?", agreement.agreement),
    ),
    settings={
        "law": f"three equal modes of variance {VARIANCE:.4g} on the unit circle, in the plane",
        "training sets": f"{ladder.SETS} independent ones of each of {', '.join(map(str, ladder.SIZES))} examples",
        "network": f"MLP of {WIDTH} x {DEPTH}, {ladder.STEPS} steps of {ladder.BATCH} examples, the same at every size",
        "sampler": f"DPM-Solver++ 2M, {SAMPLING_STEPS} steps from σ = {SCHEDULE.t_max:g} to {SCHEDULE.t_min:g} and a "
        f"last denoising; {share.SAMPLES:,} samples of each network",
    },
)

__all__ = ["MEMORIZATION_TRANSITION"]
