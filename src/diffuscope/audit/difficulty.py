r"""How hard is each example to denoise for a reference that knows all examples alike?

Two references are fitted to training and held-out examples *together*, without saying which is which: an isotropic
Gaussian, and a Gaussian of few principal components. Their squared errors :math:`|D_m(x_t) - x_0|^2` say how easy an
example is. A reference that had been fitted to the training examples alone would itself reveal them: on 600 digits, the
leading 12 components are enough for an attack to tell the two sets.
"""

import torch
from jaxtyping import Float64
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.exact import Gaussian
from diffuscope.memory import chunk_size
from diffuscope.schedules import Schedule

from .references import CONTROL_EXAMPLES_PER_COMPONENT
from .subject import Levels

COMPONENTS = 16
FITTED = 4096  # examples that the references are fitted to, at most
CHUNK = 16_000_000  # numbers held at once


def fit_difficulty(examples: Batch, components: int = COMPONENTS) -> tuple[Gaussian, Gaussian]:
    """The isotropic Gaussian of the examples, and the one that keeps their leading principal components.

    At most `components`, and one per 50 examples. The first FITTED examples are used, so that the order of the examples
    must not depend on what is to be found out about them.
    """
    rows = examples[:FITTED].flatten(1).double()
    count, dimension = rows.shape
    mean = rows.mean(0)
    kept = min(components, dimension - 1, max(1, count // CONTROL_EXAMPLES_PER_COMPONENT))
    _, spread, basis = torch.linalg.svd(rows - mean, full_matrices=False)
    variances, total = spread.square() / count, float((rows - mean).square().sum()) / count
    event = mean.reshape(examples.shape[1:])
    leading = variances[:kept]
    tail = max(0.0, (total - float(leading.sum())) / (dimension - kept))
    few = Gaussian(event, basis[:kept].T.contiguous(), leading, tail)
    return Gaussian.isotropic(event, total / dimension), few


def difficulty(
    examples: Batch, noise: Batch, levels: Levels, schedule: Schedule
) -> Float64[Tensor, "n levels references"]:
    """Squared errors of both references at every level, where example i is noised by `noise[i]`."""
    references = fit_difficulty(examples)
    chunk = chunk_size(CHUNK, each=examples[0].numel())
    columns = []
    for t in levels.times.tolist():
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        parts = [
            torch.stack([(r.denoise(alpha * x + sigma * e, alpha, sigma) - x).flatten(1).double().square().sum(1)
                         for r in references], 1)
            for x, e in zip(examples.split(chunk), noise.split(chunk), strict=True)
        ]  # fmt: skip
        columns.append(torch.cat(parts))
    return torch.stack(columns, 1)
