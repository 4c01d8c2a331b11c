"""`diffuscope train --audit-every --stop-on`: looks, a stop that stays, and messages."""

import json

import numpy as np
import pytest
import torch

from diffuscope import cli
from diffuscope.denoisers import load_denoiser
from diffuscope.monitor import Look, read_looks

STOP = 4


@pytest.fixture
def vectors(tmp_path):
    path = tmp_path / "vectors.npy"
    np.save(path, np.random.default_rng(0).normal(size=(200, 8)).clip(-4.9, 4.9).astype(np.float32))
    return str(path)


def train(vectors: str, out, *more: str) -> None:
    cli.main(["train", "--data", vectors, "--train-steps", "6", "--log-every", "0", "--out", str(out), *more])


class Looks:
    """Looks that take no time: the model copies from step STOP on."""

    def __init__(self, *_: object) -> None:
        pass

    def __call__(self, denoiser, step: int, look: int, level: float, *, stops: bool) -> Look:
        assert isinstance(denoiser, torch.nn.Module)
        copies = step >= STOP
        return Look(step=step, look=look, word="copies" if copies else "not-detected", sentence=f"look {look}.",
                    stop=stops and copies, copied=float(copies), level=level, detectable={"exact": 0.1})  # fmt: skip


def test_a_look_is_taken_and_the_page_written(vectors, tmp_path, capsys):
    train(vectors, tmp_path / "out", "--audit-every", "3")
    said = capsys.readouterr().out
    assert "step 3: " in said
    assert "step 6: " in said
    assert f"Looks while training: {tmp_path / 'out' / 'monitor.html'}" in said
    looks = read_looks(tmp_path / "out" / "monitor.jsonl")
    assert [look.step for look in looks] == [3, 6]
    # an untrained network is the denoiser of a Gaussian, which copies nothing
    assert {look.word for look in looks} <= {"not-detected", "cannot-tell"}
    assert not any(look.stop for look in looks)


def test_the_run_stops_stays_stopped_and_goes_on_without_the_option(vectors, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("diffuscope.monitor.callback.Looking", Looks)
    out = tmp_path / "out"
    train(vectors, out, "--audit-every", "2", "--stop-on", "copies")
    assert "Stopped at step 4: copying has begun" in capsys.readouterr().out
    stopped = load_denoiser(out / "model.safetensors").state_dict()
    train(vectors, out, "--audit-every", "2", "--stop-on", "copies")
    assert "Stopped at step 4: copying has begun" in capsys.readouterr().out
    again = load_denoiser(out / "model.safetensors").state_dict()
    assert all(torch.equal(stopped[name], again[name]) for name in stopped)
    assert [look.step for look in read_looks(out / "monitor.jsonl")] == [2, 4]
    train(vectors, out, "--audit-every", "2")
    assert "Stopped" not in capsys.readouterr().out
    assert [look.step for look in read_looks(out / "monitor.jsonl")] == [2, 4, 6]
    onward = load_denoiser(out / "model.safetensors").state_dict()
    train(vectors, tmp_path / "whole")
    whole = load_denoiser(tmp_path / "whole" / "model.safetensors").state_dict()
    assert all(torch.equal(onward[name], whole[name]) for name in whole)
    assert not all(torch.equal(stopped[name], whole[name]) for name in whole)


def test_a_run_from_the_start_has_a_log_of_its_own(vectors, tmp_path, monkeypatch):
    monkeypatch.setattr("diffuscope.monitor.callback.Looking", Looks)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "monitor.jsonl").write_text('{"format": "of an earlier run"}\n')
    train(vectors, tmp_path / "out", "--audit-every", "3")
    lines = (tmp_path / "out" / "monitor.jsonl").read_text().splitlines()
    assert [json.loads(line).get("step") for line in lines] == [None, 3, 6]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--stop-on", "copies"), "--stop-on: expected --audit-every as well"),
        (("--audit-every", "-1"), "--audit-every: expected a whole number from 0 to 1,000,000,000, got -1"),
        (("--audit-every", "7"), "--audit-every: expected at most --train-steps, 6, as no look would be due; got 7"),
        (("--audit-every", "2", "--forecast"), "--forecast: expected without --audit-every, got 2"),
    ],
)
def test_mistakes_are_one_line(vectors, tmp_path, capsys, words, line):
    with pytest.raises(SystemExit) as ended:
        train(vectors, tmp_path / "out", *words)
    assert ended.value.code == 2
    assert line in capsys.readouterr().err
