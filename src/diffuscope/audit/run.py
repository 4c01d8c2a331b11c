"""The audit from end to end: a loop over the questions, which measure what they need through one session.

Every stage that calls the model is stored, so that an audit can be resumed; the rest is computed anew.
"""

from pathlib import Path

import torch
from tqdm import tqdm

from diffuscope.errors import InputError

from . import questions
from .result import AuditResult, versions
from .session import Session, fingerprint
from .store import Store
from .subject import Settings, Subject


def audit_model(
    subject: Subject,
    settings: Settings | None = None,
    *,
    out: Path | None = None,
    samples: torch.Tensor | None = None,
    progress: bool = False,
) -> AuditResult:
    """Audit a denoiser against its training data and held-out data.

    `samples`, if given, are audited in place of the model's own. With `out`, finished stages are stored in its `state`
    folder and an interrupted audit resumes. Memory: the data once in float32, plus under 1 GB.
    Raises InputError where the model or the data cannot be audited.
    """
    settings = settings or Settings()
    if samples is not None and samples.shape[1:] != subject.train.shape[1:]:
        raise InputError(
            f"samples: expected examples of shape {tuple(subject.train.shape[1:])}, got {tuple(samples.shape[1:])}"
        )
    if samples is not None and not bool(torch.isfinite(samples).all()):
        raise InputError("samples: expected finite values, got NaN or infinity")
    store = Store(out, fingerprint(subject, settings, samples))
    answers = {}
    with tqdm(desc="audit", unit="stage", disable=not progress) as bar:
        session = Session(subject, settings, store=store, given=samples, progress=bar)
        bar.reset(session.shared_stages + sum(question.stages(session) for question in questions.QUESTIONS))
        for question in questions.QUESTIONS:
            answer = question.ask(session)
            if answer is not None:
                answers[question] = session.answers[question.name] = answer
        bar.n = bar.total
        bar.set_postfix_str("done")
    return AuditResult(
        subject=subject,
        settings=settings,
        levels=session.levels,
        samples=session.samples,
        answers=answers,
        versions=versions(),
    )
