"""One measured statement of an audit: a number, its uncertainty, its null, and the verdict in one sentence."""

from dataclasses import asdict, dataclass
from typing import Literal

Tone = Literal["good", "attention", "alarm", "neutral"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A number with everything needed to judge it.

    `interval` holds the number with probability `confidence`; `null` says in words what would be seen if there were
    nothing to find, and `p_value` how surprising the number is under it; `power` says what could have been detected.
    """

    name: str  # dotted and stable, for machines: "memorized.copies"
    title: str  # for people: "Generated samples that copy a training example"
    value: float
    unit: str
    verdict: str  # one sentence in plain language
    tone: Tone
    interval: tuple[float, float] | None = None
    confidence: float = 0.95
    null: str = ""
    p_value: float | None = None
    power: str = ""

    def as_json(self) -> dict[str, object]:
        """The finding as plain JSON types."""
        return asdict(self)
