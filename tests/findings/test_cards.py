"""Findings in a notebook: small cards that say what the page says, escaped, readable in light and dark notebooks."""

import dataclasses
import re

import pytest

from diffuscope.findings import Finding, cards
from diffuscope.findings.finding import CARD_COLORS, TONE_WORDS

HOSTILE = "<script>alert('x')</script>&\"{{ 7 * 7 }}"
FOUND = Finding(
    name="quality.distance",
    title="How good are its samples?",
    value=1.2567,
    unit="x",
    verdict="Close to held-out data.",
    tone="good",
    interval=(1.1834, 1.3301),
    p_value=3.14e-6,
    power="A ratio of 1.4x would have been seen.",
)


def luminance(color: str) -> float:
    encoded = [int(color[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in encoded]
    return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_card_has_the_texts_of_the_page():
    card = FOUND._repr_html_()
    for words in ("Good: How good", "1.257x, 95% interval 1.183x to 1.330x, p = 3.1 × 10⁻⁶", "Close to", "1.4x would"):
        assert words in card


def test_a_p_value_that_underflows_is_not_said_to_be_zero():
    card = dataclasses.replace(FOUND, p_value=0.0)._repr_html_()
    assert "1.330x, p &lt; 10⁻³⁰⁰<" in card


def test_several_findings_are_several_cards_in_their_order():
    second = Finding(name="a", title="Second", value=3.0, unit="", verdict="v", tone="neutral")
    assert cards([FOUND, second]) == FOUND._repr_html_() + second._repr_html_()
    assert "Informational: Second" in second._repr_html_()
    assert "interval" not in second._repr_html_()
    assert "p =" not in second._repr_html_()


@pytest.mark.parametrize("field", ["title", "verdict", "power", "unit"])
def test_a_hostile_name_is_shown_as_it_is(field):
    card = dataclasses.replace(FOUND, **{field: HOSTILE})._repr_html_()
    assert "<script" not in card
    assert "&lt;script&gt;" in card
    assert set(re.findall(r"</?([a-z]+)", card)) == {"div", "strong", "br"}


@pytest.mark.parametrize("tone", TONE_WORDS)
def test_the_edge_of_a_card_stands_out_and_its_text_has_the_notebooks_color(tone):
    """WCAG asks 3:1 of graphics; white and the black of common dark themes are the two ends."""
    edge = luminance(CARD_COLORS[tone])
    assert (1.0 + 0.05) / (edge + 0.05) >= 3
    assert (edge + 0.05) / (luminance("#1e1e1e") + 0.05) >= 3
    style = Finding(name="a", title="t", value=1.0, unit="", verdict="v", tone=tone)._repr_html_()
    assert not re.search(r"(?<!-)color:|background", style)
