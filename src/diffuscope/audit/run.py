"""The audit from end to end: a loop over the questions, which measure what they need through one session.

Every stage that calls the model is stored, so that an audit can be resumed; the rest is computed anew.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import DataSet
from diffuscope.denoisers import Denoiser
from diffuscope.distributed import rank, require_same, sharing
from diffuscope.files import sole_writer
from diffuscope.memory import require_memory
from diffuscope.progress import progress_bar
from diffuscope.store import Store

from . import questions
from .fingerprint import fingerprint
from .guided import with_guidance
from .model_card import python_call
from .more_questions import questions_about
from .named_features import require_space
from .no_model import NoModel
from .one_step import with_samples
from .originals import Originals
from .question import not_answered
from .result import AuditResult, versions
from .second_model import SecondModel, as_second, require_second
from .session import Session
from .subject import Settings, Subject, require_samples
from .unmeasured import answer_in_words

SAME = {  # in all processes, of what stages depend on (answers may differ in rounding), by the argument
    "code": "code",
    "settings": "settings",
    "train": "train",
    "heldout": "heldout",
    "samples": "samples",
    "weights": "model",
}


def audit_model(
    subject: Subject,
    settings: Settings | None = None,
    *,
    out: Path | None = None,
    samples: torch.Tensor | None = None,
    second_model: SecondModel | Denoiser | None = None,
    progress: bool = False,
) -> AuditResult:
    """Audit a denoiser against its training data and held-out data.

    `samples`, if given, are audited in place of the model's own. With `out`, finished stages are stored in its `state`
    folder and an interrupted audit resumes. Memory: the data once in float32, plus under 1 GB.
    Of a model that declares `one_step = True` the samples are audited, drawn by one call each. Of a `Guided` denoiser
    samples and steps are audited, and its conditional denoiser for everything else.
    `second_model` was trained on other examples of the same distribution: do the two agree?
    Within `distributed.process_group()` all processes must call it, and share its work; within `distributed.alone()`
    one does all of it.
    Raises InputError where the models or the data cannot be audited.

    The exact optimum of the training loss gives back training examples:

    >>> from diffuscope import VE, Empirical, ExactDenoiser, audit_model
    >>> from diffuscope.audit import Settings, Subject
    >>> from diffuscope.data import toy_data
    >>> moons = toy_data("two-moons", n_train=100, n_heldout=100)
    >>> by_heart = ExactDenoiser(Empirical(moons.train), VE())
    >>> few = Settings(levels=4, points=8, trajectories=8, generated=50, components=1, step_seeds=8)
    >>> result = audit_model(Subject.of(by_heart, moons), few)
    >>> result.verdict.word, result.verdict.because[0]
    ('copies', 'memorized.verdict')
    """
    settings, given, second = settings or Settings(), samples is not None, as_second(second_model)
    with sharing():
        if second is not None:
            require_second(second, subject)
        subject, samples = with_samples(with_guidance(subject), settings, out, samples, progress)
        result = _audit(subject, settings, out, samples, progress, second)
    return replace(
        result, recipe=python_call(settings, has_model=True, samples_given=given, second_given=second is not None)
    )


def audit_samples(
    samples: Float[Tensor, "n *event"],
    data: DataSet,
    settings: Settings | None = None,
    *,
    out: Path | None = None,
    name: str = "samples",
    notes: tuple[str, ...] = (),
    originals: Originals | None = None,
    progress: bool = False,
) -> AuditResult:
    """Audit samples, in the range of the data, without the model that made them.

    Asked is what samples can tell: whether they are of these data, copies of training examples, as good and as diverse
    as held-out examples. `originals` are what latents are latents of. Raises InputError where samples or data cannot be
    audited.

    >>> from diffuscope import audit_samples
    >>> from diffuscope.data import toy_data
    >>> moons, more = toy_data("two-moons", n_train=100, n_heldout=100), toy_data("two-moons", n_train=50, seed=1)
    >>> audit_samples(more.train, moons).verdict.word
    'cannot-tell'
    """
    subject = Subject.of(NoModel(), data, name, notes, originals=originals)
    with sharing():
        return _audit(subject, settings or Settings(), out, samples, progress)


def _audit(
    subject: Subject,
    settings: Settings,
    out: Path | None,
    samples: torch.Tensor | None,
    progress: bool,
    second: SecondModel | None = None,
) -> AuditResult:
    about = questions_about(subject, questions.QUESTIONS)
    asked = [question for question in about if question.asked(subject.has_model)]
    numbers = (settings.levels + 2) * settings.generated * subject.train[0].numel()
    if subject.has_model:
        require_memory(4.0 * numbers, "generated", f"{settings.generated:,} samples with their trajectories")
    if samples is not None:
        require_samples(samples, like=subject.train)
    for name in settings.features:
        require_space(name, subject)
    with (
        progress_bar(desc="audit", unit="stage", disable=not progress or rank() > 0) as bar,
        nullcontext() if out is None or rank() > 0 else sole_writer(out),
    ):
        inputs = fingerprint(subject, settings, samples)
        require_same({SAME[name]: value for name, value in inputs.items() if name in SAME})
        store, answers = Store(out, inputs), {}
        session = Session(subject, settings, store=store, given=samples, second=second, progress=bar)
        bar.reset(session.shared_stages + sum(question.stages(session) for question in asked))
        for name in settings.features:
            if ":" in name:
                session.features(name)
        for question in asked:
            if question.left_out(session):
                continue
            broken = session.broken & question.needs
            answer = not_answered(question, session.broken) if broken else question.ask(session)
            if answer is not None:
                answers[question] = session.answers[question.name] = answer_in_words(answer)
        bar.n = bar.total
        bar.set_postfix_str("done")
    return AuditResult(
        subject=subject,
        settings=settings,
        levels=session.levels if subject.has_model else None,
        samples=None if "samples" in session.broken and samples is None else session.samples,
        answers=answers,
        versions=versions(),
        recipe=python_call(settings, has_model=subject.has_model, samples_given=samples is not None),
    )
