r"""Guidance against a closed form: two Gaussians of equal covariance.

For data N(m_c, V) with the condition and N(m_u, V) without, guidance of scale w,

.. math::  D_w = D_u + w\,(D_c - D_u) ,

is the exact denoiser of :math:`N(m_u + w (m_c - m_u), V)` at every level, so that the guided flow is a closed form too.
w = 1 is the conditional denoiser, 0 the unconditional one. Other conventions are recognized and named: the scale of Ho
& Salimans 2022 (arXiv:2207.12598) is smaller by one.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from diffuscope.denoisers import Batch, BatchTime, CountingDenoiser, Denoiser, ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.findings import Finding
from diffuscope.samplers import DDIM
from diffuscope.schedules import VE, VP, RectifiedFlow, Schedule

from .asked import TargetError, blamed, require_result
from .behavior import largest_difference
from .convergence import judged, strong_order
from .listed import ListedCertificate
from .problems import OracleProblem
from .target import called, sampler_target

Guide = Callable[[Denoiser, Denoiser, float], Callable[..., Batch]]

SCALES = (0.0, 1.0, 3.0, 7.5)
RATIOS = tuple(10.0**k for k in range(-3, 2))  # noise to signal
EXACT = 1e-9
SCHEDULES: tuple[Schedule, ...] = (VE(), VP(), RectifiedFlow())

measured = partial(Finding, unit="data scale")


def gaussian(shift: float) -> Gaussian:
    """The data whose mean is `shift` of the way from the unconditional mean to the conditional one."""
    free, conditioned = (torch.tensor(mean, dtype=torch.float64) for mean in ([0.4, -1.0], [1.3, 0.5]))
    axes = torch.tensor([[0.8, -0.6], [0.6, 0.8]], dtype=torch.float64)
    return Gaussian(free + shift * (conditioned - free), axes, torch.tensor([1.4, 0.3], dtype=torch.float64))


def certify_guidance(guide: Guide, name: str | None = None) -> ListedCertificate:
    """The certificate of `guide(conditional, unconditional, scale)`, which returns a denoiser: callable(x_t, t).

    The two denoisers are exact, and have the same `schedule`. Raises InputError for what cannot be called.

    >>> from diffuscope.certify import certify_guidance
    >>> found = certify_guidance(lambda conditional, unconditional, scale: conditional)  # which ignores the scale
    >>> found.verdict, "guidance.scale_1" in [each.name for each in found.failures]
    ('fails', False)
    """
    if not callable(guide):
        raise InputError(f"target: expected callable(conditional, unconditional, scale), got a {type(guide).__name__}")
    shown = name or called(guide)
    findings = []
    try:
        findings = [_at_scale(guide, scale) for scale in SCALES]
        findings += [_cost(guide), _rows(guide), _single(guide), _flow(guide)]
    except TargetError as fault:
        findings.append(
            measured(name="guidance.runs", title="A plain call", value=float("nan"), verdict=str(fault), tone="alarm")
        )
    return ListedCertificate(
        shown,
        "guidance",
        tuple(findings),
        f"A guided denoiser that is off by more than {EXACT:.0e} at any of {len(RATIOS)} levels would have failed.",
        "Two Gaussians of equal covariance: the guided denoiser is that of a Gaussian with the extrapolated mean.",
    )


def _guided(guide: Guide, scale: float, schedule: Schedule) -> Callable[[Batch, BatchTime], Batch]:
    """The guided denoiser, whose answers are checked."""
    exact = [ExactDenoiser(gaussian(shift), schedule) for shift in (1.0, 0.0)]
    made: object = blamed(guide, *exact, scale)
    if not callable(made):
        raise TargetError(f"it returns a {type(made).__name__}; expected a denoiser, callable(x_t, t)")
    return lambda x_t, t: require_result(blamed(made, x_t, t), tuple(x_t.shape))


def _states(schedule: Schedule, ratio: float) -> tuple[Batch, float]:
    t = float(schedule.time_of_noise_to_signal(ratio))
    y = gaussian(0.5).sample(6, generator=torch.Generator().manual_seed(1)).double()
    noise = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return schedule.alpha(t) * y + schedule.sigma(t) * noise, t


def _at_scale(guide: Guide, scale: float) -> Finding:
    """The guided denoiser against the closed form, at every level of three schedules."""
    worst, where = 0.0, ""
    for schedule in SCHEDULES:
        guided, exact = _guided(guide, scale, schedule), ExactDenoiser(gaussian(scale), schedule)
        for ratio in RATIOS:
            x_t, t = _states(schedule, ratio)
            error = largest_difference(guided(x_t, t), exact(x_t, t))
            if not error <= worst:
                worst, where = error, f" under {type(schedule).__name__} at sigma/alpha = {ratio:g}"
    good = worst <= EXACT
    verdict = f"Right to {max(worst, 1e-15):.0e} at every level." if good else f"{worst:.2g} off{where}."
    return measured(
        name=f"guidance.scale_{scale:g}",
        title=f"Guidance of scale {scale:g}",
        value=worst,
        verdict=verdict if good else verdict + _convention(guide, scale),
        tone="good" if good else "alarm",
        null=f"At most {EXACT:.0e} of the exact denoiser of the mean m_u + w (m_c - m_u).",
    )


CONVENTIONS: dict[str, Callable[[float], float]] = {
    "its scale is smaller by one, and 0 is the conditional denoiser (Ho & Salimans 2022)": lambda w: 1 + w,
    "its scale is larger by one": lambda w: w - 1,
    "the conditional and the unconditional denoiser are exchanged": lambda w: 1 - w,
    "it extrapolates the wrong way": lambda w: -w,
    "the scale has no effect: it is the conditional denoiser": lambda w: 1.0,  # noqa: ARG005
    "the scale has no effect: it is the unconditional denoiser": lambda w: 0.0,  # noqa: ARG005
}


def _convention(guide: Guide, scale: float) -> str:
    """The reading of the scale under which it would be right."""
    x_t, t = _states(VP(), 0.5)
    found = _guided(guide, scale, VP())(x_t, t)
    for reading, effective in CONVENTIONS.items():
        exact = ExactDenoiser(gaussian(effective(scale)), VP())(x_t, t)
        if largest_difference(found, exact) <= EXACT:
            return f" Likely cause: {reading}."
    return ""


def _cost(guide: Guide) -> Finding:
    """The number of evaluations of each denoiser in one call."""
    conditional, free = (CountingDenoiser(ExactDenoiser(gaussian(shift), VP())) for shift in (1.0, 0.0))
    x_t, t = _states(VP(), 0.5)
    blamed(blamed(guide, conditional, free, 3.0), x_t, t)
    counts = conditional.calls, free.calls
    good = counts == (1, 1)
    verdict = "One evaluation of each denoiser per call."
    if not good:
        verdict = f"{counts[0]} evaluations of the conditional and {counts[1]} of the unconditional denoiser per call."
    tone = "good" if good else "attention"
    return measured(name="guidance.cost", title="Evaluations", value=float(sum(counts)), verdict=verdict, tone=tone)


def _rows(guide: Guide) -> Finding:
    """A row's result does not depend on the others."""
    guided, (x_t, t) = _guided(guide, 3.0, VP()), _states(VP(), 0.5)
    alone = torch.cat([guided(row[None], t) for row in x_t])
    error = largest_difference(guided(x_t, t), alone)
    good = error <= EXACT
    verdict = "Rows are guided alike in a batch and alone."
    if not good:
        verdict = f"A row is guided {error:.2g} elsewhere when others join it."
    tone = "good" if good else "alarm"
    return measured(name="guidance.batch", title="Independence of rows", value=error, verdict=verdict, tone=tone)


def _single(guide: Guide) -> Finding:
    """float32 states give float32 answers, right to rounding."""
    guided, (x_t, t) = _guided(guide, 3.0, VP()), _states(VP(), 0.5)
    answer = guided(x_t.float(), t)
    error = largest_difference(answer.double(), guided(x_t, t))
    good = answer.dtype == torch.float32 and error <= 1e-4
    verdict = f"float32 states give {str(answer.dtype)[6:]} answers, {error:.1g} off."
    tone = "good" if good else "alarm"
    return measured(name="guidance.dtype", title="float32 and float64", value=error, verdict=verdict, tone=tone)


class _Called:
    """A guided function as a denoiser."""

    def __init__(self, guided: Callable[[Batch, BatchTime], Batch], distribution: Gaussian, schedule: Schedule) -> None:
        self.guided, self.distribution, self.schedule = guided, distribution, schedule

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        return self.guided(x_t, t)


def _flow(guide: Guide) -> Finding:
    """DDIM with the guided denoiser converges to the exact flow of the extrapolated Gaussian."""
    problem = OracleProblem("guided", "the guided Gaussian", gaussian(3.0))
    called = _Called(_guided(guide, 3.0, VP()), gaussian(3.0), VP())
    ddim = sampler_target(DDIM())
    run = ddim.run
    target = replace(ddim, run=lambda denoiser, *rest: run(called, *rest))  # noqa: ARG005
    found = judged(strong_order(target, problem, VP()), target, 0.15)
    title = "Guided samples"
    verdict = f"DDIM with guidance of scale 3: {found.verdict[0].lower()}{found.verdict[1:]}"
    return measured(name="guidance.samples", title=title, value=found.value, verdict=verdict, tone=found.tone)
