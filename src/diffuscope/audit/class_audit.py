"""A conditional model, audited class by class: the model asked for class y, against the examples of label y.

Each class is an audit of its own, with its report, of the denoiser D(x, t, y), whose exact optimum is that of the
examples of label y. It also asks whether the model's class is the data's (`class_fit`), whether samples have the label
(`class_samples`), and whether they copy examples of other classes (`class_copies`). A class with fewer than 20 examples
in one part cannot be told of, which the overview says (`class_result`).
"""

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from diffuscope.denoisers import Guided, OfClass, classes_of
from diffuscope.distributed import sharing
from diffuscope.errors import InputError
from diffuscope.shared_work import shared

from .class_data import ClassData, OneClass
from .class_null import unconditional_finding
from .class_result import ClassAuditResult
from .guided import require_means
from .result import AuditResult
from .run import audit_model
from .subject import FEWEST, Settings, Subject


def audit_classes(
    subject: Subject,
    classes: Sequence[int] | None = None,
    settings: Settings | None = None,
    *,
    guidance: float | int = 1.0,
    out: Path | None = None,
    progress: bool = False,
) -> ClassAuditResult:
    """Audit a conditional denoiser for each of `classes`, by default all labels of the training data.

    The labels of the data are the model's classes. With `guidance` other than 1 the samples are those of
    D_u + guidance (D_y - D_u), and everything else is asked of D_y. With `out`, the audit of class 3 is kept in
    `out`/class-3. Raises InputError for a model without classes, for data without labels, for classes that model or
    data do not have or that are no whole numbers, for canaries, and where no class can be audited for one and the same
    reason.

    Of these two classes the model has learned the first one's examples by heart, and the second has too few:

    >>> import torch
    >>> from diffuscope.audit import Settings, Subject, audit_classes
    >>> from diffuscope.data import toy_data
    >>> from diffuscope.denoisers import ExactDenoiser
    >>> from diffuscope.exact import Empirical
    >>> from diffuscope.schedules import VE
    >>> moons, labels = toy_data("two-moons", n_train=60, n_heldout=60), torch.arange(60) // 50
    >>> class Model:
    ...     schedule, classes = VE(), 2
    ...     parts = [ExactDenoiser(Empirical(moons.train[labels == y]), VE()) for y in (0, 1)]
    ...     def __call__(self, x_t, t, y=None):
    ...         return self.parts[int(y)](x_t, t)
    >>> subject = Subject(Model(), moons.train, moons.heldout, train_labels=labels, heldout_labels=labels)
    >>> few = Settings(levels=4, points=8, trajectories=8, generated=20, components=1, references=20, step_seeds=8)
    >>> result = audit_classes(subject, settings=few)
    >>> result.verdicts[0].word, result.verdicts[1].sentence
    ('copies', '10 training and 10 held-out examples; at least 20 of each are needed.')
    """
    data, settings = _class_data(subject, classes, guidance), settings or Settings()
    results, unanswered, mistakes = {}, {}, []
    for y in data.asked:
        sizes = int((data.train_labels == y).sum()), int((data.heldout_labels == y).sum())
        if min(sizes) < FEWEST:
            unanswered[y] = (
                f"{sizes[0]} training and {sizes[1]} held-out examples; at least {FEWEST} of each are needed"
            )
            continue
        folder = None if out is None else out / f"class-{y}"
        with sharing():
            found = _audited(subject, data, y, guidance, settings, folder, progress)
        if isinstance(found, InputError):
            mistakes.append(found)
            unanswered[y] = str(found)
        else:
            results[y] = found
    if mistakes and not results:
        raise mistakes[0]
    with sharing():
        none = unconditional_finding(subject, data, settings) if guidance != 1 else None
    return ClassAuditResult(
        subject=subject,
        settings=settings,
        guidance=float(guidance),
        classes=data.asked,
        of_model=classes_of(data.denoiser),
        results=results,
        unanswered=unanswered,
        unconditional=none,
    )


def _audited(
    subject: Subject,
    data: ClassData,
    y: int,
    guidance: float | int,
    settings: Settings,
    folder: Path | None,
    progress: bool,
) -> AuditResult | InputError:
    """The audit of one class, or the InputError that all processes have met and that the other classes may not meet.

    What one process alone has met, such as a folder that is in use, ends all: they would no longer do the same.
    """
    try:
        found = audit_model(of_class(subject, data, y, guidance), settings, out=folder, progress=progress)
    except InputError as error:
        found = error
    try:
        shared([])  # nothing: all come here, or none goes on
    except RuntimeError as apart:
        raise (found if isinstance(found, InputError) else apart) from None
    return found


def of_class(subject: Subject, data: ClassData, y: int, guidance: float | int = 1.0) -> Subject:
    """The part of `subject` that is of class y: its examples, and the denoiser of the class."""
    train, heldout = data.train_labels == y, data.heldout_labels == y
    denoiser = OfClass(data.denoiser, y)
    unconditional = OfClass(data.denoiser, None) if guidance != 1 else None
    originals = subject.originals
    if originals is not None:
        originals = replace(originals, train=_rows(originals.train, train), heldout=_rows(originals.heldout, heldout))
    parts: dict[str, Any] = {
        f"{side}_{what}": None if (known := getattr(subject, f"{side}_{what}")) is None else known[mask]
        for side, mask in (("train", train), ("heldout", heldout))
        for what in ("groups", "owners")
    }
    return replace(
        subject,
        denoiser=denoiser,
        sampled=None if unconditional is None else Guided(denoiser, unconditional, guidance),
        train=_rows(subject.train, train),
        heldout=_rows(subject.heldout, heldout),
        name=f"{subject.name}, class {y}",
        data_name=f"{subject.data_name}, label {y}",
        train_labels=None,
        heldout_labels=None,
        originals=originals,
        of_class=OneClass(data, y),
        notes=(*subject.notes, f"audited as class {y}, against the examples with label {y}"),
        **parts,
    )


def _rows(x: Tensor, mask: Bool[Tensor, " n"]) -> Tensor:
    """The rows where `mask` holds; of examples that are kept as bytes without making them floats."""
    places = torch.nonzero(mask).flatten()
    return getattr(x, "rows", x.__getitem__)(places)


def _class_data(subject: Subject, classes: Any, guidance: Any) -> ClassData:
    """What all classes share; InputError unless model and data have the classes."""
    denoiser, labels, others = subject.denoiser, subject.train_labels, subject.heldout_labels
    if not _finite(guidance):
        raise InputError(f"guidance: expected a finite number, got {guidance!r}")
    known, chosen = classes_of(denoiser), None if classes is None else _numbers(classes)
    if known < 1:
        raise InputError("classes: expected a model with classes (an attribute `classes`), got one without")
    if labels is None or others is None:
        part = "training" if labels is None else "held-out"
        raise InputError(f"classes: expected data with labels, got {part} data without")
    if subject.canaries is not None:
        raise InputError("canaries: expected without classes, as canaries have none")
    if guidance != 1:
        require_means(denoiser, guidance)
    present = sorted(set(labels.tolist()))
    asked = present if chosen is None else chosen
    if missing := [y for y in asked if y not in present]:
        raise InputError(f"classes: expected labels of the training data, {_few(present)}, got {_few(missing)}")
    if strange := [y for y in asked if not 0 <= y < known]:
        raise InputError(
            f"classes: expected the model's classes, 0 .. {known - 1}, as labels of the data, got {_few(strange)}"
        )
    return ClassData(denoiser, subject.train, subject.heldout, labels, others, tuple(asked))  # type: ignore[arg-type]


def _numbers(classes: Any) -> list[int]:
    """The classes, each once, as integers of whatever kind they are."""
    try:
        numbers = list(dict.fromkeys(map(operator.index, classes)))
    except TypeError as error:
        raise InputError(f"classes: expected whole numbers, got {classes!r}") from error
    if not numbers:
        raise InputError("classes: expected at least one, got none")
    return numbers


def _finite(number: Any) -> bool:
    try:
        return math.isfinite(number)
    except TypeError:
        return False


def _few(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
