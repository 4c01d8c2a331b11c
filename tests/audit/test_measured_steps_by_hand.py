"""What few steps of a linear model cost: every end is its start times a product of factors, taken by a loop."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from diffuscope.audit import Session, Settings, Subject
from diffuscope.audit.generation import starting_noise
from diffuscope.audit.step_measures import BUDGETS, REFERENCE_STEPS, SAMPLERS, measure_steps
from diffuscope.schedules import VE

TOP, LOW, TURN = 50.0, 0.03, 2.0


class Linear:
    """The denoiser of N(0, 1) above the noise level TURN, and of N(0, 1.3) below."""

    schedule = VE(0.01, TOP)

    def __call__(self, x_t, t):
        return x_t * shrinking(float(torch.as_tensor(t).flatten()[0]))


def shrinking(t):
    variance = 1.0 if t > TURN else 1.3
    return variance / (variance + t**2)


def grid(steps, top=TOP):
    """Equal steps in the seventh root."""
    return np.linspace(top ** (1 / 7), LOW ** (1 / 7), steps + 1) ** 7


def rate(t):
    """Of dx/dt = (x - D) / t, over x."""
    return (1 - shrinking(t)) / t


def end(method, times):
    """What a state at times[0] is multiplied by, with a denoiser call at the last time."""
    factor = 1.0
    for t, s in pairwise(times):
        euler = 1 + (s - t) * rate(t)
        if method == "Euler":
            factor *= euler
        elif method == "DDIM":
            factor *= shrinking(t) + s / t * (1 - shrinking(t))
        else:
            factor *= 1 + (s - t) / 2 * (rate(t) + euler * rate(s))
    return factor * shrinking(times[-1])


def jump(level):
    """The closed-form flow of N(0, 1) from the top."""
    return math.sqrt((1 + level**2) / (1 + TOP**2))


def rms(x):
    return float(np.sqrt((x**2).mean()))


# 0.0015 refuses the suggested level and not the one above it: Heun's method errs by 0.0016 and by 0.0013 there
@pytest.fixture(scope="module", params=[0.0015, 0.2, 1e-6])
def measured(request):
    train = torch.tensor([[-1.0], [1.0]]).repeat(10, 1)
    settings = Settings(levels=8, step_seeds=8, components=1, skip_tolerance=request.param)
    session = Session(Subject(Linear(), train, train), settings)
    start = starting_noise(session.references.gaussian, Linear.schedule, TOP, 8, session.torch_stream("steps"))
    return session, measure_steps(session), start[:, 0].abs().double().numpy()


def test_the_reference_is_heuns_method_and_its_error_a_third_of_that_of_half_the_steps(measured):
    _, found, start = measured
    fine, coarse = (end("Heun", grid(steps)) for steps in (REFERENCE_STEPS, REFERENCE_STEPS // 2))
    assert found["reference_error"] == pytest.approx(abs(coarse - fine) * rms(start) / 3, rel=1e-2)


def test_few_steps_end_at_the_products_of_their_factors(measured):
    _, found, start = measured
    fine = end("Heun", grid(REFERENCE_STEPS))
    assert found["plain"].shape == found["teleported"].shape == (8, len(SAMPLERS), len(BUDGETS))
    skip = float(found["skip"])
    for row, name in enumerate(list(SAMPLERS)[:3]):
        for column, budget in enumerate(BUDGETS):
            steps = (budget - 1) // (2 if name == "Heun" else 1)
            plain = abs(end(name, grid(steps)) - fine) * start
            assert found["plain"][:, row, column] == pytest.approx(plain, rel=1e-3, abs=2e-6)
            top = skip if skip < TOP else TOP
            factor = jump(top) if skip < TOP else 1.0
            teleported = abs(factor * end(name, grid(steps, top)) - fine) * start
            assert found["teleported"][:, row, column] == pytest.approx(teleported, rel=1e-3, abs=2e-6)


def test_the_jump_ends_at_the_lowest_level_that_is_within_the_tolerance_by_both_numbers(measured):
    session, found, start = measured
    fine, ratios = end("Heun", grid(REFERENCE_STEPS)), session.levels.ratios.tolist()
    suggested = ratios.index(pytest.approx(float(found["suggested"])))
    missed = {
        ratio: abs(jump(ratio) * end("Heun", grid(REFERENCE_STEPS // 2, ratio)) - fine) * start
        for ratio in ratios[1 : suggested + 1]
    }
    tolerance = session.settings.skip_tolerance
    enough = [ratio for ratio in reversed(list(missed)) if rms(missed[ratio]) <= tolerance]
    assert found["skip"] == pytest.approx(enough[0] if enough else TOP)
    assert found["measured"] == pytest.approx(missed[enough[0]] if enough else np.zeros(8), rel=1e-2, abs=2e-6)
    estimates = np.sqrt((found["estimated"] ** 2).mean(0))
    assert (estimates[: suggested + 1] <= tolerance).all()
    if suggested + 1 < len(ratios):
        assert estimates[suggested + 1] > tolerance
    assert found["candidates"].tolist() == ratios
    assert (found["lowest"], len(found["own_steps"])) == (pytest.approx(LOW), 0)
