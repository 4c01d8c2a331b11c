"""How few steps: the upper end of an interval decides, and the recommendation can be repeated."""

import dataclasses

import numpy as np
import pytest
import torch

from audit_subjects import QUICK, digits, exact_subject
from diffuscope.audit import Session
from diffuscope.audit.generation import starting_noise
from diffuscope.audit.questions.steps import (
    BUDGETS,
    ENOUGH,
    QUESTION,
    REFERENCE_STEPS,
    SAMPLERS,
    Steps,
    findings,
    recommended,
)
from diffuscope.exact import Gaussian
from diffuscope.samplers import finish, model_times


def steps(plain, teleported=None):
    return Steps(
        scale=1.0,
        samplers=tuple(SAMPLERS),
        budgets=BUDGETS,
        plain=plain,
        teleported=plain if teleported is None else teleported,
        reference_error=0.0,
        candidates=np.array([100.0, 10.0, 0.1]),
        lowest=0.1,
        own_steps=np.array([], dtype=np.int64),
        estimated=np.zeros((len(plain), 3)),
        suggested=100.0,
        skip=100.0,
        measured=np.zeros(len(plain)),
        tolerance=0.05,
    )


def test_an_error_within_the_bar_whose_interval_is_not_is_not_enough():
    """Half of 40 trajectories at 0, half at 0.13: root mean square 0.092, upper end above 0.1."""
    table = np.ones((40, len(SAMPLERS), len(BUDGETS)))
    table[:, 1, 2] = np.where(np.arange(40) % 2, 0.13, 0.0)
    assert recommended(steps(table), np.random.default_rng(0)) is None
    first = findings(steps(table), np.random.default_rng(0))[0]
    assert first.tone == "attention"
    assert np.isnan(first.value)
    table[:, 1, 4] = 0.09
    best = recommended(steps(table), np.random.default_rng(0))
    assert best is not None
    assert (best.sampler, best.nfe, best.error, best.upper) == (
        "DDIM", 20, pytest.approx(0.09), pytest.approx(0.09),
    )  # fmt: skip


def test_the_recommended_grid_repeats_the_error_from_python():
    """The stated call of model_times, with the same starts: the same root mean square distance."""
    x = digits(3)
    subject = exact_subject(Gaussian.fit([x[900:]]), x[:200], x[200:500])
    answer = QUESTION.ask(Session(subject, dataclasses.replace(QUICK, levels=6, skip_tolerance=1e-9)))
    assert answer is not None
    best = answer.facts["steps_recommended"]
    assert isinstance(best, dict)
    assert not best["teleported"]
    denoiser, gaussian = subject.denoiser, Gaussian.fit([subject.train])
    fine = model_times(denoiser, REFERENCE_STEPS, high=best["high"], low=best["low"])
    generator = torch.Generator().manual_seed(1)
    start = starting_noise(gaussian, denoiser.schedule, float(fine[0]), 400, generator)
    times = model_times(denoiser, best["steps"], high=best["high"], low=best["low"])
    ends = [finish(denoiser, SAMPLERS[name], start, grid) for name, grid in (("Heun", fine), (best["sampler"], times))]
    errors = (ends[0] - ends[1]).flatten(1).double().square().mean(1) / subject.scale**2
    # other starts: 8 of the audit and these 400
    tables = answer.result
    audited = tables.plain[:, tables.samplers.index(best["sampler"]), tables.budgets.index(best["nfe"])] ** 2
    apart = 4 * float(np.hypot(audited.std() / len(audited) ** 0.5, float(errors.std()) / len(errors) ** 0.5))
    assert float(errors.mean()) == pytest.approx(audited.mean(), abs=apart)
    assert best["upper"] <= ENOUGH
    finding = answer.findings[0]
    assert f"model_times(denoiser, {best['steps']}, high={best['high']:.6g}, low={best['low']:.6g})" in finding.verdict
