"""The experiments on densities: every claim holds, and the claims fail where the computation is spoiled."""

import importlib

import pytest

from diffuscope.denoisers import score_to_denoised
from diffuscope.densities import Density, heat_flow
from diffuscope.experiments import find
from diffuscope.experiments.mixture_forward.wrong import DifferencedTwice

FEWER = 100_000  # particles; the claims state their standard errors
PATCHED = {
    "heat-1d": "diffuscope.experiments.heat_1d.forward",
    "mixture-forward": "diffuscope.experiments.mixture_forward.jumps",
    "reverse-family": "diffuscope.experiments.reverse_family.starts",
}


def module(name):
    return importlib.import_module(f"diffuscope.experiments.{name}")


def failures(answer):
    return {claim.name for claim in answer.claims if not claim.holds}


@pytest.mark.parametrize(
    "name", ["heat-1d", "mixture-forward", pytest.param("reverse-family", marks=pytest.mark.slow), "entropy"]
)
def test_every_claim_holds(name, monkeypatch):
    if name in PATCHED:
        monkeypatch.setattr(importlib.import_module(PATCHED[name]), "PARTICLES", FEWER)
    outcome = find(name).run(seed=0)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


@pytest.mark.parametrize("part", ["forgetting", "hybrid", "there-and-back", "characteristics"])
def test_the_claims_of_the_quick_parts_of_the_reverse_family_hold(part, generator):
    (found,) = (known for known in find("reverse-family").parts if known.name == part)
    assert failures(found.answer(generator)) == set()


def test_heat_with_half_the_diffusivity_is_caught(monkeypatch, generator):
    forward = module("heat_1d.forward")
    monkeypatch.setattr(forward, "heat_flow", lambda density, t: heat_flow(density, t / 2))
    assert {"resolved", "decay"} <= failures(forward.forward(generator))


def test_particles_with_too_little_noise_are_caught(monkeypatch, generator):
    forward = module("heat_1d.forward")
    monkeypatch.setattr(forward, "PARTICLES", FEWER)
    sound = forward._cdf
    monkeypatch.setattr(forward, "_cdf", lambda x, variance: sound(x, 1.2 * variance))
    assert failures(forward.particles(generator)) == {"million"}


def test_the_twice_differenced_term_is_caught(monkeypatch, generator):
    volumes = module("mixture_forward.finite_volumes")
    sound = volumes.relaxation

    def faulty(grid):
        equation = sound(grid)
        return DifferencedTwice(grid, equation.face_drift, equation.face_diffusion, steady=True)

    monkeypatch.setattr(volumes, "relaxation", faulty)
    assert {"space", "error", "mass", "gibbs"} <= failures(volumes.finite_volumes(generator))


def test_the_clean_score_at_every_time_does_not_play_the_forward_flow_backward(monkeypatch, generator):
    generated, setting = module("reverse_family.generated"), module("reverse_family.setting")

    class Clean:
        schedule = setting.OU

        def __call__(self, x_t, t):
            return score_to_denoised(x_t, setting.DATA.score(x_t, 1.0, 0.1), self.schedule, t)

    monkeypatch.setattr(generated, "DENOISER", Clean())
    assert failures(generated.there_and_back(generator)) == {"played-backward"}


def test_particles_of_another_dial_than_the_equation_are_caught(monkeypatch, generator):
    starts = module("reverse_family.starts")
    monkeypatch.setattr(starts, "PARTICLES", FEWER)
    flow = type("Flow", (starts.StrongOrder15,), {})(eta=0.3)
    monkeypatch.setattr(starts, "StrongOrder15", lambda: flow)
    assert "wrong-start" in failures(starts.particles(generator))


def test_half_a_fisher_information_is_caught(monkeypatch, generator):
    entropy = module("entropy")
    half = lambda rate: lambda *given: rate(*given) / 2  # noqa: E731
    monkeypatch.setattr(entropy, "fisher_information", half(entropy.fisher_information))
    monkeypatch.setattr(entropy, "relative_fisher", half(entropy.relative_fisher))
    assert "de-bruijn" in failures(entropy.de_bruijn(generator))
    assert failures(entropy.wrong_score(generator)) == {"girsanov"}


def test_a_score_off_by_its_scale_breaks_the_moment_identities(monkeypatch, generator):
    entropy = module("entropy")
    sound = entropy.PAIR
    spoiled = type(sound)(sound.weights, sound.means, sound.eigenvectors, sound.eigenvalues, sound.tail_variances)
    object.__setattr__(spoiled, "score", lambda x, alpha, sigma: 1.001 * sound.score(x, alpha, sigma))
    monkeypatch.setattr(entropy, "PAIR", spoiled)
    assert {"position", "square"} <= failures(entropy.moments(generator))


def test_undoing_heat_with_the_wrong_score_is_caught(monkeypatch, generator):
    backward = module("heat_1d.backward")
    sound = backward.with_score

    def shifted(blur, rough):
        end = sound(blur, rough)
        return Density(end.grid, end.values.roll(1))

    monkeypatch.setattr(backward, "with_score", shifted)
    assert failures(backward.backward(generator)) == {"with-score"}
