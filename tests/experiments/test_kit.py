"""The kit of experiments: parts, streams, outcomes, and the list of all experiments."""

import re
from pathlib import Path

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.experiments import NAMES, SOURCES, Experiment, Outcome, Part, find, of_source
from diffuscope.findings import Claim, at_most

WHY = {"because": "rounding", "source": "derived"}


def empty(name: str = "two-parts") -> Experiment:
    return Experiment(name=name, title="t", question="q", source="s", seconds=1)


def two_parts() -> Experiment:
    experiment = empty()

    @experiment.part("?")
    def first(part: Part) -> str:
        part.at_most("one", "a", float(torch.rand((), generator=part.generator)), 1.0, "rounding")
        return "drawn"

    @experiment.part("?")
    def second(part: Part) -> str:
        part.at_most("two", "a", float(torch.rand((), generator=part.generator)), 1.0, "rounding", source="derived")
        return "drawn"

    return experiment


def test_a_part_gives_the_same_answer_alone_and_in_company_and_the_seed_decides_it():
    experiment = two_parts()
    together = experiment.run(seed=7)
    assert experiment.answer("second", 7).claims[0].value == together.claims[1].value
    assert experiment.answer("first", 7).claims[0].value == together.claims[0].value
    assert all(
        one.value != other.value for one, other in zip(experiment.run(seed=8).claims, together.claims, strict=True)
    )


def test_a_claim_has_the_experiments_source_unless_another_is_given():
    assert [claim.source for claim in two_parts().run().claims] == ["s", "derived"]


def test_the_closest_claim_is_the_one_that_uses_most_room_and_failures_are_listed():
    claims = (at_most("far", "a", 0.1, 1.0, **WHY), at_most("near", "a", 0.9, 1.0, **WHY))
    failing = at_most("failing", "a", 1.5, 1.0, **WHY)

    def outcome(*claims: Claim) -> Outcome:
        experiment = empty("x")

        @experiment.part("?")
        def one(part: Part) -> str:
            part.claims.extend(claims)
            return ""

        return experiment.run()

    assert outcome(*claims).closest.name == "near"
    assert outcome(*claims).failures == ()
    assert outcome(*claims, failing).failures == (failing,)
    with pytest.raises(InputError, match="name of its own"):
        outcome(claims[0], claims[0])
    with pytest.raises(InputError, match="at least one"):
        outcome()


def test_names_are_words_and_unique():
    for name in ("", "Big", "two words", "dot.dot", "-a", "a--b"):
        with pytest.raises(InputError, match="small letters"):
            empty(name)
    experiment = two_parts()
    with pytest.raises(InputError, match="'second' already"):
        experiment.part("?")(experiment.parts[1].answer)
    with pytest.raises(InputError, match="seed"):
        experiment.run(seed=-1)


def test_a_part_that_is_not_there_is_one_line():
    with pytest.raises(InputError, match=r"name: expected a part of heat-1d, one of .*, got 'froward'"):
        find("heat-1d").answer("froward")


def test_every_experiment_has_its_name_a_source_and_a_stated_cost():
    assert len(set(NAMES)) == len(NAMES)
    for name in NAMES:
        experiment = find(name)
        assert experiment.name == name
        assert experiment.source
        assert experiment.question.endswith("?")
        assert 0 < experiment.seconds <= 120
        assert experiment.parts


def test_the_page_of_the_documentation_lists_every_experiment_and_how_long_it_takes():
    page = (Path(__file__).parents[2] / "docs" / "reproduce.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z0-9-]+)` \| .+ \| (\d+) \|$", page, re.MULTILINE)
    assert sorted(listed) == sorted((name, str(find(name).seconds)) for name in NAMES)


def test_every_source_has_experiments_and_none_belongs_to_two():
    listed = [name for source in SOURCES for name in of_source(source)]
    assert len(set(listed)) == len(listed)
    assert all(of_source(source) for source in SOURCES)
    assert of_source("cao") == ("reverse-family", "support", "fixed-start", "finite-data", "entropy")


def test_the_articles_experiments_come_in_its_order():
    numbers = [re.findall(r"experiment (\d)", find(name).source)[0] for name in of_source("article")]
    assert numbers == sorted(numbers)
    assert set(numbers) == {"1", "2", "3", "4"}


def test_an_unknown_name_is_answered_with_the_nearest_or_all():
    with pytest.raises(InputError, match="did you mean fixed-start"):
        find("fixedstart")
    with pytest.raises(InputError, match=r"expected one of .*support"):
        find("zzzzzz")
