"""Checkpoints: a stopped run ends in the bits of the uninterrupted one, and no failure loses the former file."""

import dataclasses
import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from training_models import KILLED_SETTINGS, ConvolutionalDenoiser, SmallDenoiser, killed_log, vectors

from diffuscope.errors import InputError
from diffuscope.schedules import VE
from diffuscope.training import (
    EDMWeight,
    LogNormalNoise,
    LogUniformNoise,
    PlainWeight,
    Progress,
    TrainingSettings,
    read_distances,
    show_progress,
    train,
)

SETTINGS = TrainingSettings(steps=40, batch_size=16, warmup_steps=5, seed=3)
pytestmark = pytest.mark.usefixtures("one_thread")  # bit for bit holds for a fixed number of threads


@pytest.fixture(autouse=True)
def ctrl_c_interrupts():
    """As in a terminal, also where the tests run in the background and inherit an ignored SIGINT."""
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.safetensors"


def finished(denoiser: nn.Module, data: torch.Tensor, settings: TrainingSettings, checkpoint: Path | None) -> Progress:
    *_, last = train(denoiser, data, settings, checkpoint=checkpoint)
    return last


def assert_same_bits(denoiser: nn.Module, last: Progress, other: nn.Module, other_last: Progress) -> None:
    """Weights, buffers and average are equal in every bit, and so are the numbers of the last step."""
    state, other_state = denoiser.state_dict(), other.state_dict()
    assert state.keys() == other_state.keys()
    assert all(torch.equal(state[name], other_state[name]) for name in state)
    assert all(torch.equal(last.average[name], other_last.average[name]) for name in last.average)
    assert last == other_last


def small(seed: int) -> nn.Module:
    return SmallDenoiser(3, seed=seed)


def convolutional(seed: int) -> nn.Module:
    return ConvolutionalDenoiser(seed=seed)


@pytest.mark.parametrize("stop", [1, 4, 39])  # 50 examples, batches of 16: an epoch ends inside step 4
@pytest.mark.parametrize(
    ("network", "data"),
    [(small, vectors()), (convolutional, vectors(50, 32).reshape(50, 2, 4, 4))],
    ids=["mlp", "conv"],
)
def test_a_run_left_at_any_step_resumes_bit_for_bit(network, data, stop, path):
    whole = network(0)
    whole_last = finished(whole, data, SETTINGS, None)
    for progress in train(network(0), data, SETTINGS, checkpoint=path):
        if progress.step == stop:
            break
    resumed = network(1)  # other initial weights: they come from the checkpoint
    assert_same_bits(whole, whole_last, resumed, finished(resumed, data, SETTINGS, path))


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_moments_resumes_bit_for_bit_and_so_does_its_log(path, kills):
    """SIGKILL while it saves and logs every few steps: inside steps, writes and moves; then one uncaught Ctrl-C.

    The log is that of the uninterrupted run in every byte: no line twice, none missing, none half written.
    """
    program, log = Path(__file__).with_name("killed_run.py"), path.with_suffix(".jsonl")
    done = subprocess.run(
        [sys.executable, str(program), str(path), str(kills), "11"],
        capture_output=True,
        text=True,
        timeout=600,  # a guard, also on a busy machine
        check=False,
    )
    assert done.returncode == -signal.SIGINT, done.stderr
    assert "Exception ignored" not in done.stderr
    killed, step = map(int, done.stdout.split())
    assert killed == kills
    resumed, whole = SmallDenoiser(3, seed=99), SmallDenoiser(3, seed=0)
    run = train(resumed, vectors(), KILLED_SETTINGS, checkpoint=path, log=killed_log(log))
    assert next(run).step == step + 1
    *_, last = run
    whole_log = path.with_name("whole.jsonl")
    *_, whole_last = train(whole, vectors(), KILLED_SETTINGS, checkpoint=None, log=killed_log(whole_log))
    assert_same_bits(whole, whole_last, resumed, last)
    assert [d.step for d in read_distances(log)] == list(range(0, KILLED_SETTINGS.steps + 1, 4))
    assert log.read_bytes() == whole_log.read_bytes()
    # the remains of a killed write were taken over
    assert sorted(path.parent.iterdir()) == sorted([path, log, whole_log])


class Interrupted(SmallDenoiser):
    """Presses Ctrl-C `presses` times in the middle of step `at`."""

    def __init__(self, at: int, presses: int = 1) -> None:
        super().__init__(3)
        self.at, self.presses, self.calls = at, presses, 0

    def forward(self, x_t, t):
        self.calls += 1
        if self.calls == self.at:
            for _ in range(self.presses):
                signal.raise_signal(signal.SIGINT)
        return super().forward(x_t, t)


def test_ctrl_c_inside_a_step_ends_the_step_saves_and_resumes_bit_for_bit(path):
    handler = signal.getsignal(signal.SIGINT)
    steps = 0
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for progress in train(Interrupted(at=9), vectors(), SETTINGS, checkpoint=path):
            steps = progress.step
    assert steps == 8  # step 9 was finished and saved, not shown
    assert signal.getsignal(signal.SIGINT) is handler
    resumed, whole = SmallDenoiser(3, seed=1), SmallDenoiser(3)
    run = train(resumed, vectors(), SETTINGS, checkpoint=path)
    assert next(run).step == 10
    *_, last = run
    assert_same_bits(whole, finished(whole, vectors(), SETTINGS, None), resumed, last)


def test_a_second_ctrl_c_stops_at_once_and_saves_no_half_step(path):
    run = train(Interrupted(at=9, presses=2), vectors(), SETTINGS, checkpoint=path)
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert next(train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=path)).step == 1  # as saved at the start


def test_ctrl_c_in_the_callers_loop_saves_through_the_bar(path):
    bar = show_progress(train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=path))
    for _ in range(6):
        next(bar)
    with pytest.raises(KeyboardInterrupt):
        bar.throw(KeyboardInterrupt())
    assert next(train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=path)).step == 7


def test_a_finished_run_answers_once_and_changes_nothing(path):
    whole = SmallDenoiser(3)
    last = finished(whole, vectors(), SETTINGS, path)
    file = path.read_bytes()
    again = SmallDenoiser(3, seed=1)
    (only,) = train(again, vectors(), SETTINGS, checkpoint=path)
    assert_same_bits(whole, last, again, only)
    assert path.read_bytes() == file


def refuse_to_flush(monkeypatch) -> None:
    def full(descriptor: int) -> None:
        del descriptor
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)


def allow_few_bytes(monkeypatch) -> None:
    """The kernel itself cuts the write off in the middle."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    monkeypatch.setattr(signal, "SIGXFSZ", signal.SIGXFSZ)  # Python ignores that signal: the write answers EFBIG


@pytest.mark.parametrize(
    ("failure", "reason"), [(refuse_to_flush, "No space left on device"), (allow_few_bytes, "File too large")]
)
def test_a_full_disk_stops_in_one_line_with_the_former_checkpoint_intact_and_no_litter(
    failure, reason, path, monkeypatch
):
    run = train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=path, save_every=0.0)
    for _ in range(5):
        next(run)
    file, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    failure(monkeypatch)
    try:
        with pytest.raises(
            InputError, match=rf"checkpoint: cannot write .*: {reason}; .* of step 5 is intact"
        ) as caught:
            next(run)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == file
    assert list(path.parent.iterdir()) == [path]
    resumed, whole = SmallDenoiser(3, seed=1), SmallDenoiser(3)
    last = finished(resumed, vectors(), SETTINGS, path)
    assert_same_bits(whole, finished(whole, vectors(), SETTINGS, None), resumed, last)


def begun(path: Path) -> None:
    run = train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=path)
    next(run)
    run.close()


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"steps": 41}, "steps = 40, this run has 41"),
        ({"batch_size": 8}, "batch_size = 16, this run has 8"),
        ({"learning_rate": 2e-3}, "learning_rate = 0.001, this run has 0.002"),
        ({"seed": 4}, "seed = 3, this run has 4"),
        ({"noise": LogUniformNoise()}, "noise = LogNormalNoise, this run has LogUniformNoise"),
        ({"noise": LogNormalNoise(std=1.0)}, "noise.std = 1.2, this run has 1.0"),
        ({"weight": PlainWeight()}, "weight = EDMWeight, this run has PlainWeight"),
        ({"weight": EDMWeight(1.0)}, "weight.data_std = 0.5, this run has 1.0"),
    ],
)
def test_resuming_with_other_settings_names_the_field_that_differs(change, name, path):
    begun(path)
    file = path.read_bytes()
    with pytest.raises(InputError, match=name):
        train(SmallDenoiser(3), vectors(), dataclasses.replace(SETTINGS, **change), checkpoint=path)
    assert path.read_bytes() == file


def one_value_changed() -> torch.Tensor:
    data = vectors()
    data[49, 2] += 1e-6
    return data


def another_schedule() -> nn.Module:
    denoiser = SmallDenoiser(3)
    denoiser.schedule = VE(sigma_max=100.0)
    return denoiser


@pytest.mark.parametrize(
    ("denoiser", "data", "name"),
    [
        (SmallDenoiser(3), one_value_changed(), "data.sha256"),
        (SmallDenoiser(3), vectors(49), "data.shape"),
        (SmallDenoiser(3), vectors().double(), "data.dtype"),
        (another_schedule(), vectors(), "schedule.sigma_max = 80.0, this run has 100.0"),
        (SmallDenoiser(3, hidden=31), vectors(), "another network: average/network.0.bias is float32 \\(32,\\) there"),
        (ConvolutionalDenoiser(), vectors(), "another network"),
    ],
    ids=["one value", "fewer examples", "dtype", "schedule", "width", "architecture"],
)
def test_resuming_another_run_names_what_differs_and_leaves_the_network_alone(denoiser, data, name, path):
    begun(path)
    before = {key: value.clone() for key, value in denoiser.state_dict().items()}
    with pytest.raises(InputError, match=name):
        train(denoiser, data, SETTINGS, checkpoint=path)
    assert all(torch.equal(value, before[key]) for key, value in denoiser.state_dict().items())


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999], ids="{:.1%} of it".format)
def test_a_truncated_checkpoint_is_refused(share, path):
    begun(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=r"checkpoint: .* is damaged, it is cut off .*; delete this file"):
        train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=path)


def test_a_checkpoint_from_before_objectives_were_recorded_resumes_as_denoising(path):
    whole, resumed = SmallDenoiser(3), SmallDenoiser(3, seed=1)
    begun(path)
    with safe_open(path, framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    run = json.loads(header["run"])
    assert run.pop("objective") == "Denoising"
    del header["sha256"]  # older still
    save_file(tensors, path, header | {"run": json.dumps(run)})
    last = finished(resumed, vectors(), SETTINGS, path)
    assert_same_bits(whole, finished(whole, vectors(), SETTINGS, None), resumed, last)


@pytest.mark.parametrize("where", [0.2, 0.5, 0.9])
def test_one_flipped_bit_anywhere_in_a_checkpoint_is_found_and_the_line_says_which_file_to_delete(path, where):
    begun(path)
    content = bytearray(path.read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")  # of the tensors
    content[int(start + where * (len(content) - start))] ^= 16
    path.write_bytes(content)
    with pytest.raises(InputError, match=rf"checkpoint: {path} is damaged, .* checksum; delete this file to train"):
        finished(SmallDenoiser(3), vectors(), SETTINGS, path)


def test_foreign_files_are_refused(path):
    network = SmallDenoiser(3)
    torch.save(network.state_dict(), path)
    with pytest.raises(InputError, match="not a safetensors file"):
        train(network, vectors(), SETTINGS, checkpoint=path)
    save_file(network.state_dict(), path)
    with pytest.raises(InputError, match="is not a training checkpoint"):
        train(network, vectors(), SETTINGS, checkpoint=path)


def test_a_checkpoint_that_cannot_be_written_is_refused_before_the_first_step(tmp_path):
    for impossible in (tmp_path, tmp_path / "absent" / "run.safetensors"):
        with pytest.raises(InputError, match="checkpoint: expected a file in an existing folder"):
            train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=impossible)
