"""What the question of steps asks of the model: the ends of few steps of every sampler, and of many.

From the same noise, over the audited levels; with the part above some level replaced by the Gaussian's closed-form
flow, and without. Processes share the samplers.
"""

from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import Batch
from diffuscope.samplers import (
    DDIM,
    DPMSolverPP2M,
    Euler,
    Heun,
    finish,
    model_times,
    suggest_skip,
    teleport,
)
from diffuscope.shared_work import shared
from diffuscope.store import Arrays

from .generation import starting_noise
from .own_sampler import own_row
from .session import Session

REFERENCE_STEPS = 128
BUDGETS = (5, 8, 10, 15, 20, 35)
SAMPLERS: dict[str, Euler | DDIM | Heun | DPMSolverPP2M] = {
    "Euler": Euler(),
    "DDIM": DDIM(),
    "Heun": Heun(),
    "DPM-Solver++ 2M": DPMSolverPP2M(),
}


def measure_steps(session: Session) -> Arrays:
    """The fields of `Steps` that depend on the model, as arrays."""
    denoiser, scale, levels = session.subject.maker, session.subject.scale, session.levels
    gaussian, seeds = session.references.gaussian, session.settings.step_seeds
    tolerance = session.settings.skip_tolerance
    high, low = float(levels.ratios[0]), float(levels.ratios[-1])

    def times(steps: int, top: float = high) -> Float[Tensor, " times"]:
        # a jump to the lowest level leaves only the final denoiser call
        return model_times(denoiser, steps, high=top, low=low) if low < top else levels.times[-1:]

    fine = times(REFERENCE_STEPS)
    start = starting_noise(gaussian, denoiser.schedule, float(fine[0]), seeds, session.torch_stream("steps"))

    def distance(a: Batch, b: Batch) -> Float[Tensor, " seeds"]:
        return (a - b).flatten(1).double().square().mean(1).sqrt() / scale

    reference = finish(denoiser, Heun(), start, fine)
    session.advance()
    coarse = finish(denoiser, Heun(), start, times(REFERENCE_STEPS // 2))
    reference_error = float(distance(coarse, reference).square().mean().sqrt()) / 3
    session.advance()

    def suggest() -> Arrays:
        found = suggest_skip(denoiser, gaussian, start, levels.times, tolerance=tolerance)
        at_end, level = found.error.at_end.numpy(), np.array(found.noise_to_signal)
        return {"index": np.array(found.index), "error": at_end, "level": level}

    suggestion = shared([suggest])[0]
    # the estimate is of first order: move up until the measured displacement is within the tolerance too
    landed, measured, skip = start, torch.zeros(seeds, dtype=torch.float64), high
    for index in range(int(suggestion["index"]), 0, -1):
        jump = teleport(gaussian, denoiser.schedule, start, fine[0], levels.times[index])
        ratio = float(levels.ratios[index])
        missed = distance(finish(denoiser, Heun(), jump, times(REFERENCE_STEPS // 2, ratio)), reference)
        if float(missed.square().mean().sqrt()) <= tolerance:
            landed, measured, skip = jump, missed, ratio
            break
    session.advance()
    starts = {"plain": (start, high), "teleported": (landed, skip)}

    def row(sampler: Euler | DDIM | Heun | DPMSolverPP2M) -> Arrays:
        made = {name: [] for name in starts}
        for name, (x, top) in starts.items():
            for budget in BUDGETS:
                taken = times(steps_within(budget, sampler.nfe_per_step), top)
                made[name].append(distance(finish(denoiser, sampler, x, taken), reference))
            session.advance()
        return {name: torch.stack(columns, 1).numpy() for name, columns in made.items()}

    def row_of_own() -> Arrays:
        own = own_row(session.settings.sampler, denoiser, start, times, BUDGETS)
        if own is None:
            return {"steps": np.array([], dtype=np.int64)}
        made = {"steps": np.array(own.steps, dtype=np.int64)}
        for name, (x, top) in starts.items():
            columns = [distance(own.finish(denoiser, x, times(steps, top)), reference) for steps in own.steps]
            made[name] = torch.stack(columns, 1).numpy()
        return made

    *rows, own = shared([*(partial(row, sampler) for sampler in SAMPLERS.values()), row_of_own])
    table = {name: np.stack([made[name] for made in (*rows, own) if name in made], 1) for name in starts}
    return table | {
        "reference_error": np.array(reference_error),
        "candidates": levels.ratios.numpy(),
        "lowest": np.array(low),
        "own_steps": own["steps"],
        "estimated": (suggestion["error"] / scale).T,
        "skip": np.array(skip),
        "suggested": suggestion["level"],
        "measured": measured.numpy(),
    }


def steps_within(budget: int, nfe_per_step: int) -> int:
    """Steps that leave one function evaluation for the last denoise."""
    return max(1, (budget - 1) // nfe_per_step)
