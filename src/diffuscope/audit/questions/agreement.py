r"""Do two models of disjoint training examples agree? Memorizers copy different examples; models that generalize agree.

`agreement` has the cosines, the position w between two memorizers (0) and equal functions (1), the position u between
fresh examples (0) and copies (1), and the split-to-split covariance of the score over the covariance of the target.
*Memorizes*: the whole interval of u is above 1/2 and that of w below. *Generalizes*: the reverse, and this is praise
only where the second model's training data are known and share no example with the first one's. Whatever would make
agreement mean something else is tested first (`agreement_doubts`). Without a second model the question is not asked.
"""

import math
from functools import partial

import numpy as np

from diffuscope.findings import Finding, Tone

from ..agreement import Pair, measure_samples, measure_scores, network_calls
from ..agreement_charts import agreement_chart, covariance_chart, gallery
from ..agreement_doubts import Compared, compared, undeserved
from ..question import Answer, Question
from ..session import Session
from .memorized import pairs_of_points, withheld

TITLE = "Do two models of disjoint examples agree?"
HALF = 0.5  # of the way between the two references
MISMATCH = 1.05  # of a noise level: beyond it the models are not asked the same


def findings(result: Compared, *, copying: bool = False, leaning: bool = False) -> list[Finding]:
    """The verdict, nearness to training examples, the covariance, and whether the second one knows these examples."""
    return [_verdict(result, copying=copying, leaning=leaning), _nearest(result), _covariance(result), _known(result)]


def _verdict(result: Compared, *, copying: bool, leaning: bool) -> Finding:
    agreement, (w, w_low, w_high), (_, u_low, u_high) = result.agreement, result.agree, result.copying
    a, b, h, m = (
        float(x.mean()) for x in (agreement.agree, agreement.nearest, agreement.heldout_nearest, agreement.memorizers)
    )
    numbers = (
        f"from the same starts their samples have a mean cosine of {a:.2f}, where two exact memorizers have {m:.2f}; "
        f"the first one's samples are at {b:.2f} to their nearest training examples, and held-out examples at {h:.2f}"
    )
    tone: Tone = "unknown"
    alike, unlike, near, away = w_low > HALF, w_high < HALF, u_low > HALF, u_high < HALF
    if result.doubt:
        text = f"Cannot tell: {result.doubt}."
    elif alike and away and (reason := undeserved(result)):
        text = f"Cannot tell: they agree, but {reason}: {numbers}."
    elif alike and away:
        tone, text = "neutral", f"They agree, and not by copying: {numbers}."
        if copying:
            tone, text = "attention", f"They agree, but samples of the first model are copies: {numbers}."
        elif leaning:
            text += " The first model is not free of its training data (see the question of memorization)."
        elif result.repeated is None:
            text += (
                " This is generalization if the second model was trained on other examples (--second-data shows it)."
            )
        else:
            but = f" but for {result.repeated}" if result.repeated else ""
            tone, text = "good", f"Both generalize, trained on disjoint examples{but}: {numbers}."
    elif unlike and near:
        tone, text = "attention", f"The first model memorizes: {numbers}."
    elif alike and near:
        text = f"Cannot tell: they agree, and near training examples of the first, as if both knew these: {numbers}."
    elif unlike and away:
        tone = "neutral"
        text = f"They disagree without copying; each depends on its own examples, or these differ in kind: {numbers}."
    else:
        text = f"Cannot tell from {len(agreement.agree)} starts: {numbers}."
    error = float((agreement.agree - agreement.memorizers).std() / math.sqrt(len(agreement.agree)) / max(1 - m, 1e-12))
    return Finding(
        name="agreement.models",
        title=TITLE,
        value=w,
        unit="",
        verdict=text,
        tone=tone,
        interval=None if np.isnan(w_low + w_high) else (w_low, w_high),
        null="0: two exact memorizers of the two training sets"
        + (f" ({result.memorized:,} held-out examples in place of the second)" if result.repeated is None else "")
        + f"; 1: the same function. Samples of different starts have a mean cosine of {agreement.apart:.2f}, and the "
        "p-value permutes starts.",
        p_value=result.p_value,
        power=f"{len(agreement.agree)} starts; the standard error of the position is {error:.2f}. Agreement does not "
        "say that the samples are good.",
    )


def _nearest(result: Compared) -> Finding:
    u, low, high = result.copying
    agreement = result.agreement
    means = [float(x.mean()) for x in (agreement.nearest, agreement.second_nearest, agreement.heldout_nearest)]
    return Finding(
        name="agreement.nearest",
        title="Nearness of samples to training examples of the first model, between fresh examples (0) and copies (1)",
        value=u,
        unit="",
        verdict="The mean cosine to the nearest training example of the first model is "
        f"{means[0]:.3f} for its samples, {means[1]:.3f} for the second one's, {means[2]:.3f} for held-out ones.",
        tone="neutral",
        interval=None if np.isnan(low + high) else (low, high),
        null=f"0: {len(agreement.heldout_nearest)} held-out examples.",
        power=f"{len(agreement.nearest)} samples. Smooth samples are near to everything.",
    )


def _covariance(result: Compared) -> Finding:
    value, low, high = result.averaged
    if not value > 0:
        text = "The two models' scores are the same."
    elif value < 1:
        text = f"Between the two models the score varies by {value:.2g} of the target's variance, as if each averaged "
        text += f"{1 / value:.3g} independent targets at every point."
    else:
        text = (
            f"Between the two models the score varies by {value:.2g} times the target's variance: they average none of "
        )
        text += "its noise."
    return Finding(
        name="agreement.covariance",
        title="Split-to-split covariance of the score over that of its target",
        value=value,
        unit="",
        verdict=text,
        tone="neutral",
        interval=(low, high),
        null="1 over the number of independent targets that a model averages; above 1 where memorizers are sure of "
        "different examples.",
        power="One pair of models: the interval is over trajectories of the first, not over trainings.",
    )


def _known(result: Compared) -> Finding:
    gap = result.gap
    data = "its training data are not known" if result.repeated is None else f"{result.repeated:,} examples are shared"
    known, relative = result.heldout_known, result.relative_loss[0]
    also = f" {known:,} of the held-out examples are its training data." if known else ""
    return Finding(
        name="agreement.other_data",
        title="The second model's denoising error: the first one's training examples versus held-out ones",
        value=100 * gap.mean_share,
        unit="%",
        verdict=f"The second model's loss is {gap.mean_share:.1%} lower on the first one's training examples than on "
        f"held-out ones; {data}.{also} Its loss on held-out examples is {relative:.3g}x the first model's.",
        tone="neutral",
        interval=(100 * gap.mean_interval[0], 100 * gap.mean_interval[1]),
        null=f"0%: it has seen neither. {gap.pairs} pairs, signs permuted at all noise levels at once.",
        p_value=gap.p_value,
        power="None: that it was trained on the same examples would not be found."
        if np.isinf(gap.detectable)
        else f"That it memorized {gap.detectable:.1%} of the first one's training examples would have been found with "
        "probability 0.95.",
    )


def _unknown(reason: str) -> Answer:
    finding = Finding(
        name="agreement.models",
        title=TITLE,
        value=float("nan"),
        unit="",
        verdict=f"Cannot tell: {reason}.",
        tone="unknown",
        power="None, for this reason.",
    )
    return Answer(findings=[finding])


def _not_shared(session: Session, pair: Pair) -> str:
    """Why the two models cannot be asked the same, if they cannot."""
    matter = session.measures.matter
    if not matter.any():
        return "the first model covers none of the noise levels that decide samples"
    if not pair.kept[matter].all():
        own, scale = pair.second.denoiser.schedule, pair.second.scale
        low, high = (float(own.noise_to_signal(t)) / scale for t in (own.t_min, own.t_max))
        ratios = session.levels.ratios.numpy()[matter]
        return (
            f"the second model covers σ/α = {low:.3g} to {high:.3g}, and samples are decided between {ratios[-1]:.3g} "
            f"and {ratios[0]:.3g}"
        )
    if pair.mismatch > MISMATCH:
        return f"noise levels of the two models differ by up to {pair.mismatch - 1:.0%}"
    return ""


def _ask(session: Session) -> Answer | None:
    if session.second is None:
        return None
    pair = Pair.of(session, session.second)
    if reason := _not_shared(session, pair):
        return _unknown(reason)
    key = pair.digest(session)
    samples = session.stage(f"agreement-samples-{key}", "sampling twice", partial(measure_samples, session, pair))
    scores = session.shared_stage(f"agreement-scores-{key}", "comparing scores", partial(measure_scores, session, pair))
    pairs = pairs_of_points(session, session.numpy_stream("agreement pairs"))
    result = compared(session, pair, samples, scores, pairs)
    found = findings(result, copying=session.copies_training, leaning=session.leans_to_training)
    calls = network_calls(session, pair)
    starts = len(result.agreement.agree)
    method = (
        f"Two models: {starts} samples of each from the same starts, by the audit's sampler, and as many of two exact "
        f"memorizers; {calls:,} network evaluations. Cosines are taken after removing the mean of the training data. "
        f"The second model is {session.second.name}; it is read under the schedule and in the range of the first."
    )
    return Answer(
        findings=[withheld(found[0], session.heldout_doubted), *found[1:]],
        blocks=[
            agreement_chart(result.agreement, session.numpy_stream("agreement chart")),
            *gallery(session, samples),
            covariance_chart(result.agreement, session.numpy_stream("agreement chart of covariance")),
        ],
        facts={"agreement": _facts(result, calls)},
        method=method,
        result=result,
    )


def _facts(result: Compared, calls: int) -> dict[str, object]:
    agreement = result.agreement
    return {
        "second_training_examples_shared": result.repeated,
        "second_training_share_nearly_shared": result.nearly_repeated,
        "heldout_examples_of_second": result.heldout_known,
        "mean_cosines": {
            "two_models": float(agreement.agree.mean()),
            "two_memorizers": float(agreement.memorizers.mean()),
            "different_starts": agreement.apart,
            "nearest_training": float(agreement.nearest.mean()),
            "second_nearest_training": float(agreement.second_nearest.mean()),
            "heldout_nearest_training": float(agreement.heldout_nearest.mean()),
        },
        "position": result.agree,
        "nearness": result.copying,
        "covariance_over_target": result.averaged,
        "heldout_losses_over_formula": result.over_formula,
        "second_heldout_loss_over_references": result.loss,
        "second_heldout_loss_over_first": result.relative_loss,
        "network_evaluations": calls,
        "doubt": result.doubt,
    }


QUESTION = Question(
    "agreement",
    TITLE,
    _ask,
    stages=lambda session: 0 if session.second is None else 2,
    left_out=lambda session: session.second is None,
)
