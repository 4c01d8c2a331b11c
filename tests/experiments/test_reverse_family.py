"""The reverse family: its claims hold, and they fail where the computation is spoiled."""

import pytest
from answering import answered, failures

from diffuscope.denoisers import score_to_denoised
from diffuscope.experiments import reverse_family
from diffuscope.experiments.reverse_family import EXPERIMENT
from diffuscope.samplers import StrongOrder15
from diffuscope.times import log_snr_times

FEWER = 20_000  # particles; the claim states its standard error


@pytest.fixture
def _quick(monkeypatch):
    """Half the steps, trajectories that end earlier, fewer particles: what is claimed allows for it."""
    monkeypatch.setattr(reverse_family, "PARTICLES", FEWER)
    monkeypatch.setattr(reverse_family, "CLEAN", 0.05)
    monkeypatch.setattr(reverse_family, "log_snr_times", lambda *ends_and_steps: log_snr_times(*ends_and_steps)[::2])


@pytest.mark.slow
def test_every_claim_holds(monkeypatch):
    monkeypatch.setattr(reverse_family, "PARTICLES", 100_000)
    outcome = EXPERIMENT.run(seed=0)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("part", ["there-and-back", "forgetting", "hybrid"])
def test_the_claims_of_the_quick_parts_hold(part):
    assert failures(EXPERIMENT, part, seed=0) == set()


def test_a_short_part_of_every_trajectory_keeps_the_ratio_of_the_densities(monkeypatch):
    monkeypatch.setattr(reverse_family, "CLEAN", 0.1)
    monkeypatch.setattr(reverse_family, "HORIZON", 0.2)
    assert failures(EXPERIMENT, "characteristics") == set()
    exact = reverse_family.log_wrong
    monkeypatch.setattr(reverse_family, "log_p", lambda t, x: exact(x) * (1 + t))
    assert failures(EXPERIMENT, "characteristics") == {"constant"}


def test_the_entropies_that_the_source_gives_are_claimed():
    names = {claim.name for claim in answered(EXPERIMENT, "forgetting").claims}
    assert names == {"left-0", "left-0-5", "left-1", "left-2"}


@pytest.mark.usefixtures("_quick")
def test_the_clean_score_at_every_time_does_not_play_the_forward_process_backward(monkeypatch):
    class Clean:
        schedule = reverse_family.OU

        def __call__(self, x_t, t):
            return score_to_denoised(x_t, reverse_family.DATA.score(x_t, 1.0, 0.1), self.schedule, t)

    monkeypatch.setattr(reverse_family, "DENOISER", Clean())
    assert failures(EXPERIMENT, "there-and-back") == {"played-backward"}


@pytest.mark.usefixtures("_quick")
def test_particles_of_another_eta_than_the_equation_are_caught(monkeypatch):
    monkeypatch.setattr(reverse_family, "StrongOrder15", lambda: StrongOrder15(0.3))
    assert failures(EXPERIMENT, "particles") == {"wrong-start"}
