"""Entropy along a diffusion: its claims hold, and they fail where the computation is spoiled."""

from answering import failures

from diffuscope.experiments import entropy
from diffuscope.experiments.entropy import EXPERIMENT


def test_every_claim_holds():
    outcome = EXPERIMENT.run(seed=0)
    assert [(claim.name, claim.measured, claim.requirement) for claim in outcome.failures] == []


def test_half_a_fisher_information_is_caught(monkeypatch):
    for name in ("fisher_information", "relative_fisher"):
        exact = getattr(entropy, name)
        monkeypatch.setattr(entropy, name, lambda *given, exact=exact: exact(*given) / 2)
    assert "de-bruijn" in failures(EXPERIMENT, "de-bruijn")
    assert failures(EXPERIMENT, "wrong-score") == {"girsanov"}


def test_a_score_off_by_its_scale_breaks_the_moment_identities(monkeypatch):
    exact = entropy.PAIR
    scaled = type(exact)(exact.weights, exact.means, exact.eigenvectors, exact.eigenvalues, exact.tail_variances)
    object.__setattr__(scaled, "score", lambda x, alpha, sigma: 1.001 * exact.score(x, alpha, sigma))
    monkeypatch.setattr(entropy, "PAIR", scaled)
    assert failures(EXPERIMENT, "moments") == {"position", "square"}
