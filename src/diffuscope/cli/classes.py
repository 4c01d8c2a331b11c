"""An audit by class, from what was typed: `--classes 3`, `--classes 0 1 2`, `--classes all`, and `--guidance`."""

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from diffuscope.audit import ClassAuditResult, Settings, Subject, audit_classes
from diffuscope.audit.model_card import command_line
from diffuscope.audit.verdict import Word
from diffuscope.data import DataSet
from diffuscope.denoisers import Denoiser, Guided, OfClass, classes_of
from diffuscope.distributed import of_process_0
from diffuscope.errors import InputError
from diffuscope.streams import SEEDS

from .invocation import typed

ALL = "all"


def read_classes(words: Sequence[str]) -> list[int] | None:
    """The numbers typed, each once; None for all. Raises InputError for anything else.

    >>> read_classes(["3", "0"]), read_classes(["all"])
    ([3, 0], None)
    """
    if list(words) == [ALL]:
        return None
    numbers = []
    for word in words:
        number = int(word) if word.isascii() and word.isdigit() and len(word) < 20 else -1
        if not 0 <= number < SEEDS:
            raise InputError(f"classes: expected whole numbers >= 0, or {ALL}, got {' '.join(words)}")
        numbers.append(number)
    if repeated := [number for number in numbers if numbers.count(number) > 1]:
        raise InputError(f"classes: expected each class once, got {repeated[0]} twice")
    return numbers


def check_classes(classes: Sequence[str], guidance: float, model: str | None, others: dict[str, str | None]) -> None:
    """Raises InputError, before any work: for classes without a model or with one of `others`, for lone guidance."""
    if not math.isfinite(guidance):
        raise InputError(f"guidance: expected a finite number, got {guidance}")
    if not classes:
        if guidance != 1:
            raise InputError(
                f"guidance: expected --classes with it, or a --model named with ?class=3&guidance={guidance:g}"
            )
        return
    read_classes(classes)
    if model is None:
        raise InputError("classes: expected --model, a model with classes")
    for name, value in others.items():
        if value is not None:
            raise InputError(f"{name}: expected without --classes, got {value}")


def notes_on_classes(denoiser: Denoiser, data: DataSet) -> list[str]:
    """As what a model with classes, or of one class, was audited where no class was asked for."""
    labels = data.train_labels
    count = 0 if labels is None else len(labels.unique())
    several = f", with {count} labels" if count > 1 else ""
    if known := classes_of(denoiser):
        return [
            f"the model has {known} classes and was audited without one, against all of the data{several}; --classes "
            f"{ALL} audits each class"
        ]
    inner = denoiser.conditional if isinstance(denoiser, Guided) else denoiser
    if isinstance(inner, OfClass) and inner.y is not None and inner.y.numel() == 1:
        of_one = f"; --classes {int(inner.y)} audits it against the examples of its label" if several else ""
        return [f"the model was audited as class {int(inner.y)}, against all of the data{several}{of_one}"]
    return []


def audit_by_class(
    subject: Subject, classes: Sequence[str], guidance: float, settings: Settings, out: Path, fail_on: Sequence[Word]
) -> None:
    """Audit, write and print; exit status 1 where the overview or a class has one of the verdicts `fail_on`."""
    if isinstance(subject.denoiser, OfClass | Guided):
        raise InputError("classes: expected a --model without ?class= in its name, which is of one class already")
    result = audit_classes(subject, read_classes(classes), settings, guidance=guidance, out=out, progress=True)
    if words := typed.get():
        recipe = command_line(["diffuscope", *words])
        results = {y: replace(each, recipe=recipe) for y, each in result.results.items()}
        result = replace(result, recipe=recipe, results=results)
    of_process_0(lambda: _write(result, out))
    if result.has(fail_on):
        sys.exit(1)


def _write(result: ClassAuditResult, out: Path) -> None:
    report = result.save(out)
    print(result.verdict)
    for y, verdict in result.verdicts.items():
        print(f"- Class {y}: {verdict}")
    print(f"Report: {report}")
