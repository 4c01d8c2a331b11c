"""Whatever part a test answers: its claims have the stated bounds, and bands hold their lines."""

import pytest
from stated import misstated, outside_of_its_band, stated

from diffuscope.experiments import Answer, Experiment


@pytest.fixture(autouse=True)
def _claims_are_as_stated(monkeypatch):
    """The claims and charts of every answer, as a test asks for it."""
    answer = Experiment.answer

    def checked(self: Experiment, name: str, seed: int = 0) -> Answer:
        found = answer(self, name, seed)
        known = stated().get(self.name)
        wrong = {c.name: b for c in found.claims if known and (b := misstated(c, known.of_claim(c.name)))}
        assert wrong == {}
        assert [place for chart in found.charts for place in outside_of_its_band(chart)] == []
        return found

    monkeypatch.setattr(Experiment, "answer", checked)
