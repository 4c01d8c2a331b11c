"""Does it reveal who was in its training data? Membership attacks on the losses that the audit has measured already.

The points are those of the other questions, so that nothing is evaluated again. Where the examples have groups, such as
the patients of scans, a group is one unit: its losses are averaged over its examples. Pairs are formed within classes
if their mix differs between the two sets, as for the denoising gap, and else share their noise. Where held-out examples
are near-copies of training examples (`copied_heldout`), that the model treats both alike is no all-clear.
"""

from dataclasses import asdict, dataclass, replace

import numpy as np
import torch

from diffuscope.findings import Finding
from diffuscope.report import Block
from diffuscope.store import Arrays

from ..attack_scores import PairedLosses, group_means, log_losses
from ..canary_scores import canary_scores
from ..denoising_gap import pairs_of_cells
from ..difficulty import difficulty
from ..epsilon import EpsilonBound, epsilon_lower_bound
from ..epsilon_finding import EPSILON_METHOD, epsilon_finding, with_epsilon
from ..fingerprint import digest
from ..membership import FEWEST_PAIRS, TITLE, Membership, blocks, findings, membership, unanswered
from ..owner_findings import audited_owners, owners_finding, owners_table
from ..owner_sets import OwnerTest
from ..question import Answer, Question
from ..session import Session
from ..subject import Levels
from .memorized import cells_of_points, withheld

METHOD = (
    "Membership: each attack ranks examples by the logarithm of the model's denoising loss, averaged over the noise "
    "levels that matter for sampling, with one draw of noise per level; as it is, relative to its regression on the "
    "losses of two Gaussians that are fitted to training and held-out examples together, and as the cross-fitted "
    "likelihood ratio of two Gaussians over all levels. No shadow models were trained."
)


def paired_losses(session: Session) -> tuple[dict[str, PairedLosses], str] | None:
    """Log losses of the "model", the "memorizer" and the "control" at the audit's points, in pairs, and their unit.

    None for fewer than FEWEST_PAIRS pairs, as of few groups.
    """
    measures, kept = session.measures, no_canaries(session)
    train, heldout, noise = (part[torch.from_numpy(kept)] for part in session.points)
    variance, matter = measures.dimension * measures.scale**2, measures.matter
    # one training and one held-out example in turn: the references are fitted to equally many of both
    mixed = torch.stack([train, heldout], 1).flatten(0, 1)
    levels = Levels(*(part[torch.from_numpy(matter)] for part in (session.levels.times, session.levels.ratios)))
    easy = difficulty(mixed, noise.repeat_interleave(2, 0), levels, session.subject.denoiser.schedule).numpy()
    columns = {}
    for k, part in enumerate(("training", "heldout")):
        own = (
            measures.rows(f"{part}.error")[kept],
            measures.rows(f"{part}.exact_error")[kept][..., -1],
            measures.rows(f"{part}.control_error")[kept],
        )
        columns[part] = log_losses(
            np.stack([*(rows[:, matter] for rows in own), *easy[k::2].transpose(2, 0, 1)], 2), variance
        )
    parts, stream = (columns["training"], columns["heldout"]), session.numpy_stream("membership pairs")
    groups = groups_of_points(session)
    if groups is None:
        of_train, of_heldout = (cells[kept] for cells in cells_of_points(session))
        unit, pairs = "examples", pairs_of_cells(of_train, of_heldout, stream)
        both = np.stack([part[chosen] for part, chosen in zip(parts, pairs, strict=True)])
    else:
        unit, both = "groups", group_means(parts, (groups[0][kept], groups[1][kept]), stream)
    if both.shape[1] < FEWEST_PAIRS:
        return None
    names = ("model", "memorizer", "control")
    return {name: PairedLosses(both[..., k], both[..., len(names) :]) for k, name in enumerate(names)}, unit


def no_canaries(session: Session) -> np.ndarray:
    """Which training points are no canaries: these differ from held-out examples for every model."""
    points, canaries = session.points[0], session.subject.canaries
    if canaries is None:
        return np.ones(len(points), dtype=bool)
    rows = [np.ascontiguousarray(x.flatten(1).numpy()) for x in (points, canaries.examples)]
    whole = [x.view(np.dtype((np.void, x.itemsize * x.shape[1])))[:, 0] for x in rows]
    return ~np.isin(whole[0], whole[1])


def groups_of_points(session: Session) -> tuple[np.ndarray, np.ndarray] | None:
    """The groups of the audit's training and held-out points; None if the examples have none."""
    subject, (train, heldout) = session.subject, session.point_indices
    if subject.train_groups is None or subject.heldout_groups is None:
        return None
    return subject.train_groups[train].numpy(), subject.heldout_groups[heldout].numpy()


@dataclass(frozen=True, eq=False)
class Revealed:
    """The attacks (None if they were not possible), the bound of epsilon (with canaries), a test of each owner."""

    attacks: Membership | None
    epsilon: EpsilonBound | None
    owners: list[OwnerTest] | None


def attacked(session: Session) -> tuple[Membership | None, list[Finding], list[Block]]:
    """The attacks on the audit's points, with their findings and figures."""
    if not session.measures.matter.any():
        return None, [unanswered("the model covers none of the noise levels that decide samples")], []
    found = paired_losses(session)
    if found is None:
        of_groups = f"at least {FEWEST_PAIRS} groups that are in one set only are needed, of either set"
        points = session.settings.points
        of_points = f"at least {FEWEST_PAIRS} different examples of either set are needed, of {points} points"
        reason = of_points if groups_of_points(session) is None else of_groups
        return None, [unanswered(reason)], []
    (losses, unit), level = found, session.settings.significance
    result = membership(**losses, significance=level, rng=session.numpy_stream("membership"), unit=unit)
    return result, findings(result, level), blocks(result, losses["memorizer"])


def bounded(session: Session) -> EpsilonBound | None:
    """The lower bound of epsilon; None without canaries."""
    canaries, settings = session.subject.canaries, session.settings
    if canaries is None:
        return None

    def scores() -> Arrays:
        stream = session.torch_stream("canaries")
        return {"scores": canary_scores(session.subject.denoiser, canaries, settings.levels, stream)}

    stored = session.shared_stage(f"canaries-{digest(canaries.examples)[:16]}", "measuring canaries", scores)
    return epsilon_lower_bound(stored["scores"], canaries.included.numpy(), delta=settings.delta)


def _ask(session: Session) -> Answer:
    result, found, shown = attacked(session)
    doubt = session.heldout_doubted
    found = [withheld(finding, doubt) for finding in found]
    bound, method = bounded(session), METHOD
    facts: dict[str, object] = {}
    if bound is not None:
        finding = epsilon_finding(bound)
        found = [with_epsilon(found[0], finding), *found[1:], finding]
        facts["epsilon"], method = asdict(bound), f"{METHOD} {EPSILON_METHOD}"
    owners = audited_owners(session)
    if owners is not None:
        finding = withheld(owners_finding(owners, session.settings.significance), doubt)
        if finding.tone == "attention":
            found[0] = replace(found[0], tone="attention", verdict=f"{found[0].verdict} {finding.verdict}")
        found, shown = [*found, finding], [*shown, *owners_table(owners)]
        facts["owners"] = [asdict(test) for test in owners]
    result = Revealed(result, bound, owners)
    return Answer(findings=found, blocks=shown, facts=facts, method=method, result=result)


def _stages(session: Session) -> int:
    return (session.subject.canaries is not None) + (session.subject.train_owners is not None)


QUESTION = Question("membership", TITLE, _ask, stages=_stages)
