"""The section for model cards: its numbers are those of audit.json, names are inert, and what it says to run runs."""

import json
import re
import shlex
import subprocess
from dataclasses import replace

import pytest
from made_by_hand import other_tools_are_quick, plane  # noqa: F401

from diffuscope.audit import AuditResult, Settings, audit_samples
from diffuscope.audit.model_card import Recipe, command_line, inert, python_call
from diffuscope.cli import main
from diffuscope.data import DataSet, data_from_arrays
from diffuscope.findings import numbers

HOSTILE = "a|b`c`\n# d\r\n---\n<script>alert(1)</script> ![x](http://y.z) **e** www.y.z ~~f~~ $$g$$ \u202eh\u2028i &lt;"
QUICK = Settings(generated=100, seed=3)


@pytest.fixture(scope="module")
def data() -> DataSet:
    return data_from_arrays(plane(150, 0).numpy(), plane(150, 1).numpy())


@pytest.fixture(scope="module")
def result(data) -> AuditResult:
    return audit_samples(plane(100, 2), data, QUICK, name=HOSTILE, notes=(HOSTILE,))


def words_of(text: str) -> set[str]:
    """The numbers in a text, whatever their separators and signs."""
    return {found.replace(",", "").lstrip("0") for found in re.findall(r"\d[\d,]*(?:\.\d+)?", text)}


def formatted(stored: dict) -> str:
    """The numbers of audit.json as a reader sees them: those of findings with the decimals that they deserve."""
    texts = [json.dumps(stored, ensure_ascii=False)]
    for finding in (f for of_question in stored["findings"].values() for f in of_question):
        value = float("nan") if finding["value"] is None else finding["value"]
        interval = None if finding["interval"] is None else tuple(finding["interval"])
        texts += numbers.measurement(value, interval, finding["unit"])
        texts.append(f"{100 * finding['confidence']:g}")
        if finding["p_value"] is not None:
            texts.append(numbers.p_value(finding["p_value"]))
    return " ".join(texts)


def test_every_number_of_the_card_is_in_the_json(result, tmp_path):
    report = result.save(tmp_path)
    card = report.with_name("model-card.md").read_text()
    assert card == result.model_card()
    stored = json.loads(report.with_name("audit.json").read_text())
    shown = re.sub(r"&#\d+;", " ", card)  # character references are no numbers
    assert words_of(shown) - words_of(formatted(stored)) == set()
    for finding in result.verdicts:  # and the other way around
        value, interval = numbers.measurement(finding.value, finding.interval, finding.unit)
        assert value in card or finding.value != finding.value
        assert interval in card
    assert f"150 training and 150 held-out examples, {stored['audited_samples']} samples" in card


def test_the_card_says_what_was_not_asked(result):
    (line,) = [line for line in result.model_card().splitlines() if line.startswith("- Not asked")]
    assert "Does it reveal who was in its training data?" in line
    assert "Did it memorize?" not in line


def test_hostile_names_stay_text(result):
    """No pipe but those of the table, no line of its own, no tag, link, code or mathematics."""
    card = result.model_card()
    body = card[: card.index("To repeat it")]
    rows = [line for line in body.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(result.verdicts)
    assert {line.count("|") for line in rows} == {6}
    assert not re.search(r"[<>`\\\[\]~$!\u202e\u2028]|&(?!#)|http:|www\.", body)
    assert [line for line in body.splitlines() if line.startswith("#")] == ["## Audit"]
    assert not any(line.startswith(("---", " ", "\t", "=")) for line in body.splitlines())
    assert body.count("**") == 2


def test_a_character_reference_stands_for_the_character():
    from html import unescape

    for character in "&<>|`*_[]\\~$#!@^{}":
        assert unescape(inert(f"a{character}b")) == f"a{character}b"
        assert character in "&#" or character not in inert(character)
    assert inert("95% of 1.5x: (a, b) = 'c'") == "95% of 1.5x: (a, b) = 'c'"


@pytest.mark.parametrize("word", ["plain", "a b", "it's", "a\nb", "a\\\n'b", "`x` $y", "```", "\u202eé\t", HOSTILE])
def test_a_word_of_the_command_is_read_by_the_shell_as_it_was_typed(word):
    text = command_line(["printf", "%s", word]).text
    assert text.isprintable()
    shown = subprocess.run(["bash", "-c", text], capture_output=True, check=True, env={"LC_ALL": "C.UTF-8"}).stdout
    assert shown.decode() == word


def test_a_fence_is_longer_than_the_backticks_inside(result):
    card = replace(result, recipe=Recipe("console", "echo '````'")).model_card()
    assert card.splitlines()[-3:] == ["`````console", "echo '````'", "`````"]


def test_the_python_of_the_card_gives_the_same_verdict(result, data):
    (code,) = re.findall(r"```python\n(.*?)```", result.model_card(), re.DOTALL)
    *first, last = code.strip().splitlines()
    names = {"samples": plane(100, 2), "data": data}
    exec(compile("\n".join([*first, f"again = {last}"]), "card", "exec"), names)
    again = names["again"]
    assert isinstance(again, AuditResult)
    assert again.verdict == result.verdict
    with_model = python_call(Settings(), has_model=True, samples_given=True).text
    assert with_model == "from diffuscope.audit import audit_model\n\naudit_model(subject, samples=samples)"


def test_the_command_of_the_card_runs_and_gives_the_same_findings(tmp_path, monkeypatch):
    """Files with a space in their names, from the folder that holds them."""
    monkeypatch.chdir(tmp_path)
    for name, seed in (("train", 0), ("held out", 1), ("samples", 2)):
        (tmp_path / f"{name}.csv").write_text(
            "a,b\n" + "\n".join(f"{x:.4f},{y:.4f}" for x, y in plane(60, seed).tolist()) + "\n"
        )
    main(shlex.split("audit --data train.csv --heldout 'held out.csv' --samples samples.csv --generated 50 --out one"))
    (command,) = re.findall(r"```console\n(.*?)\n```", (tmp_path / "one/model-card.md").read_text(), re.DOTALL)
    assert "'held out.csv'" in command
    words = shlex.split(command.replace("--out one", "--out two"))
    assert words[0] == "diffuscope"
    main(words[1:])
    one, two = (json.loads((tmp_path / name / "audit.json").read_text()) for name in ("one", "two"))
    assert one["findings"] == two["findings"]
    assert one["repeat"] == {"language": "console", "text": command}
