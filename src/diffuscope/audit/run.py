"""The audit from end to end: a loop over the questions, which measure what they need through one session.

Every stage that calls the model is stored, so that an audit can be resumed; the rest is computed anew.
"""

from contextlib import nullcontext
from pathlib import Path

import torch

from diffuscope.files import sole_writer
from diffuscope.memory import require_memory
from diffuscope.progress import progress_bar

from . import questions
from .fingerprint import fingerprint
from .question import not_answered
from .result import AuditResult, versions
from .session import Session
from .store import Store
from .subject import Settings, Subject, require_samples


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
    numbers = (settings.levels + 2) * settings.generated * subject.train[0].numel()
    require_memory(4.0 * numbers, "generated", f"{settings.generated:,} samples with their trajectories")
    if samples is not None:
        require_samples(samples, like=subject.train)
    with (
        progress_bar(desc="audit", unit="stage", disable=not progress) as bar,
        nullcontext() if out is None else sole_writer(out),
    ):
        store, answers = Store(out, fingerprint(subject, settings, samples)), {}
        session = Session(subject, settings, store=store, given=samples, progress=bar)
        bar.reset(session.shared_stages + sum(question.stages(session) for question in questions.QUESTIONS))
        for question in questions.QUESTIONS:
            broken = session.broken & question.needs
            answer = not_answered(question, session.broken) if broken else question.ask(session)
            if answer is not None:
                answers[question] = session.answers[question.name] = answer
        bar.n = bar.total
        bar.set_postfix_str("done")
    return AuditResult(
        subject=subject,
        settings=settings,
        levels=session.levels,
        samples=None if "samples" in session.broken and samples is None else session.samples,
        answers=answers,
        versions=versions(),
    )
