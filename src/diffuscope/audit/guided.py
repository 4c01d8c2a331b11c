"""Guided models: what is asked of the guided denoiser, and what of the conditional one within it.

A denoiser D_w = D_u + w (D_c - D_u) with w other than 1 is the denoiser of no data (`denoisers.guidance`), on purpose.
Whether it is read rightly, what it learned, what its loss reveals and where that comes from are therefore asked of the
conditional denoiser D_c, and of D_w what people see of it: samples, copies among them, their quality and diversity, and
the number of steps.
"""

from dataclasses import replace

from diffuscope.denoisers import Denoiser, Guided
from diffuscope.errors import InputError
from diffuscope.samplers import is_one_step

from .subject import Subject

NOTE = (
    "guidance of scale {:g}: samples, copies, quality, diversity and steps are those of the guided model; wiring, "
    "denoising, membership and loss were asked of the conditional model without guidance, as a guided model is the "
    "denoiser of no data"
)


def with_guidance(subject: Subject) -> Subject:
    """`subject` with the conditional denoiser of a guided one in its place, and the guided one as `sampled`.

    Raises InputError for guidance of a one-step model, whose answers are samples and not means.
    """
    guided = subject.denoiser if subject.sampled is None else subject.sampled
    if not isinstance(guided, Guided):
        return subject
    conditional = guided.conditional if subject.sampled is None else subject.denoiser
    if guided.scale == 1:
        return replace(subject, denoiser=conditional, sampled=None)
    require_means(guided, guided.scale)
    notes = (*subject.notes, NOTE.format(guided.scale))
    return replace(subject, denoiser=conditional, sampled=guided, notes=notes)


def require_means(denoiser: Denoiser, scale: float | int) -> None:
    """Raises InputError for guidance of a one-step model, whose answers are samples and not means."""
    if is_one_step(denoiser):
        raise InputError(f"guidance: expected 1 for a one-step model, whose answers are no means, got {scale:g}")
