r"""Calibrating a sampler to one model: levels and weights fitted to a few of the model's own trajectories.

Half of the starts fit, the other half validate and choose.

1. **Reference.** Every start is carried to the end with `reference_steps` evaluations, by the calibrated sampler's own
   scheme with plain Adams-Bashforth weights of order 4.
2. **Weights for given levels**, one step after the other, by least squares on the states that the *fitted* steps
   before have reached, so that a step also corrects what they left:

   .. math::  \min_a \sum_m q_m \left|\,W\left(z^{ref}_{i+1} - z_i - \kappa\sum_j a_j\Delta_{i-j}\right)_m\right|^2
              + \text{ridge towards Adams-Bashforth}, \qquad W_k^2 = \lambda_k + \tfrac{3}{10}\tilde\sigma_{i+1}^2 .

   W measures z by what it moves at the end. The error of interest is the mean distance, not its square, so the fit is
   repeated with :math:`q_m = 1/(\text{distance}_m + \tfrac1{10}\text{mean distance})`: trajectories that choose
   another mode must not rule the rest.
3. **Levels** from a family of grids: the first level (the teleport), the last, and how they crowd.
4. **All together**: weights and levels by Gauss-Newton on the distance at the end, with the same q, derivatives by
   differences; a round that does not improve both halves is damped or refused.
5. **Plain solvers** on grids of the same kind compete in validation, and win where they are better.

Sources of the ideas: reference trajectories and per-step coefficients, Shaul et al. 2024, *Bespoke Non-Stationary
Solvers* (arXiv:2403.01329); levels fitted too, Tong et al. 2024, *Learning to Discretize* (arXiv:2405.15506); the
Gaussian as the part that is known, Wang & Vastola 2024 (arXiv:2412.09726).
"""

import torch

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

from ..calibrated import HISTORY, SAME_LEVEL, Calibrated
from .gauss_newton import polish
from .reference import reference_of
from .search import judged_solvers, search_levels
from .whitened_model import WhitenedModel


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    gaussian: Gaussian,
    nfe: int,
    *,
    starts: Batch,
    reference_steps: int = 160,
    rounds: int = 4,
) -> Calibrated:
    """The sampler of `nfe` evaluations fitted to `denoiser`, from states `starts` at the start of its schedule.

    `starts` are noise of the model's highest level, in the dtype that it works in; 256 are plenty in high dimension,
    1,000 do not hurt in two. `gaussian` has the mean and covariance of the data. `rounds` of Gauss-Newton (0: the
    sequential fit alone) each cost about 2 nfe^2 evaluations per start, the search of levels 30 nfe, the reference
    1.5 reference_steps; a model of 1,000 discrete times keeps its levels at trained ones. Deterministic; the result
    carries what it cost. Memory: reference_steps states per start.

    Raises InputError for nfe < 2, fewer than 8 starts, starts that do not fit the Gaussian or are not finite, a
    reference shorter than 2 nfe steps, and a denoiser that answers NaN or infinity.
    """
    if nfe < 2:
        raise InputError(f"nfe: expected at least 2 evaluations, got {nfe}")
    if len(starts) < 8 or tuple(starts.shape[1:]) != gaussian.event_shape:
        raise InputError(f"starts: expected (8 or more, *{gaussian.event_shape}), got {tuple(starts.shape)}")
    if not bool(torch.isfinite(starts).all()):
        raise InputError("starts: expected finite values, got NaN or infinity")
    if reference_steps < 2 * nfe:
        raise InputError(f"reference_steps: expected at least 2 nfe = {2 * nfe}, got {reference_steps}")
    if rounds < 0:
        raise InputError(f"rounds: expected 0 or more, got {rounds}")
    model = WhitenedModel.of(denoiser, gaussian, starts)
    reference = reference_of(model, starts, reference_steps)
    check = reference_of(model, starts[: max(8, len(starts) // 4)], reference_steps // 2)
    reference_error = model.distance(check.end, reference.end[: len(check.end)])
    fitting, validating = reference.part(slice(0, None, 2)), reference.part(slice(1, None, 2))

    best = search_levels(model, fitting, validating, nfe)
    best = polish(model, fitting, validating, best, rounds)
    plain = judged_solvers(model, starts[1::2], validating, nfe)
    name = min(plain, key=lambda key: plain[key].error)
    shared = {
        "gaussian": gaussian,
        "end": model.end.lam,
        "plain_errors": {key: solver.error for key, solver in plain.items()},
        "reference_error": reference_error,
    }
    start = model.start.lam
    if plain[name].error < best.error:
        return Calibrated(
            levels=tuple(at.lam for at in plain[name].levels),
            jumps=False,
            weights=torch.zeros(nfe, HISTORY, dtype=torch.float64),
            carry=0.0,
            shift=torch.zeros_like(gaussian.mean),
            plain=name,
            error=plain[name].error,
            evaluations=model.evaluations,
            **shared,
        )
    plan = best.plan
    jumps = plan.levels[0].lam > start + SAME_LEVEL
    return Calibrated(
        levels=((start,) if jumps else ()) + tuple(at.lam for at in plan.levels),
        jumps=jumps,
        weights=plan.weights[:, :HISTORY].cpu(),
        carry=float(plan.weights[-1, HISTORY]),
        shift=model.basis.rows(plan.shift[None]).reshape(gaussian.event_shape).cpu(),
        plain=None,
        error=best.error,
        evaluations=model.evaluations,
        **shared,
    )


__all__ = ["calibrate"]
