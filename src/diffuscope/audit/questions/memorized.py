"""Did it memorize? Denoising errors, nearness to training data, the search for copies, and what there is to show.

What follows from the three is in `memorization`.
"""

from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from diffuscope.data import Table
from diffuscope.errors import InputError
from diffuscope.files import finite
from diffuscope.findings import Finding
from diffuscope.report import Block

from ..copied_groups import copied_groups, group_name, groups_finding, groups_table
from ..copy_search import COPIED, Copies, copies_finding, suffix
from ..copy_tables import copies_tables, distances_chart
from ..denoising_gap import Pairs, denoising_gap, gap_blocks, gap_finding, pairs_of_cells
from ..features import Features
from ..group_units import independent, one_of_each
from ..measure import Measure
from ..memorization import Memorization, verdict
from ..nearness import Cells, Nearness, clusters, nearness, nearness_finding
from ..question import Answer, Question
from ..repeats import repeats_table
from ..rows_of import part_of, rows_of
from ..session import Session
from ..shared_neighbors import nearest_neighbors
from ..standard_names import measures_table, standard_measures, table_measures
from ..subject import Subject
from ..suspects import suspects
from ..transformations import averaged_shape, transformations


def _ask(session: Session) -> Answer:
    settings, subject = session.settings, session.subject
    level, spaces = settings.significance, settings.features
    result, found, blocks = Memorization(None, {}, {}), list[Finding](), list[Block]()
    standard: dict[str, object] = {}  # by feature space
    if subject.has_model:
        stream = session.numpy_stream("gap")
        gap = denoising_gap(session.measures, level, stream, pairs_of_points(session, stream))
        result = Memorization(gap, {}, {})
        found, blocks = [gap_finding(gap, level)], gap_blocks(gap)
    chosen = transformations(settings.transformations, subject.train.shape[1:])
    for space in spaces:
        session.progress.set_postfix_str("looking for copies")
        features, called = session.features(space), name_of_space(space, subject)
        listed = session.copies(space, f"copies {space}", subject.train, _numbers_of_groups(session)[0])
        result.copies[space] = listed
        near = _nearness(session, features, listed, space, level / len(spaces))
        result.nearness[space] = near
        found += [nearness_finding(near, called, suffix(called), level / len(spaces)), copies_finding(listed, called)]
        if subject.train_groups is not None:
            found.append(groups_finding(listed, subject.train_groups.numpy(), called))
        blocks += [distances_chart(listed, called), *suspects(session, listed, called), *copies_tables(listed, called)]
        blocks += _copied_groups(session, listed, called)
        measures = _measures(session, features, listed, space)
        blocks += [*repeats_table(listed.repeats, called), *([measures_table(measures, called)] if measures else [])]
        standard[space] = [finite(asdict(measure)) for measure in measures]
        session.advance()
    if any(listed.heldout_copied for listed in result.copies.values()):
        found = [withheld(finding) for finding in found]
    elif subject.has_model and any(listed.heldout_known for listed in result.copies.values()):
        found[0] = withheld(found[0])  # the gap in loss, which all held-out examples enter
    if subject.table is not None:
        measures = _column_measures(session, subject.table)
        blocks += [measures_table(measures, "column by column")] if measures else []
        standard["column by column"] = [finite(asdict(measure)) for measure in measures]
    return Answer(
        findings=[verdict(result, level), *found],
        blocks=blocks,
        facts={
            "copies": {space: _listed(listed) for space, listed in result.copies.items()},
            "planted": {space: listed.detectable for space, listed in result.copies.items()},
            "leaked_heldout": {
                space: [{"heldout": i, "training_example": j} for i, j in listed.leaked.items()]
                for space, listed in result.copies.items()
            },
            "natural_repeats": {space: listed.natural for space, listed in result.copies.items()},
            "heldout_are_copies": {space: listed.heldout_known for space, listed in result.copies.items()},
            "repeated_training": {space: listed.repeats.count for space, listed in result.copies.items()},
            "standard_measures": standard,
            **_groups(session, result),
        },
        method=_method(tuple(subject.train.shape[1:])) if chosen and "pixels" in spaces else "",
        result=result,
    )


def _method(shape: tuple[int, ...]) -> str:
    """That large images are searched for copies as averages."""
    smaller = averaged_shape(shape)
    if smaller == shape:
        return ""
    size, whole = (" x ".join(map(str, sides[1:])) for sides in (smaller, shape))
    return (
        f"Copies: images of {whole} pixels were compared as averages of {size}, whose pixels are what "
        "transformations move by; copies were planted in the whole images. Nearness to training data is that of these."
    )


def withheld(finding: Finding, doubt: str = COPIED) -> Finding:
    """The finding without praise where, for the reason `doubt`, held-out examples do not show what is normal."""
    if finding.tone != "good" or not doubt:
        return finding
    return replace(finding, tone="unknown", verdict=f"Cannot tell: {doubt}. {finding.verdict}")


def name_of_space(space: str, subject: Subject) -> str:
    """What its distances are called on the page: those of the examples as they are, by what an example is."""
    if space != "pixels" or subject.train.ndim in (4, 5):
        return space
    return "values" if subject.table is None else "columns"


def cells_of_points(session: Session) -> Cells:
    """The labels of the points at which the model is measured; their clusters if there are no labels."""
    subject, (train, heldout, _) = session.subject, session.points
    if subject.train_labels is None or subject.heldout_labels is None:
        return clusters(train.flatten(1), heldout.flatten(1), session.seed("clusters of points"))
    return _numbered(
        subject.train_labels[nearest_neighbors(train, subject.train, 1)[1][:, 0]],
        subject.heldout_labels[nearest_neighbors(heldout, subject.heldout, 1)[1][:, 0]],
    )


def _numbered(train_labels: Tensor, heldout_labels: Tensor) -> Cells:
    """Labels as numbers from 0."""
    cells = torch.cat([train_labels, heldout_labels]).unique(return_inverse=True)[1].numpy()
    return cells[: len(train_labels)], cells[len(train_labels) :]


def pairs_of_points(session: Session, rng: np.random.Generator) -> Pairs:
    """The pairs of points for the gap, of which every group has at most one."""
    cells, subject, (train, heldout) = cells_of_points(session), session.subject, session.point_indices
    if subject.train_groups is None or subject.heldout_groups is None:
        return pairs_of_cells(*cells, rng)
    kept = [one_of_each(of.numpy(), rng) for of in (subject.train_groups[train], subject.heldout_groups[heldout])]
    size = min(map(len, kept))
    first, second = (np.sort(rng.permutation(part)[:size]) for part in kept)
    pairs = pairs_of_cells(cells[0][first], cells[1][second], rng)
    return first[pairs[0]], second[pairs[1]]


def _nearness(session: Session, features: Features, found: Copies, space: str, level: float) -> Nearness:
    """(b) with the held-out examples that the search for copies used; its cells are the labels, if there are any.

    Of every training group one example is a reference; copies of all of them are planted.
    """
    subject, used = session.subject, torch.from_numpy(found.heldout)
    samples, train = features(session.samples), rows_of(subject.train, features)
    heldout = rows_of(subject.heldout, features, used)
    if not len(used):
        raise InputError(f"heldout: expected examples that are no training examples, got {len(found.leaked)} that are")
    seed = session.seed(f"nearness {space}")
    kept = independent(subject, np.random.default_rng(seed))[0]
    references = train if subject.train_groups is None else part_of(train, kept)
    if subject.train_labels is not None and subject.heldout_labels is not None:
        cells = _numbered(subject.train_labels[kept], subject.heldout_labels[used])
    else:
        cells = clusters(references, heldout, seed)
    return nearness(samples, references, heldout, level, seed, cells, copied=train)


def _copied_groups(session: Session, found: Copies, space: str) -> list[Block]:
    """The training groups that samples reproduce, by name unless examples must not show."""
    subject = session.subject
    if subject.train_groups is None:
        return []
    groups, names = subject.train_groups.numpy(), subject.group_names
    return [*groups_table(found, groups, names, space, named=session.settings.examples)]


def _groups(session: Session, result: Memorization) -> dict[str, object]:
    """The reproduced training groups for audit.json; nothing without groups."""
    subject, named = session.subject, session.settings.examples
    if subject.train_groups is None:
        return {}
    groups, names = subject.train_groups.numpy(), subject.group_names
    return {
        "copied_groups": {
            space: [
                {"group": group_name(group, names, named=named), "samples": samples}
                for group, samples in copied_groups(found, groups).items()
            ]
            for space, found in result.copies.items()
        }
    }


def _measures(session: Session, features: Features, found: Copies, space: str) -> list[Measure]:
    """The measures of other tools; none where there are too few examples for any.

    Held-out examples that repeat a training example are left out, but not rows of a table, which coincide by chance.
    """
    subject = session.subject
    used, groups = torch.from_numpy(found.heldout), _numbers_of_groups(session)
    if subject.table is not None:
        used = torch.arange(len(subject.heldout))
    elif groups[1] is not None:
        used = torch.from_numpy(np.setdiff1d(np.arange(len(subject.heldout)), list(found.leaked)))
    return standard_measures(
        features(session.samples),
        rows_of(subject.train, features),
        rows_of(subject.heldout, features, used),
        session.numpy_stream(f"measures {space}"),
        train_groups=groups[0],
        heldout_groups=None if groups[1] is None else groups[1][used.numpy()],
    )


def _column_measures(session: Session, table: Table) -> list[Measure]:
    """The measures of other tools that know the columns of a table."""
    subject, groups = session.subject, _numbers_of_groups(session)
    samples, train, heldout = (
        [column.values(rows) for column in table.columns] for rows in (session.samples, subject.train, subject.heldout)
    )
    return table_measures(
        samples,
        train,
        heldout,
        np.array([column.kind == "categorical" for column in table.columns]),
        session.numpy_stream("measures of columns"),
        names=[column.name for column in table.columns],
        train_groups=groups[0],
        heldout_groups=groups[1],
    )


def _numbers_of_groups(session: Session) -> tuple[np.ndarray | None, np.ndarray | None]:
    """The groups of training and held-out examples as arrays."""
    train, heldout = session.subject.train_groups, session.subject.heldout_groups
    return None if train is None else train.numpy(), None if heldout is None else heldout.numpy()


def _listed(found: Copies) -> list[dict[str, object]]:
    return [
        {
            "sample": int(i),
            "p_value": float(found.p_values[i]),
            "training_example": int(found.nearest_training[i]),
            "distance": float(found.distance[i]),
            "transformation": found.transformation[i],
        }
        for i in np.flatnonzero(found.listed)
    ]


QUESTION = Question(
    "memorized",
    "Did it memorize?",
    _ask,
    stages=lambda session: len(session.settings.features),
    needs=frozenset({"model", "samples"}),
    of="both",
)
