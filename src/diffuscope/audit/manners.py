"""Does the model keep the contract of a denoiser? Called on a few noised examples, in ways that must not matter.

The same points again; a permuted batch and its parts; one time for all, and one time per sample. Answers must agree to
TOLERANCE of the largest, and the input must be left as it was.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.schedules import Times

TOLERANCE = 1e-3  # of the largest answer: above rounding in half precision, below what a sample can show
POINTS = 8


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what to do about it; it is `grave` if no measurement of the model means anything."""

    what: str
    mend: str
    grave: bool = True


def _difference(a: Tensor, b: Tensor) -> float:
    largest = float(torch.maximum(a.abs().max(), b.abs().max()))
    return float((a - b).abs().max()) / max(largest, 1e-30)


@torch.no_grad()
def manners(denoiser: Denoiser, x: Float[Tensor, "n *event"], times: Times) -> list[Fault]:
    """The faults in calls at the noised examples `x` at `times[0]` and at the other times. Errors pass through."""
    t, given = times[0], x.clone()
    first: Any = denoiser(given, t)
    if not isinstance(first, Tensor):
        return [Fault(f"it returns a {type(first).__name__}, not a tensor", "return the denoised batch itself")]
    if first.shape != x.shape:
        shapes = f"{tuple(first.shape)} for an input of shape {tuple(x.shape)}"
        return [Fault(f"it returns the shape {shapes}", "return one denoised example per noised one")]
    if not bool(torch.isfinite(first).all()):
        return [Fault(f"it returns NaN or infinity at time {float(t):g}", "look for a division by 0 at this time")]
    faults = []
    if not torch.equal(given, x):
        faults.append(
            Fault("it changes its input in place", "compute on a copy (x = x.clone(), or x = x * c for x *= c)")
        )
    if first.dtype != x.dtype:
        faults.append(Fault(f"it returns {first.dtype} for {x.dtype}", "return the dtype of the input", grave=False))
    for other in times[1:]:
        denoiser(x.clone(), other)
    again = denoiser(x.clone(), t)
    if (by := _difference(first, again)) > TOLERANCE:
        training = isinstance(denoiser, nn.Module) and denoiser.training
        mend = "call .eval() on the network" + (" (it is in training mode)" if training else ", or fix its noise")
        faults.append(Fault(f"two calls on the same input differ by {by:.1%} of the largest value", mend))
        return faults  # what follows would only repeat this
    order = torch.arange(len(x)).flip(0)
    parts = torch.cat([denoiser(x[order][i : i + 3].clone(), t) for i in range(0, len(x), 3)])
    if (by := _difference(first[order], parts)) > TOLERANCE:
        what = f"the answer for one sample depends on the others of its batch, by {by:.1%} of the largest value"
        faults.append(Fault(what, "call .eval() on the network (batch normalization?), and mix no samples"))
    faults += _times(denoiser, x, times)
    return faults


def _times(denoiser: Denoiser, x: Batch, times: Times) -> list[Fault]:
    """One time for all samples and one per sample must mean the same."""
    each = times[torch.arange(len(x)) % len(times)]
    alone = torch.cat([denoiser(x[i : i + 1].clone(), each[i]) for i in range(len(x))])
    expected = "accept times of shape (), for all samples, and (batch,), one per sample"
    try:
        together = denoiser(x.clone(), each)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return [Fault(f"it cannot take one time per sample ({reason})", expected, grave=False)]
    if together.shape != x.shape or (by := _difference(alone, together)) > TOLERANCE:
        found = "another shape" if together.shape != x.shape else f"answers that differ by {by:.1%}"  # pyright: ignore[reportPossiblyUnboundVariable]
        return [Fault(f"one time per sample gives {found} from the same times one by one", expected, grave=False)]
    return []
