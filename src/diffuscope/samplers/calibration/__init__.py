r"""Calibrating a sampler to one model: levels and weights fitted to a few of the model's own trajectories.

Half of the starts are for fitting, the other half for validation and selection.

1. **Reference.** Every start is carried to the end with `reference_steps` evaluations, by the calibrated sampler's own
   scheme with plain Adams-Bashforth weights of order 4; with a table of trained times, through the whole table.
2. **Weights for given levels**, step by step, by least squares at the states that the *fitted* earlier steps have
   reached, so that a step also corrects their errors:

   .. math::  \min_a \sum_m q_m \left|\,W\left(z^{ref}_{i+1} - z_i - \kappa\sum_j a_j\Delta_{i-j}\right)_m\right|^2
              + \text{ridge toward Adams-Bashforth}, \qquad W_k^2 = \lambda_k + \tfrac{3}{10}\tilde\sigma_{i+1}^2 .

   W weights z by its effect at the end. The error of interest is the mean distance, not its square, so the fit is
   repeated with :math:`q_m = 1/(\text{distance}_m + \tfrac1{10}\text{mean distance})`: trajectories to another mode
   must not dominate the fit.
3. **Gaussian, levels and ridge.** The Gaussian of the data or an isotropic one (`views`), and the levels from a family
   of grids: the first level (the teleport), the last, and the spacing between, by the error on all starts. Then the
   ridge by validation: with few starts a looser fit is worse on others.
4. **Weights and levels together** by Gauss-Newton on the distance at the end, with the same q, derivatives by
   differences; a step that does not improve both halves is damped or rejected. Levels stay at trained times.
5. **Plain solvers** on grids of the same kind compete in validation, and win where they are better.

Sources: reference trajectories and per-step coefficients, Shaul et al. 2024, *Bespoke Non-Stationary Solvers*
(arXiv:2403.01329); fitted levels, Tong et al. 2024, *Learning to Discretize* (arXiv:2405.15506); the Gaussian as the
known part, Wang & Vastola 2024 (arXiv:2412.09726).
"""

import torch

from diffuscope.denoisers import Batch, Denoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian

from ..calibrated import HISTORY, SAME_LEVEL, Calibrated
from .gauss_newton import polish
from .reference import halved, reference_levels, reference_of
from .search import judged_solvers, search
from .views import views_of
from .whitened_model import WhitenedModel


@torch.no_grad()
def calibrate(
    denoiser: Denoiser,
    gaussian: Gaussian,
    nfe: int,
    *,
    starts: Batch,
    reference_steps: int | None = None,
    rounds: int = 4,
) -> Calibrated:
    """The sampler of `nfe` evaluations fitted to `denoiser`, from states `starts` at the start of its schedule.

    `starts` are noise of the model's highest level, in the model's dtype; 256 are plenty in high dimension, 1,000 are
    useful in two. `gaussian` has the mean and covariance of the data. `reference_steps` is by default 160, and with a
    table of at most 1,000 trained times all of them. Each of the `rounds` of Gauss-Newton (0: the sequential fit alone)
    costs about 1.3 nfe^2 evaluations per start, the search 35 nfe, the plain solvers 36 nfe, the reference
    1.1 reference_steps. Deterministic; `evaluations` of the result is the cost. Memory: reference_steps states per
    start.

    Raises InputError for nfe < 2, fewer than 8 starts, starts that do not fit the Gaussian or are not finite, a
    reference shorter than 2 nfe steps, rounds < 0, and a denoiser that returns NaN or infinity.

    >>> import torch
    >>> from diffuscope import VE, ExactDenoiser, Gaussian
    >>> from diffuscope.samplers import calibrate
    >>> data = Gaussian.isotropic(torch.tensor([2.0]), 3.0)
    >>> starts = 80 * torch.randn(8, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    >>> sampler = calibrate(ExactDenoiser(data, VE()), data, 2, starts=starts, reference_steps=4, rounds=0)
    >>> sampler.error < 1e-6, sampler.nfe
    (True, 2)
    """
    if nfe < 2:
        raise InputError(f"nfe: expected at least 2 evaluations, got {nfe}")
    if len(starts) < 8 or tuple(starts.shape[1:]) != gaussian.event_shape:
        raise InputError(f"starts: expected (8 or more, *{gaussian.event_shape}), got {tuple(starts.shape)}")
    if not bool(torch.isfinite(starts).all()):
        raise InputError("starts: expected finite values, got NaN or infinity")
    if reference_steps is not None and reference_steps < 2 * nfe:
        raise InputError(f"reference_steps: expected at least 2 nfe = {2 * nfe}, got {reference_steps}")
    if rounds < 0:
        raise InputError(f"rounds: expected 0 or more, got {rounds}")
    model = WhitenedModel(denoiser, gaussian, starts)
    levels = reference_levels(model, reference_steps)
    reference = reference_of(model, starts, levels)
    check = reference_of(model, starts[: max(8, len(starts) // 4)], halved(levels))
    reference_error = model.distance(check.end, reference.end[: len(check.end)])
    views = views_of(model, gaussian, reference)
    best = polish(search(views, nfe), rounds)
    plain = judged_solvers(model, starts[1::2], views[0].validating, nfe)
    name = min(plain, key=lambda key: plain[key].error)
    shared = {
        "gaussian": best.view.gaussian,
        "end": model.end.lam,
        "plain_errors": {key: solver.error for key, solver in plain.items()},
        "reference_error": reference_error,
        "evaluations": model.evaluations,
    }
    if plain[name].error < best.error:
        return Calibrated(
            levels=tuple(at.lam for at in plain[name].levels),
            jumps=False,
            weights=torch.zeros(nfe, HISTORY, dtype=torch.float64),
            carry=0.0,
            shift=torch.zeros_like(gaussian.mean),
            plain=name,
            error=plain[name].error,
            **shared,
        )
    plan, start = best.plan, model.start.lam
    jumps = plan.levels[0].lam > start + SAME_LEVEL
    return Calibrated(
        levels=((start,) if jumps else ()) + tuple(at.lam for at in plan.levels),
        jumps=jumps,
        weights=plan.weights[:, :HISTORY].cpu(),
        carry=float(plan.weights[-1, HISTORY]),
        shift=best.view.model.basis.rows(plan.shift[None]).reshape(gaussian.event_shape).cpu(),
        plain=None,
        error=best.error,
        **shared,
    )


__all__ = ["calibrate"]
