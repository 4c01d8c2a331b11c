"""Findings whose numbers could not all be measured say so in words: no sentence of an audit has a number that is none.

Questions give their reasons where they know them; this is for the rest, and for questions of one's own.
"""

import math
import re
from dataclasses import replace

from diffuscope.findings import Finding

from .question import Answer

REASON = "a number that this rests on could not be measured"
NONE = re.compile(r"(?<![\w'\"“])[+−-]?(?:nan|inf)(?![\w'\"”])|(?<!['\"“])not available")  # but for names in quotes


def in_words(finding: Finding) -> Finding:
    """The finding without NaN, infinite shares and their intervals, and without sentences that have such a number.

    Nothing is good that could not be measured, nor whose power could not.

    >>> from diffuscope.findings import Finding
    >>> found = Finding(name="a", title="A", value=math.nan, unit="%", verdict=f"It is {math.nan:.0%}.", tone="good")
    >>> print(in_words(found).verdict, in_words(found).tone)
    Cannot tell: a number that this rests on could not be measured. unknown
    """
    no_share = finding.unit == "%" and math.isinf(finding.value)
    interval = finding.interval
    if interval is not None and not all(map(math.isfinite if finding.unit == "%" else _known, interval)):
        interval = None
    p_value = finding.p_value if finding.p_value is not None and math.isfinite(finding.p_value) else None
    said, power, null = (not NONE.search(text) for text in (finding.verdict, finding.power, finding.null))
    found = replace(
        finding,
        value=math.nan if no_share else finding.value,
        interval=interval,
        p_value=p_value,
        power=finding.power if power else f"None: {REASON}.",
        null=finding.null if null else "",
    )
    if not said:
        return replace(found, verdict=f"Cannot tell: {REASON}.", tone="alarm" if finding.tone == "alarm" else "unknown")
    if not power and finding.tone == "good":
        return replace(found, verdict=f"Cannot tell: {REASON}. {finding.verdict}", tone="unknown")
    return found


def answer_in_words(answer: Answer) -> Answer:
    """The answer with all its findings `in_words`."""
    return replace(answer, findings=[in_words(finding) for finding in answer.findings])


def _known(value: float) -> bool:
    return not math.isnan(value)
