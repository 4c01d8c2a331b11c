"""The lower bound of epsilon as a finding, and in the verdict on membership."""

from dataclasses import replace

from diffuscope.findings import Finding

from .epsilon import EpsilonBound, largest_bound

EPSILON_METHOD = (
    "Epsilon: canaries are scored by the model's denoising loss at noise levels chosen from the canaries alone, "
    "relative to two Gaussians fitted to all canaries, so that no score knows a coin. The highest scores are guessed "
    "in, the lowest out, for a fixed grid of counts; the bound follows from the number of right guesses."
)


def epsilon_finding(bound: EpsilonBound) -> Finding:
    """The bound with its guarantee."""
    top, bottom = bound.guessed
    guarantee = (
        f"With probability {bound.confidence:.0%} over the coins, its training is not (ε, {bound.delta:g})-"
        f"differentially private for any ε below {bound.epsilon:.2f}"
    )
    text = (
        f"{guarantee}: {bound.correct} of {top + bottom} guesses ({top} in, {bottom} out, of {bound.canaries} "
        "canaries) were right."
    )
    if bound.epsilon == 0:
        text = (
            f"The guesses about {bound.canaries} canaries are no better than chance can explain, so that no ε above 0 "
            "is shown. That does not show privacy: other canaries or stronger attacks may do better."
        )
    return Finding(
        name="membership.epsilon",
        title="Lower bound of epsilon, from canaries",
        value=bound.epsilon,
        unit="",
        verdict=text,
        tone="attention" if bound.epsilon > 0 else "neutral",
        interval=(bound.epsilon, float("inf")),
        confidence=bound.confidence,
        null="0: whether a canary was in the training set cannot be told from the model.",
        p_value=bound.p_value,
        power=f"Right guesses alone would have shown ε above {largest_bound(bound.canaries, bound.delta):.2f}; more "
        "canaries can show more.",
    )


def with_epsilon(verdict: Finding, finding: Finding) -> Finding:
    """The verdict on membership, to which a bound above 0 is added."""
    if finding.value == 0:
        return verdict
    return replace(verdict, tone="attention", verdict=f"{finding.verdict} {verdict.verdict}")
