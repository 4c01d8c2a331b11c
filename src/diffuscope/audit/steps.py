r"""How few steps? Distances from the finely integrated trajectory, and the part of it that is known in closed form.

Every run starts from the same noise, integrates the probability-flow ODE from the highest to the lowest audited level
and ends with one call of the denoiser. Distances are root mean squares per coordinate in units of the data's standard
deviation. The reference is Heun's method on REFERENCE_STEPS steps; its own error is estimated by halving the steps
(order 2: a third of the difference).

Teleportation replaces the part above some noise level by the Gaussian's closed-form flow, at no evaluation. Its error
is estimated from the difference of the two denoisers along the closed-form path (`suggest_skip`) and then measured.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.exact import Gaussian
from diffuscope.findings import Finding, bootstrap_sums, percentile_interval
from diffuscope.samplers import DDIM, DPMSolverPP2M, Euler, Heun, Sampler, sample, suggest_skip, teleport

from .generation import starting_noise
from .store import Arrays
from .subject import EVALUATION_BATCH, Levels, Subject, evaluate, levels_at

REFERENCE_STEPS = 128
BUDGETS = (5, 8, 10, 15, 20, 35)
SAMPLERS: dict[str, Euler | DDIM | Heun | DPMSolverPP2M] = {
    "Euler": Euler(),
    "DDIM": DDIM(),
    "Heun": Heun(),
    "DPM-Solver++ 2M": DPMSolverPP2M(),
}
ENOUGH = 0.1  # a budget suffices when samples end within this many data deviations of the reference


@dataclass(frozen=True, eq=False)
class Steps:
    """Per seed and sampler and budget the distance to the reference; per noise level the teleport error."""

    scale: float
    samplers: tuple[str, ...]
    budgets: tuple[int, ...]
    plain: Float[ndarray, "seeds samplers budgets"]
    teleported: Float[ndarray, "seeds samplers budgets"]
    reference_error: float
    candidates: Float[ndarray, " candidates"]  # noise levels, decreasing
    estimated: Float[ndarray, "seeds candidates"]
    suggested: float  # the lowest noise level whose estimate is within the tolerance
    skip: float  # the lowest at or above it whose measured error is too: recommended; the top level if nowhere
    measured: Float[ndarray, " seeds"]  # distance of the finely integrated teleported run from the reference
    tolerance: float


def grid(denoiser: Denoiser, high: float, low: float, steps: int) -> Float[Tensor, " times"]:
    """At most `steps` steps, equal in (sigma/alpha)^(1/7) (Karras et al. 2022), at times the model was trained on."""
    ratios = torch.linspace(high ** (1 / 7), low ** (1 / 7), steps + 1, dtype=torch.float64) ** 7
    return levels_at(denoiser, ratios).times


def run(denoiser: Denoiser, sampler: Sampler, x: Batch, times: Float[Tensor, " times"]) -> Batch:
    """Integrate from times[0] to times[-1] and end with a denoise."""
    with torch.no_grad():
        ends = [sample(sampler, denoiser, part, times) for part in x.split(EVALUATION_BATCH)]
    return evaluate(denoiser, torch.cat(ends), float(times[-1]))


def measure_steps(
    subject: Subject,
    gaussian: Gaussian,
    levels: Levels,
    seeds: int,
    tolerance: float,
    seed: int,
    advance: Callable[[int], object],
) -> Arrays:
    """Everything that `Steps` holds, as arrays."""
    denoiser, scale = subject.denoiser, subject.scale
    high, low = float(levels.ratios[0]), float(levels.ratios[-1])
    fine = grid(denoiser, high, low, REFERENCE_STEPS)
    start = starting_noise(gaussian, denoiser.schedule, float(fine[0]), seeds, subject.generator(seed, "steps"))

    def distance(a: Batch, b: Batch) -> Float[Tensor, " seeds"]:
        return (a - b).flatten(1).double().square().mean(1).sqrt() / scale

    reference = run(denoiser, Heun(), start, fine)
    advance(1)
    coarse = run(denoiser, Heun(), start, grid(denoiser, high, low, REFERENCE_STEPS // 2))
    reference_error = float(distance(coarse, reference).square().mean().sqrt()) / 3
    advance(1)
    suggestion = suggest_skip(denoiser, gaussian, start, levels.times, tolerance=tolerance)
    # the estimate is of first order: move up until the measured displacement is within the tolerance too
    landed, measured, skip = start, torch.zeros(seeds, dtype=torch.float64), high
    for index in range(suggestion.index, 0, -1):
        jump = teleport(gaussian, denoiser.schedule, start, fine[0], levels.times[index])
        ratio = float(levels.ratios[index])
        missed = distance(run(denoiser, Heun(), jump, grid(denoiser, ratio, low, REFERENCE_STEPS // 2)), reference)
        if float(missed.square().mean().sqrt()) <= tolerance:
            landed, measured, skip = jump, missed, ratio
            break
    advance(1)
    table = {}
    for name, x, top in (("plain", start, high), ("teleported", landed, skip)):
        columns = []
        for sampler in SAMPLERS.values():
            for budget in BUDGETS:
                times = grid(denoiser, top, low, max(1, (budget - 1) // sampler.nfe_per_step))
                columns.append(distance(run(denoiser, sampler, x, times), reference))
            advance(1)
        table[name] = torch.stack(columns, 1).reshape(seeds, len(SAMPLERS), len(BUDGETS)).numpy()
    return table | {
        "reference_error": np.array(reference_error),
        "candidates": levels.ratios.numpy(),
        "estimated": (suggestion.error.at_end / scale).T.numpy(),
        "skip": np.array(skip),
        "suggested": np.array(suggestion.noise_to_signal),
        "measured": measured.numpy(),
    }


STAGES = 3 + 2 * len(SAMPLERS)


def steps(arrays: Arrays, scale: float, tolerance: float) -> Steps:
    """The stored arrays of `measure_steps` under their names."""
    return Steps(
        scale,
        tuple(SAMPLERS),
        BUDGETS,
        arrays["plain"],
        arrays["teleported"],
        float(arrays["reference_error"]),
        arrays["candidates"],
        arrays["estimated"],
        float(arrays["suggested"]),
        float(arrays["skip"]),
        arrays["measured"],
        tolerance,
    )


def rms(distances: Float[ndarray, "seeds *shape"]) -> Float[ndarray, "*shape"]:
    """Root mean square over seeds."""
    return np.asarray(np.sqrt((distances**2).mean(0)))


def findings(result: Steps, rng: np.random.Generator) -> list[Finding]:
    """The recommended teleport level with its estimated and measured error, and the smallest sufficient budget."""
    out = []
    if result.skip == result.candidates[0]:
        least = float(rms(result.estimated)[1])
        out.append(
            Finding(
                name="steps.teleport",
                title="Noise level down to which the Gaussian flow replaces the model",
                value=result.skip,
                unit="σ/α",
                verdict=f"No part of the trajectory can be skipped within {result.tolerance} data deviations; just "
                "below the "
                f"highest noise the estimated error is {least:.2g}.",
                tone="attention",
            )
        )
    else:
        level = int(np.flatnonzero(np.isclose(result.candidates, result.skip))[0])
        measured, estimate = float(rms(result.measured)), float(rms(result.estimated)[level])
        interval = np.sqrt(np.array(percentile_interval(bootstrap_sums(result.measured[:, None] ** 2, rng)))).ravel()
        out.append(
            Finding(
                name="steps.teleport",
                title="Noise level down to which the Gaussian flow replaces the model",
                value=result.skip,
                unit="σ/α",
                verdict=f"Start at noise {result.skip:.3g} from the closed-form Gaussian flow: the estimated error is "
                f"{estimate:.3f} data deviations per coordinate, the error measured {measured:.3f}.",
                tone="good",
                null=f"Allowed: {result.tolerance} data deviations. The estimate alone would suggest "
                f"{result.suggested:.3g}.",
            )
        )
        out.append(
            Finding(
                name="steps.teleport_error",
                title="Measured error of the recommended teleport",
                value=measured,
                unit="data deviations",
                verdict=f"Samples end {measured:.3f} data deviations from where the model alone would take them.",
                tone="good",
                interval=(float(interval[0]), float(interval[1])),
                null=f"Estimated {estimate:.3f} beforehand; the reference is exact to {result.reference_error:.1g}.",
            )
        )
    best: tuple[int, str, float] | None = None
    for label, table in (("", result.plain), (" after teleport", result.teleported)):
        for column, budget in enumerate(result.budgets):
            for row, sampler in enumerate(result.samplers):
                error = float(rms(table)[row, column])
                if error <= ENOUGH and (best is None or (budget, error) < (best[0], best[2])):
                    best = (budget, sampler + label, error)
    plain, teleported = rms(result.plain), rms(result.teleported)
    if best is None:
        least = float(min(plain.min(), teleported.min()))
        out.append(
            Finding(
                name="steps.enough",
                title="Evaluations needed",
                value=float("nan"),
                unit="evaluations",
                verdict=f"Even {result.budgets[-1]} evaluations leave {least:.2f} data deviations; more are needed "
                "than the "
                "table covers.",
                tone="attention",
                power=f"{len(result.plain)} trajectories; the reference is exact to {result.reference_error:.1g}.",
            )
        )
    else:
        out.append(
            Finding(
                name="steps.enough",
                title="Evaluations needed",
                value=float(best[0]),
                unit="evaluations",
                verdict=f"{best[0]} evaluations of {best[1]} come within {ENOUGH} data deviations of the finely "
                "integrated "
                f"result ({best[2]:.3f}).",
                tone="good",
                null=f"Smallest budget of the table whose error is at most {ENOUGH}.",
                power=f"{len(result.plain)} trajectories; the reference is exact to {result.reference_error:.1g}.",
            )
        )
    return out
