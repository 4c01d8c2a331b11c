"""The questions of an audit, in the order of its page."""

from ..question import Question
from .diagnostics import DIAGNOSTICS
from .learned import LEARNED
from .loss import LOSS
from .memorized import MEMORIZED
from .quality import QUALITY
from .steps import STEPS

QUESTIONS: list[Question] = [MEMORIZED, LEARNED, LOSS, STEPS, QUALITY, DIAGNOSTICS]
