"""The owners of an audit: the losses of their examples, one p-value each, as a finding and a table."""

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from diffuscope.byte_examples import floats_at
from diffuscope.findings import Finding
from diffuscope.report import Block, Table
from diffuscope.store import Arrays

from .attack_scores import log_losses
from .difficulty import difficulty
from .fingerprint import digest
from .owner_sets import FEWEST, OwnerTest, detectable_difference, owner_tests
from .session import Session
from .subject import Levels, evaluate

MOST = 200  # examples of one owner and kind that are evaluated
NAMED = 5  # owners in the verdict


def chosen(owners: Int64[Tensor, " n"], others: Int64[Tensor, " m"], generator: torch.Generator) -> Int64[Tensor, " k"]:
    """Random places of at most MOST examples of every owner that is in both sets."""
    order = torch.randperm(len(owners), generator=generator)
    order = order[torch.isin(owners[order], others)]
    order = order[torch.argsort(owners[order], stable=True)]
    _, counts = owners[order].unique_consecutive(return_counts=True)
    rank = torch.arange(len(order)) - (counts.cumsum(0) - counts).repeat_interleave(counts)
    return order[rank < MOST]


def audited_owners(session: Session) -> list[OwnerTest] | None:
    """One test per owner; None if the subject has no owners."""
    subject, owners = session.subject, (session.subject.train_owners, session.subject.heldout_owners)
    if owners[0] is None or owners[1] is None:
        return None
    stream = session.torch_stream("owners")
    index = chosen(owners[0], owners[1], stream), chosen(owners[1], owners[0], stream)
    counts, kept = len(index[0]), torch.from_numpy(session.measures.matter)
    levels = Levels(session.levels.times[kept], session.levels.ratios[kept])
    if min(map(len, index)) == 0 or len(levels) == 0:
        return _untested(owners[0].numpy(), owners[0].unique().numpy())
    examples = torch.cat([floats_at(subject.train, index[0]), floats_at(subject.heldout, index[1])])
    noise = torch.randn(examples.shape, generator=stream)
    schedule = subject.denoiser.schedule

    def compute() -> Arrays:
        squares = [
            (evaluate(subject.denoiser, float(schedule.alpha(t)) * examples + float(schedule.sigma(t)) * noise, t)
             - examples).flatten(1).double().square().sum(1)
            for t, _ in levels
        ]  # fmt: skip
        return {"squares": torch.stack(squares, 1).numpy()}

    squares = session.shared_stage(f"owners-{digest(*index)[:16]}", "measuring owners' examples", compute)["squares"]
    variance = session.measures.dimension * session.measures.scale**2
    mixed = torch.randperm(len(examples), generator=stream)  # the references are fitted to the first ones
    easy = np.empty((*squares.shape, 2))
    easy[mixed.numpy()] = difficulty(examples[mixed], noise[mixed], levels, schedule).numpy()
    losses, easy = log_losses(squares, variance), log_losses(easy, variance)
    found = owner_tests(
        (losses[:counts], losses[counts:]),
        (owners[0][index[0]].numpy(), owners[1][index[1]].numpy()),
        session.numpy_stream("owners"),
        difficulty=(easy[:counts], easy[counts:]),
    )
    alone = np.setdiff1d(owners[0].numpy(), [test.owner for test in found])
    return found + _untested(owners[0].numpy(), alone)


def owners_finding(tests: list[OwnerTest], significance: float) -> Finding:
    """How many owners' published examples are treated like training data."""
    testable = [test for test in tests if not np.isnan(test.p_value)]
    found = sorted((t for t in testable if t.corrected < significance), key=lambda t: t.p_value)
    if not testable:
        text = (
            f"Cannot tell for any of {len(tests)} owners: at least {FEWEST} training and {FEWEST} held-out examples of "
            "one owner are needed."
        )
    elif found:
        named = ", ".join(f"{test.owner} (p = {test.corrected:.2g})" for test in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        text = (
            f"The training examples of {len(found)} of {len(testable)} owners are denoised better than the same "
            f"owners' held-out examples: {named}{more}."
        )
    else:
        text = (
            f"For none of {len(testable)} owners are training examples denoised better than held-out ones, as far as "
            "this test sees; stronger ones exist."
        )
    power = "None."
    if testable:
        fewest = min(testable, key=lambda t: 1 / (1 / t.published + 1 / t.unpublished))
        size = detectable_difference(fewest.published, fewest.unpublished, significance / len(testable))
        power = (
            f"For the owner with the fewest examples ({fewest.published} and {fewest.unpublished}) a difference of "
            f"mean log losses of {size:.2f} standard deviations of an example is found with probability 0.95."
        )
    return Finding(
        name="membership.owners",
        title="Owners whose training examples the model knows",
        value=float(len(found)),
        unit="owners",
        verdict=text,
        tone="attention" if found else "good" if testable else "unknown",
        null="Of each owner, training and held-out examples are treated alike. Labels permuted; corrected for all.",
        p_value=min((t.corrected for t in testable), default=None),
        power=power,
    )


def owners_table(tests: list[OwnerTest]) -> list[Block]:
    """One row per owner, the smallest p-value first."""
    rows = [
        [str(t.owner), t.published, t.unpublished, *(None if np.isnan(p) else p for p in (t.p_value, t.corrected))]
        for t in sorted(tests, key=lambda t: (np.isnan(t.p_value), t.p_value, t.owner))
    ]
    note = (
        "Uniform p-values are expected for owners whose examples were not trained on. Corrected after Holm. Without a "
        f"p-value: fewer than {FEWEST} examples of either kind. At most {MOST} of a kind are evaluated."
    )
    return [Table("One p-value per owner", ["owner", "training", "held-out", "p-value", "corrected"], rows, note, True)]


def _untested(owners: np.ndarray, names: np.ndarray) -> list[OwnerTest]:
    nan = float("nan")
    return [
        OwnerTest(owner=int(n), published=int((owners == n).sum()), unpublished=0, p_value=nan, corrected=nan)
        for n in names
    ]
