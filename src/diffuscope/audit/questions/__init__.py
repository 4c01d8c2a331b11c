"""The questions of an audit: each is the QUESTION of the module of its name; NAMES is their order on the page."""

from importlib import import_module

from ..question import Question

NAMES = (
    "wiring", "samples", "memorized", "membership", "learned", "loss", "generalizes", "agreement", "steps", "order",
    "quality", "diversity", "diagnostics",
)  # fmt: skip
QUESTIONS: list[Question] = [import_module(f".{name}", __name__).QUESTION for name in NAMES]
