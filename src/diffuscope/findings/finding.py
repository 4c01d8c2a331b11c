"""One measured statement: a number, its uncertainty, the null hypothesis, and the verdict in one sentence."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from html import escape
from typing import Literal

from . import numbers

Tone = Literal["good", "attention", "alarm", "unknown", "neutral"]
TONE_WORDS: dict[Tone, str] = {
    "good": "Good",
    "attention": "Attention",
    "alarm": "Alarm",
    "unknown": "Cannot tell",
    "neutral": "Informational",
}
CARD_COLORS: dict[Tone, str] = {  # of the edge, visible on white and on black
    "good": "#2e8b57",
    "attention": "#b7791f",
    "alarm": "#d0443a",
    "unknown": "#7b6fb0",
    "neutral": "#7a8594",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A number with everything needed to judge it.

    `interval` is its confidence interval at level `confidence`, `null` the null hypothesis in words, `p_value` the
    p-value under it, and `power` states which effect would have been detected.

    >>> from diffuscope.findings import Finding
    >>> found = Finding(name="quality.ratio", title="How good is it?", value=1.257, unit="x", verdict="Close.",
    ...                 tone="good", interval=(1.18, 1.33), p_value=0.0312)
    >>> found.measured  # to the second digit of half the interval, 0.075
    '1.257x, 95% interval 1.180x to 1.330x, p = 0.031'
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

    @property
    def measured(self) -> str:
        """The value, its interval and its p-value, as they are printed."""
        value, interval = numbers.measurement(self.value, self.interval, self.unit)
        facts = [value]
        if interval:
            facts.append(f"{100 * self.confidence:g}% interval {interval}")
        if self.p_value is not None:
            facts.append(f"p {numbers.p_relation(self.p_value)}")
        return ", ".join(facts)

    def as_json(self) -> dict[str, object]:
        """The finding as plain JSON types."""
        return asdict(self)

    def _repr_html_(self) -> str:
        return cards([self])


def cards(findings: Iterable[Finding]) -> str:
    """HTML cards for a notebook, one below the other: verdict, value with its interval, power; all text is escaped.

    Text has the notebook's own color, so that cards are readable in light and dark notebooks.

    >>> from diffuscope.findings import Finding, cards
    >>> "Alarm: x &lt; y" in cards([Finding(name="a", title="x < y", value=2.0, unit="", verdict="v", tone="alarm")])
    True
    """
    return "".join(map(_card, findings))


def _card(finding: Finding) -> str:
    lines = [finding.verdict, finding.measured, finding.power]
    edge = f"border: 1px solid #8888; border-left: 5px solid {CARD_COLORS[finding.tone]}; border-radius: 4px"
    heading = f"<strong>{TONE_WORDS[finding.tone]}: {escape(finding.title)}</strong>"
    text = "".join(f"<br>{escape(text)}" for text in lines if text)
    return f'<div style="{edge}; padding: 0.5em 0.9em; margin: 0.5em 0; max-width: 48em">{heading}{text}</div>'
