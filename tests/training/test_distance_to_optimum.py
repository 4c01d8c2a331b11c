"""The distance to the optimum: closed forms, what it bounds, and the log that records it."""

import math
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import monte_carlo
from training_models import ConvolutionalDenoiser, SmallDenoiser, vectors

from diffuscope.cli import main
from diffuscope.denoisers import ExactDenoiser
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow
from diffuscope.training import DistanceLog, Optimum, TrainingSettings, fit, read_distances, squared_errors, train

SETTINGS = TrainingSettings(steps=30, batch_size=16, warmup_steps=5, seed=3)
pytestmark = pytest.mark.usefixtures("one_thread")  # bit for bit holds for a fixed number of threads


def gaussian_points(n: int, d: int, v: float, seed: int) -> torch.Tensor:
    return math.sqrt(v) * vectors(n, d, seed).double()


class Scaling(torch.nn.Module):
    """D = a x_t, in float64."""

    def __init__(self, schedule, a: float) -> None:
        super().__init__()
        self.schedule = schedule
        self.a = torch.nn.Parameter(torch.tensor(a, dtype=torch.float64))

    def forward(self, x_t, t):
        del t
        return self.a * x_t


@pytest.mark.parametrize("schedule", [VE(), VP(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
def test_the_memorizer_has_no_excess_on_training_data_and_the_stated_one_on_heldout_data(schedule):
    data, unseen = gaussian_points(40, 3, 1.0, 1), gaussian_points(30, 3, 1.0, 2)
    memorizer = ExactDenoiser(Empirical(data), schedule)
    distance = Optimum.of(memorizer, data, unseen=unseen, noise_to_signal=(0.1, 0.5, 3.0)).distance(memorizer, 7)
    assert distance.step == 7
    for level in distance.levels:
        assert level.train.excess < 1e-20
        assert level.train.memorizer == 0
        assert level.unseen is not None
        assert level.unseen.excess == pytest.approx(level.unseen.memorizer, rel=1e-12)
    at_small_noise = distance.levels[0].unseen
    assert at_small_noise is not None
    assert at_small_noise.excess > 0.05  # the nearest training point is not the held-out one


def test_of_a_single_example_all_loss_is_excess_in_closed_form():
    """D* = y whatever x_t, so the excess of D = 0 is |y|^2 / d and nothing is irreducible."""
    y = torch.tensor([[3.0, -1.0, 2.0]], dtype=torch.float64)
    distance = Optimum.of(Scaling(VE(), 0.0), y, noise_to_signal=(0.5, 2.0)).distance(Scaling(VE(), 0.0), 0)
    for level in distance.levels:
        assert level.train.excess == pytest.approx(14 / 3, rel=1e-14)
        assert level.train.irreducible == 0
        assert level.unseen is None
    assert distance.unseen is None


def test_of_two_points_the_terms_are_those_of_the_hyperbolic_tangent():
    """Data +-1 on a line: D* = tanh(x/sigma^2) and Cov = sech^2(x/sigma^2); recomputed from the fixed noise itself."""
    data, sigma = torch.tensor([[-1.0], [1.0]], dtype=torch.float64).repeat(500, 1), 0.8
    optimum = Optimum.of(Scaling(VE(), 0.6), data, noise_to_signal=(sigma,), points=1000)

    class Seeing(Scaling):
        seen = torch.zeros(0, 1, dtype=torch.float64)

        def forward(self, x_t, t):
            self.seen = torch.cat([self.seen, x_t])
            return super().forward(x_t, t)

    denoiser = Seeing(VE(), 0.6)
    (level,) = optimum.distance(denoiser, 0).levels
    x = denoiser.seen
    assert len(x) == 1000
    excess = (0.6 * x - torch.tanh(x / sigma**2)).square()
    assert level.train.excess == pytest.approx(float(excess.mean()), rel=1e-12)
    assert level.train.irreducible == pytest.approx(float(torch.cosh(x / sigma**2).pow(-2).mean()), rel=1e-12)
    assert level.train.standard_error == pytest.approx(monte_carlo(excess).standard_error, rel=1e-12)


def test_excess_and_irreducible_add_up_to_the_denoising_loss():
    """Against the plain loss at fresh noise on the same 400 examples, 200 times each, within 4 joint errors."""
    data, t, n = gaussian_points(400, 2, 1.3, 4), 0.7, 80_000
    denoiser = Scaling(VP(), 0.5)
    ratio = float(VP().noise_to_signal(t))
    (level,) = Optimum.of(denoiser, data, noise_to_signal=(ratio,), points=400).distance(denoiser, 0).levels
    generator = torch.Generator().manual_seed(9)
    noise = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        plain = monte_carlo(squared_errors(denoiser, data.repeat(200, 1), torch.full((n,), t).double(), noise))
    # the loss of 400 fixed draws: its error is at most that of the plain loss at as many draws
    error = math.hypot(plain.standard_error, plain.standard_error * math.sqrt(200))
    assert abs(level.train.loss - plain.mean) < 4 * error


def test_the_heldout_excess_exceeds_the_populations_by_what_is_gained_from_knowing_the_set():
    """E_H excess_H(D) = E_p|D - D_p|^2/d + R_p - E_H R_H for N(0, 1) and D = a x, over 120 sets of 6, within 4 errors.

    For a large set R_H is R_p = v sigma^2 / (v + sigma^2), up to the error (2/N)^(1/2) of its variance v: the bound
    closes.
    """
    sigma, a = 1.5, 0.2
    total = 1 + sigma**2
    population = (a - 1 / total) ** 2 * total + sigma**2 / total  # excess + R_p
    denoiser = Scaling(VE(), a)
    data = gaussian_points(6, 1, 1.0, 0)
    excess, irreducible = [], []
    for seed in range(120):
        unseen = gaussian_points(6, 1, 1.0, 1000 + seed)
        optimum = Optimum.of(denoiser, data, unseen=unseen, noise_to_signal=(sigma,), seed=seed)
        found = optimum.distance(denoiser, 0).levels[0].unseen
        assert found is not None
        excess.append(found.excess)
        irreducible.append(found.irreducible)
    gap = torch.tensor(excess) + torch.tensor(irreducible) - population
    assert monte_carlo(gap).agrees_with(0.0, standard_errors=4)
    assert sum(irreducible) / 120 < sigma**2 / total  # R_H < R_p: the bound is from above
    large = gaussian_points(4000, 1, 1.0, 5)
    (level,) = Optimum.of(denoiser, large, noise_to_signal=(sigma,), points=200).distance(denoiser, 0).levels
    error = (sigma**2 / total) ** 2 * math.sqrt(2 / 4000)
    assert abs(level.train.irreducible - sigma**2 / total) < 4 * error


def test_the_populations_denoiser_is_worse_than_the_memorizer_on_training_data_and_better_on_heldout_data():
    data, unseen = gaussian_points(60, 4, 1.0, 1), gaussian_points(60, 4, 1.0, 2)
    exact = ExactDenoiser(Gaussian.isotropic(torch.zeros(4, dtype=torch.float64), 1.0), VE())
    level = Optimum.of(exact, data, unseen=unseen, noise_to_signal=(0.3,)).distance(exact, 0).levels[0]
    assert level.unseen is not None
    assert level.train.excess > 3 * level.train.standard_error
    assert level.unseen.excess + 3 * level.unseen.standard_error < level.unseen.memorizer


def test_a_network_that_is_trained_comes_closer_to_the_optimum_at_every_level():
    data = vectors(200, 2)
    denoiser = SmallDenoiser(2)
    optimum = Optimum.of(denoiser, data, noise_to_signal=(0.2, 0.5, 1.0, 2.0))
    before = optimum.distance(denoiser, 0)
    settings = TrainingSettings(steps=300, batch_size=64, learning_rate=1e-2, average_decay=0.99)
    after = optimum.distance(fit(denoiser, data, settings), 300)
    for old, new in zip(before.levels, after.levels, strict=True):
        assert new.train.excess < old.train.excess
    assert after.train < 0.5 * before.train


def logged(denoiser, log: DistanceLog | None, *, checkpoint: Path | None = None, stop: int | None = None) -> list:
    progresses = []
    data = vectors() if isinstance(denoiser, SmallDenoiser) else vectors(50, 32).reshape(50, 2, 4, 4)
    for progress in train(denoiser, data, SETTINGS, checkpoint=checkpoint, log=log):
        progresses.append(progress)
        if progress.step == stop:
            break
    return progresses


def log_of(path: Path | None, every: int = 7) -> DistanceLog:
    optimum = Optimum.of(SmallDenoiser(3), vectors(), unseen=vectors(20, seed=8), noise_to_signal=(0.3, 1.0), points=16)
    return DistanceLog(optimum, every=every, path=path)


@pytest.mark.parametrize("model", [lambda: SmallDenoiser(3), ConvolutionalDenoiser], ids=["mlp", "batch norm"])
def test_a_logged_run_has_the_weights_and_buffers_of_an_unlogged_one(model, tmp_path):
    plain, watched = model(), model()
    logged(plain, None)
    data = vectors() if isinstance(plain, SmallDenoiser) else vectors(50, 32).reshape(50, 2, 4, 4)
    log = DistanceLog(Optimum.of(watched, data, noise_to_signal=(0.5,)), every=3, path=tmp_path / "log.jsonl")
    logged(watched, log)
    state, other = plain.state_dict(), watched.state_dict()
    assert all(torch.equal(state[name], other[name]) for name in state)
    assert watched.training


def test_the_log_holds_the_averaged_denoiser_at_the_start_every_so_often_and_at_the_end(tmp_path):
    path, denoiser = tmp_path / "log.jsonl", SmallDenoiser(3)
    log = log_of(path)
    progresses = logged(denoiser, log)
    distances = read_distances(path)
    assert [d.step for d in distances] == [0, 7, 14, 21, 28, 30]
    assert distances[0] == log.optimum.distance(SmallDenoiser(3), 0)
    for name, average in progresses[-1].average.items():
        denoiser.get_parameter(name).data.copy_(average)
    assert distances[-1] == log.optimum.distance(denoiser, 30)
    assert progresses[19].distance == distances[2]  # step 20 knows that of step 14
    assert progresses[-1].distance == distances[-1]


@pytest.mark.parametrize("stop", [1, 14, 29, 30])
@pytest.mark.parametrize(
    "remains", [b"", b'{"step": 14, "lev', b'{"step": 28, "levels": []}\n'], ids=["", "half", "late"]
)
def test_a_run_left_at_any_step_resumes_its_log_without_a_line_twice_or_missing(stop, remains, tmp_path):
    """Whatever a killed process left behind its last checkpoint: half a line, or lines of steps that are lost."""
    whole, path, checkpoint = tmp_path / "whole.jsonl", tmp_path / "log.jsonl", tmp_path / "run.safetensors"
    logged(SmallDenoiser(3), log_of(whole))
    logged(SmallDenoiser(3), log_of(path), checkpoint=checkpoint, stop=stop)
    if stop < 28 or not remains.endswith(b"\n"):
        path.write_bytes(path.read_bytes() + remains)
    logged(SmallDenoiser(3, seed=5), log_of(path), checkpoint=checkpoint)
    assert path.read_bytes() == whole.read_bytes()
    logged(SmallDenoiser(3, seed=5), log_of(path), checkpoint=checkpoint)  # a finished run adds nothing
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("train", ["5", "[]", "null", '"none"'])
def test_a_record_whose_excess_is_none_is_one_clear_line(train, tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(f'{{"step": 1, "levels": [{{"noise_to_signal": 0.5, "train": {train}, "unseen": null}}]}}\n')
    with pytest.raises(InputError, match=r"log: line 1 of .*log\.jsonl is no record of a distance"):
        read_distances(path)


def test_a_new_run_begins_a_new_log_and_a_file_of_something_else_is_left_alone(tmp_path):
    path = tmp_path / "log.jsonl"
    logged(SmallDenoiser(3), log_of(path))
    logged(SmallDenoiser(3, seed=1), log_of(path, every=15))
    assert [d.step for d in read_distances(path)] == [0, 15, 30]
    path.write_text("my notes\n")
    with pytest.raises(InputError, match=r"log: line 1 of .*log\.jsonl is no record of a distance"):
        logged(SmallDenoiser(3), log_of(path))
    assert path.read_text() == "my notes\n"


def test_a_log_that_cannot_be_written_costs_no_step(tmp_path):
    """The log's folder disappears at step 10: one line, and the checkpoint is that of the step."""
    folder, checkpoint = tmp_path / "logs", tmp_path / "run.safetensors"
    folder.mkdir()
    run = train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=checkpoint, log=log_of(folder / "log.jsonl"))
    for _ in range(10):
        next(run)
    (folder / "log.jsonl").unlink()
    folder.rmdir()
    with pytest.raises(InputError, match=r"log: cannot write .*log\.jsonl: No such file") as caught:
        list(run)
    assert "\n" not in str(caught.value)
    assert next(train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=checkpoint)).step == 15
    with pytest.raises(InputError, match="log: cannot write"):
        train(SmallDenoiser(3), vectors(), SETTINGS, checkpoint=None, log=log_of(folder / "log.jsonl"))


def test_a_denoiser_that_answers_infinity_is_logged_as_null(tmp_path):
    path = tmp_path / "log.jsonl"
    log = log_of(path)

    class Infinite(SmallDenoiser):
        def forward(self, x_t, t):
            return super().forward(x_t, t) * (1.0 if self.training else math.inf)

    logged(Infinite(3), log)
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    assert math.isnan(read_distances(path)[0].levels[0].train.excess)


def test_the_bar_shows_both_excesses(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    fit(SmallDenoiser(3), vectors(), SETTINGS, log=log_of(None))
    shown = capsys.readouterr().err
    assert "excess 0." in shown
    assert "(held-out 0." in shown


def test_tensorboard_gets_every_excess_once_and_forgets_what_a_killed_process_sent(monkeypatch, tmp_path):
    """Against a writer that records its calls: `purge_step` hides what lies beyond the checkpoint."""
    calls: list[tuple] = []

    class Recorder:
        def __init__(self, folder: str, purge_step: int) -> None:
            calls.append(("open", folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def close(self) -> None:
            calls.append(("close",))

    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Recorder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    folder, checkpoint = tmp_path / "board", tmp_path / "run.safetensors"
    log = DistanceLog(log_of(None).optimum, every=10, tensorboard=folder)
    logged(SmallDenoiser(3), log, checkpoint=checkpoint, stop=12)
    logged(SmallDenoiser(3), log, checkpoint=checkpoint)
    assert [call for call in calls if call[0] == "open"] == [("open", str(folder), 0), ("open", str(folder), 13)]
    assert calls[-1] == ("close",)
    sent = [(name, step) for name, _, step in (call for call in calls if len(call) == 3 and call[0] != "open")]
    assert len(sent) == len(set(sent)) == 8 * 4  # train and held-out, excess and loss, two levels; steps 0, 10, 20, 30
    truth = log.optimum.distance(SmallDenoiser(3), 0).levels[1].train
    assert ("excess/train/1", truth.excess, 0) in calls
    assert ("loss/train/1", truth.loss, 0) in calls


def test_tensorboard_itself_reads_the_events_of_a_resumed_run_without_a_step_twice(tmp_path):
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    checkpoint, folder = tmp_path / "run.safetensors", tmp_path / "board"
    log = DistanceLog(log_of(None).optimum, every=10, tensorboard=folder)
    logged(SmallDenoiser(3), log, checkpoint=checkpoint, stop=12)
    logged(SmallDenoiser(3), log, checkpoint=checkpoint)
    events = reader.EventAccumulator(str(folder))
    events.Reload()
    assert [event.step for event in events.Scalars("excess/train/0.3")] == [0, 10, 20, 30]


def test_tensorboard_is_asked_for_only_on_request_and_named_where_it_is_absent(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    logged(SmallDenoiser(3), log_of(tmp_path / "log.jsonl"))
    log = DistanceLog(log_of(None).optimum, tensorboard=tmp_path / "board")
    with pytest.raises(
        InputError, match=r"tensorboard: .* not installed; pip install 'diffuscope\[tensorboard\]'"
    ) as e:
        logged(SmallDenoiser(3), log)
    assert "\n" not in str(e.value)


def command(monkeypatch, folder: Path, *more: str) -> None:
    np.save(folder / "data.npy", vectors(40).numpy())
    given = ["--data", str(folder / "data.npy"), "--train-steps", "6", "--batch-size", "4", "--out", str(folder)]
    monkeypatch.setattr(sys, "argv", ["diffuscope", "train", *given, *more])
    main()


def test_the_command_writes_the_log_beside_the_model_or_not_at_all(monkeypatch, capsys, tmp_path):
    command(monkeypatch, tmp_path, "--log-every", "4")
    distances = read_distances(tmp_path / "distance.jsonl")
    assert [d.step for d in distances] == [0, 4, 6]
    assert all(level.unseen is not None for level in distances[0].levels)
    assert "distance.jsonl" in capsys.readouterr().out
    silent = tmp_path / "silent"
    silent.mkdir()
    command(monkeypatch, silent, "--log-every", "0")
    assert not (silent / "distance.jsonl").exists()
    with pytest.raises(SystemExit) as stopped:
        command(monkeypatch, silent, "--log-every", "-1")
    assert stopped.value.code == 2
    assert "--log-every: expected a whole number from 0 to 1,000,000,000, got -1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"points": 0}, "points: expected a whole number >= 1, got 0"),
        ({"noise_to_signal": ()}, "noise_to_signal: expected levels between 0.002 and 80"),
        ({"noise_to_signal": (1e-5,)}, "noise_to_signal: expected levels between 0.002 and 80"),
        ({"noise_to_signal": (math.nan,)}, "noise_to_signal: expected levels between 0.002 and 80"),
        ({"unseen": torch.zeros(3, 2)}, r"unseen: expected at least one example of shape \(3,\), got \(3, 2\)"),
        ({"unseen": torch.zeros(0, 3)}, r"unseen: expected at least one example of shape \(3,\), got \(0, 3\)"),
    ],
)
def test_bad_input_is_named(given, message):
    with pytest.raises(InputError, match=message):
        Optimum.of(SmallDenoiser(3), vectors(), **given)


def test_a_log_of_no_steps_is_refused():
    with pytest.raises(InputError, match="every: expected a whole number of steps >= 1, got 0"):
        log_of(None, every=0)


def test_a_log_of_every_step_is_a_log_and_one_of_every_third_has_the_last_too():
    optimum = Optimum.of(
        ExactDenoiser(Empirical(torch.tensor([[3.0], [1.0]])), VE()), torch.tensor([[3.0]]), noise_to_signal=(0.5,)
    )
    assert all(DistanceLog(optimum, every=1).is_due(step, 4) for step in range(5))
    assert [DistanceLog(optimum, every=3).is_due(step, 4) for step in range(5)] == [True, False, False, True, True]
