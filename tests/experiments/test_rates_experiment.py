"""The experiment on transition rates: its claims hold, and they fail where a prefactor is spoiled."""

import pytest
from answering import failures

from diffuscope.experiments import rates
from diffuscope.experiments.rates import EXPERIMENT, without_noise
from diffuscope.theory.paths import Rate


def test_the_limit_of_a_parabola_is_exact_and_its_uncertainty_is_that_of_a_line() -> None:
    noises = (1.0, 2.0, 3.0, 4.0)
    limit, error = without_noise(noises, [1 + 2 * D + 3 * D**2 for D in noises], [0.0] * 4)
    assert limit == pytest.approx(1.0, abs=1e-12)
    assert error == pytest.approx(15.0, abs=1e-12)  # 3 D^2 is fitted by 15 D - 15 on 1 .. 4
    straight = [1 + 2 * D for D in noises]
    assert without_noise(noises, straight, [0.0] * 4)[1] == pytest.approx(0.0, abs=1e-12)
    weights = [without_noise(noises, straight, [float(k == i) for k in range(4)])[1] for i in range(4)]
    assert weights == pytest.approx([2.25, 0.75, 1.25, 0.75], abs=1e-12)  # of a parabola at 0, absolute


def test_a_prefactor_two_percent_too_large_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = rates.transition_rate
    assert failures(EXPERIMENT, "double-well") == set()

    def larger(*given: object) -> Rate:
        found = exact(*given)  # pyright: ignore
        return Rate(1.02 * found.prefactor, found.barrier)

    monkeypatch.setattr(rates, "transition_rate", larger)
    assert failures(EXPERIMENT, "double-well") == {"double-well-close", "double-well-limit"}


@pytest.mark.slow
def test_every_claim_holds() -> None:
    outcome = EXPERIMENT.run(seed=0)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []
