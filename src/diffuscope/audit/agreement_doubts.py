r"""What would make the agreement of two models mean something else than that both generalize.

Tested in this order: the same function twice; a second model that does not denoise these data; training sets that
overlap, exactly or up to rounding; held-out examples that the second model was trained on; a second model that denoises
the first one's training examples better than held-out ones; and two memorizers that agree so much that nothing could be
told. Of models that agree (`undeserved`): one that is no better than a formula, and scores that are nearer to each
other than those of independent trainings can be.

No unbiased average of n targets has a variance below 1/n of theirs, so that of independent trainings on n_A and n_B
examples the split-to-split covariance R of `agreement` is

.. math::  R \ge \tfrac12\Big(\frac1{n_A} + \frac1{n_B}\Big),

with the second term 0 where n_B is not known. Shrinkage toward a common answer may lie below, and is no evidence of
independence either.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from diffuscope.findings import bootstrap_sums, percentile_interval
from diffuscope.store import Arrays

from .agreement import SAME_COSINE, Agreement, Interval, Pair
from .denoising_gap import Gap, Pairs, denoising_gap
from .level_measures import LevelMeasures
from .second_model import nearly_shared, shared_examples
from .session import Session

RESOLVED = 3.0  # standard errors that must fit between two memorizers and equal functions
LEARNED = 0.99  # of a formula's loss: a model surely below it has learned more
SHARED = 0.01  # of the second model's training examples, and of held-out ones: with more the sets are not disjoint


@dataclass(frozen=True, kw_only=True, eq=False)
class Compared:
    """Everything measured of the second model; `doubt` is why agreement would mean nothing, or ""."""

    agreement: Agreement
    agree: Interval  # w
    copying: Interval  # u
    averaged: Interval  # R
    least: float  # of R between independent trainings
    p_value: float
    gap: Gap  # of the second model between the first one's training examples and held-out ones
    loss: Interval  # of the second model on held-out data, over that of the worse of a formula and a lookup
    over_formula: tuple[Interval, Interval]  # the losses of both over that of a formula
    relative_loss: Interval  # the second one's over the first one's
    repeated: int | None  # of its training examples are the first one's too; None where its data are unknown
    nearly_repeated: float  # share of them that are the first one's up to rounding
    heldout_known: int  # held-out examples that are among its training data
    memorized: int  # examples of the second memorizer
    doubt: str


def compared(session: Session, pair: Pair, samples: Arrays, scores: Arrays, pairs: Pairs) -> Compared:
    """Reduce the stored stages, and test what would make agreement mean something else."""
    rng = session.numpy_stream
    result = Agreement.of(session, pair, samples, scores)
    own = [
        {**level, "training.error": scores["training_error"][:, i], "heldout.error": scores["heldout_error"][:, i]}
        for i, level in enumerate(level for level, kept in zip(session.measures.sums, pair.kept, strict=True) if kept)
    ]
    measures = LevelMeasures(
        ratios=result.ratios,
        scale=result.scale,
        dimension=session.measures.dimension,
        models=session.measures.models,
        sums=own,
    )
    gap = denoising_gap(measures, session.settings.significance, rng("agreement gap"), pairs)
    train, other = session.subject.train, pair.given.train
    # held-out losses, summed over the levels that matter
    exact, own_loss = (measures.rows(f"heldout.{name}")[:, result.matter].sum(1) for name in ("exact_error", "error"))
    first_loss = session.measures.rows("heldout.error")[:, session.measures.matter].sum(1)
    known = exact[:, [measures.models.index("isotropic"), measures.models.index("empirical")]]
    worse = known[:, known.mean(0).argmax()]
    made = Compared(
        agreement=result,
        agree=result.agreement(rng("agreement w")),
        copying=result.copying(rng("agreement u")),
        averaged=result.averaged(rng("agreement covariance")),
        p_value=result.p_value(rng("agreement permutation")),
        gap=gap,
        loss=_ratio(own_loss, worse, rng("agreement loss")),
        over_formula=(
            _ratio(first_loss, known[:, 0], rng("agreement first formula")),
            _ratio(own_loss, known[:, 0], rng("agreement second formula")),
        ),
        relative_loss=_ratio(own_loss, first_loss, rng("agreement relative loss")),
        repeated=None if other is None else shared_examples(train, other),
        nearly_repeated=0.0 if other is None else nearly_shared(train, other, session.torch_stream("agreement shared")),
        heldout_known=0 if other is None else shared_examples(other, session.subject.heldout),
        memorized=len(session.subject.heldout if other is None else other),
        least=(1 / len(train) + (0 if other is None else 1 / len(other))) / 2,
        doubt="",
    )
    return replace(made, doubt=_doubt(made, session))


def _ratio(numerator: np.ndarray, denominator: np.ndarray, rng: np.random.Generator) -> Interval:
    """Of the means over points, with its interval."""
    drawn = bootstrap_sums(np.stack([numerator, denominator], 1), rng)
    low, high = percentile_interval(drawn[:, 0] / drawn[:, 1])
    return float(numerator.mean() / denominator.mean()), float(low), float(high)


def _doubt(result: Compared, session: Session) -> str:
    """Why agreement would mean something else than it seems, if it would."""
    gap, agreement = result.gap, result.agreement
    if agreement.same:
        cosine = float(agreement.agree.mean())
        return f"the two models are the same model: they answer alike at every point, and their cosine is {cosine:.6g}"
    if result.loss[1] > 1:
        return (
            f"the second model does not denoise these data (were its data, range or schedule others?): its loss on "
            f"held-out examples is {result.loss[0]:.3g}x that of a formula or of a lookup of the first one's examples"
        )
    if result.repeated and result.repeated > SHARED * result.memorized:
        return (
            f"{result.repeated:,} of the second model's {result.memorized:,} training examples are the first one's too"
        )
    if result.nearly_repeated > SHARED:
        return (
            f"{result.nearly_repeated:.1%} of the second model's training examples are the first one's up to rounding"
        )
    if result.heldout_known > SHARED * len(session.subject.heldout):
        return (
            f"{result.heldout_known:,} held-out examples are training examples of the second model, so that whether it "
            "knows the first one's cannot be seen"
        )
    if gap.p_value < session.settings.significance:
        return (
            "the second model denoises the first one's training examples better than held-out ones, by "
            f"{gap.mean_share:.1%} on average (p = {gap.p_value:.2g}; a control too small to memorize: "
            f"{gap.control.mean():.1%}), as if it had been trained on them too"
        )
    error = float((agreement.agree - agreement.memorizers).std() / math.sqrt(len(agreement.agree)))
    room = 1 - float(agreement.memorizers.mean())
    if room < max(RESOLVED * error, SAME_COSINE):
        return f"two memorizers would agree as well (mean cosine {1 - room:.3f}), so that nothing could be told"
    return ""


def undeserved(result: Compared) -> str:
    """Why agreement is no merit, if it is none: what one of them has learned, or what both have in common."""
    for name, (value, _, high) in zip(("first", "second"), result.over_formula, strict=True):
        if not high < LEARNED:
            return (
                f"the {name} model has learned little: its loss on held-out examples is {value:.3g}x that of a "
                "formula that knows mean and standard deviation"
            )
    if result.averaged[2] < result.least:
        return (
            f"their scores differ by {result.averaged[0]:.2g} of the target's variance, and those of independent "
            f"trainings by {result.least:.2g} at least, as if one model were made from the other"
        )
    return ""
