r"""Does the monitor stop a training where a whole audit first finds copies? 200 digits, several seeds.

8 x 8 digits as rows in [-1, 1], the default network and recipe of `train_denoiser`, a monitor with its default effort.
Every look's averaged weights are kept, and the training goes on for a third of its steps after the monitor said stop.
Then the whole audit's question of memorization (1,000 samples, default settings) is asked of the weights of every look
from 0.6 times that step on; copying is *first detectable* at the first of two looks in a row whose answer is an alarm,
and the whole audit is run there and at the stop. Overhead is the time of the looks over that of the steps.

    python benchmarks/monitor.py out/monitor 0 1    # seeds; rerun to resume
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import nn

from diffuscope.audit import QUESTIONS, Settings, Subject, audit_model
from diffuscope.audit.session import Session
from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Denoiser
from diffuscope.files import write_json
from diffuscope.monitor import Monitor, read_looks
from diffuscope.training import new_denoiser, recipe, train

EXAMPLES, STEPS, BATCH, EVERY, BEFORE, BEYOND = 200, 16_000, 64, 200, 0.6, 1.34


def digits(seed: int) -> DataSet:
    """200 training digits and all held-out ones, as rows."""
    data = load_data("digits", train_limit=EXAMPLES, seed=seed).in_range(-1.0, 1.0)
    return replace(data, train=data.train.flatten(1), heldout=data.heldout.flatten(1))


def watched(data: DataSet, seed: int, folder: Path) -> int:
    """Train and watch; the step at which the monitor said stop."""
    denoiser = new_denoiser(data.train, (-1.0, 1.0), seed)
    settings = recipe(denoiser.sigma_data, steps=STEPS, batch_size=BATCH, seed=seed)
    monitor = Monitor(data, every=EVERY, out=folder)
    began = time.monotonic()

    def look(step: int, made: Callable[[], nn.Module]) -> bool:
        if not monitor.is_due(step):
            return False
        averaged = made()
        torch.save(averaged.state_dict(), folder / f"{step}.pt")
        monitor(step, averaged)
        stops = [look.step for look in monitor.looks if look.stop]
        return bool(stops) and step >= BEYOND * stops[0]

    last = 0
    for progress in train(denoiser, data.train, settings, checkpoint=folder / "run.safetensors", save_every=20.0,
                          stop=look):  # fmt: skip
        last = progress.step
    spent = time.monotonic() - began
    print(f"seed {seed}: {last} steps; looks took {monitor.seconds:.0f} s of {spent:.0f} s in this call", flush=True)
    if not (folder / "time.json").exists():
        write_json({"looks": monitor.seconds, "all": spent, "steps": last}, folder / "time.json")
    monitor.report()
    return next(look.step for look in monitor.looks if look.stop)


def asked(data: DataSet, denoiser: Denoiser) -> tuple[str, float]:
    """The tone of the audit's verdict on memorization, and the share of copies."""
    (question,) = [question for question in QUESTIONS if question.name == "memorized"]
    answer = question.ask(Session(Subject.of(denoiser, data), Settings()))
    assert answer is not None
    (found,) = answer.result.copies.values()
    return answer.findings[0].tone, found.share


def measured(seed: int, out: Path) -> dict[str, object]:
    """Everything of one seed, kept in its folder as it is found."""
    folder = out / f"seed-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    data, kept = digits(seed), folder / "audits.json"
    stop = watched(data, seed, folder)
    answers = json.loads(kept.read_text()) if kept.exists() else {}
    denoiser = new_denoiser(data.train, (-1.0, 1.0), seed).eval()

    def of_step(step: int) -> Denoiser:
        denoiser.load_state_dict(torch.load(folder / f"{step}.pt", weights_only=True))
        return denoiser

    steps = [look.step for look in read_looks(folder / "monitor.jsonl") if look.step >= BEFORE * stop]
    first = None
    for step, after in pairwise(steps):
        for one in (step, after):
            if str(one) not in answers:
                answers[str(one)] = asked(data, of_step(one))
                print(f"seed {seed}, step {one}: {answers[str(one)]}", flush=True)
                write_json(answers, kept)
        if all(answers[str(one)][0] == "alarm" for one in (step, after)):
            first = step
            break
    words = {}
    for step in {stop, first} - {None}:
        if f"word {step}" not in answers:
            answers[f"word {step}"] = audit_model(Subject.of(of_step(step), data)).verdict.word
            write_json(answers, kept)
        words[step] = answers[f"word {step}"]
    return {
        "seed": seed,
        "stop": stop,
        "first_detectable": first,
        "ratio": None if first is None else stop / first,
        "whole_audit": words,
        "time": json.loads((folder / "time.json").read_text()),
    }


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python benchmarks/monitor.py FOLDER SEED [SEED ...]")
    where = Path(sys.argv[1])
    found = [measured(int(seed), where) for seed in sys.argv[2:]]
    write_json(found, where / "monitor.json")
    print(json.dumps(found, indent=2))
