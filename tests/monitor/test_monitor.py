"""The monitor: what it says and records, what it leaves untouched, and where it stops a training."""

import inspect
import json
import math
import random
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from copying_models import SMALL, copying_model, gaussian_data
from torch import Tensor, nn

from diffuscope.audit import QUESTIONS, Subject
from diffuscope.audit.session import Session
from diffuscope.denoisers import Preconditioned, device_of
from diffuscope.errors import InputError
from diffuscope.monitor import Look, Monitor, level_of_look, read_looks
from diffuscope.monitor.undisturbed import device_of_tensors, undisturbed
from diffuscope.schedules import VE
from diffuscope.training import train_denoiser

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def data():
    return gaussian_data()


def quiet(data, **chosen) -> Monitor:
    return Monitor(data, **({"every": 10, "settings": SMALL, "show": lambda _: None} | chosen))


def share_at(step: int) -> float:
    """The annealed model copies 4% of its samples from step 20 on, and 1% more every 10 steps."""
    return 0.0 if step < 20 else (step + 20) / 1000


def test_an_annealed_model_is_stopped_where_the_power_says_and_the_page_marks_it(data, tmp_path):
    said: list[str] = []
    numbers: dict[int, dict[str, float]] = {}
    monitor = quiet(data, out=tmp_path, show=said.append, log=lambda values, step: numbers.update({step: values}))
    stopped = next(step for step in range(1, 400) if monitor(step, copying_model(data, share_at(step))))
    assert stopped % 10 == 0
    looks = monitor.looks
    assert [look.step for look in looks] == list(range(10, stopped + 1, 10))
    assert [look.level for look in looks] == [level_of_look(k, 0.01) for k in range(1, len(looks) + 1)]
    assert looks[0].word == "not-detected"
    last = looks[-1]
    assert (last.word, last.stop) == ("copies", True)
    assert 0.01 < share_at(stopped) <= last.detectable["exact"] + 0.02
    # the memorizer's part in the loss is seen too, and the distribution itself is as good as held-out data
    assert last.gap > looks[0].gap
    assert abs(looks[0].gap) < 0.1
    assert 0 < looks[0].quality_interval[0] < 2
    # what is logged and shown is what was found
    assert numbers[stopped]["monitor/copied"] == last.copied
    assert [line.partition(": ")[0] for line in said] == [f"step {look.step}" for look in looks]
    page = monitor.report().read_text()
    assert f"Copying was detected at step {stopped}" in page
    assert "copying detected" in page
    assert read_looks(tmp_path / "monitor.jsonl") == list(looks)


def test_a_look_is_what_an_audit_of_the_same_effort_measures(data):
    """The denoising gap has no random numbers but those of intervals and permutations: equal to rounding."""
    monitor, model = quiet(data), copying_model(data, 0.3)
    monitor(10, model)
    (question,) = (question for question in QUESTIONS if question.name == "memorized")
    answer = question.ask(Session(Subject.of(model, data), SMALL))
    assert answer is not None
    assert monitor.looks[0].gap == pytest.approx(answer.result.gap.mean_share, rel=1e-6)
    (copies,) = answer.result.copies.values()
    (look,) = monitor.looks
    # other samples of the same model: shares of copies of 30%, within 4 standard errors of both
    error = (2 * 0.3 * 0.7 / SMALL.generated) ** 0.5
    assert abs(look.copied - copies.share) < 4 * error
    assert look.heldout == copies.calibration


class Noisy(nn.Module):
    """A small network with what a look could disturb: dropout, batch norm, and draws from the global generators.

    Python's own is left to a test of its own: the checks of types in these tests draw from it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width + 1, 16), nn.BatchNorm1d(16), nn.SiLU(), nn.Dropout(0.2), nn.Linear(16, width)
        )

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        jitter = np.random.rand() + float(torch.rand(()))  # noqa: NPY002 as careless networks do
        return self.layers(torch.cat([x, label[:, None].to(x)], 1)) + 1e-3 * jitter


def trained_by_hand(data, monitor: Monitor | None) -> dict[str, Tensor]:
    """A plain loop with global generators, dropout and batch norm; the weights and buffers after 30 steps."""
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    denoiser = Preconditioned(Noisy(12), VE(0.01, 40.0), 1.0, event_shape=(12,), data_range=(-6.0, 6.0))
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-3)
    for step in range(1, 31):
        x = data.train[torch.randint(len(data.train), (32,))]
        sigma = torch.exp(torch.randn(32, 1))
        optimizer.zero_grad()
        loss = (denoiser(x + sigma * torch.randn_like(x), sigma[:, 0]) - x).square().mean()
        loss.backward()
        optimizer.step()
        if monitor is not None:
            assert not monitor(step, denoiser)
            assert all(part.training for part in denoiser.modules())
            assert all(p.grad is not None for p in denoiser.parameters())
    return {name: x.clone() for name, x in denoiser.state_dict().items()}


def test_a_training_with_the_monitor_is_the_training_without_it_bit_for_bit(data):
    with torch.random.fork_rng():
        without = trained_by_hand(data, None)
        monitor = quiet(data)
        watched = trained_by_hand(data, monitor)
    assert len(monitor.looks) == 3
    assert [name for name, x in without.items() if not torch.equal(x, watched[name])] == []


def watched_loop(data, monitor: Monitor | None, *, compiled: bool, precision: str, workers: int) -> dict[str, Tensor]:
    """A loop over a DataLoader as people write it, all of it in one autocast; the weights after 12 steps."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(12, 16), nn.SiLU(), nn.Dropout(0.2), nn.Linear(16, 12))
    called = torch.compile(network, backend="eager") if compiled else network
    optimizer, step = torch.optim.Adam(network.parameters(), lr=1e-3), 0

    class Plain(nn.Module):
        """x + the network's answer, of which the noise level is no input."""

        schedule = VE(0.01, 40.0)

        def __init__(self) -> None:
            super().__init__()
            self.network, self.fresh = called, nn.Linear(2, 2)  # whose weights are drawn whenever this is made

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            del t
            return x_t + self.network(x_t / 40)

    rows = torch.utils.data.TensorDataset(data.train)
    loader = torch.utils.data.DataLoader(rows, batch_size=40, shuffle=True, num_workers=workers)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bfloat16"):
        for _ in range(3):
            for (x,) in loader:  # 40, 40, 40 and 30 examples
                step += 1
                optimizer.zero_grad()
                (called(x + torch.randn_like(x)) - x).float().square().mean().backward()
                optimizer.step()
                torch.clear_autocast_cache()
                if monitor is not None:
                    monitor.after_step(step, Plain)
    return {name: x.clone() for name, x in network.state_dict().items()}


@pytest.mark.parametrize(
    ("compiled", "precision", "workers"), [(False, "bfloat16", 0), (True, "float32", 0), (False, "float32", 1)]
)
def test_compiled_in_half_precision_or_fed_by_workers_it_is_the_same_bit_for_bit(data, compiled, precision, workers):
    chosen = {"compiled": compiled, "precision": precision, "workers": workers}
    with torch.random.fork_rng():
        without = watched_loop(data, None, **chosen)
        monitor = quiet(data, every=5)
        watched = watched_loop(data, monitor, **chosen)
    assert [look.step for look in monitor.looks] == [5, 10]
    assert "cannot-tell" not in {look.word for look in monitor.looks}
    assert [name for name, x in without.items() if not torch.equal(x, watched[name])] == []


def test_within_an_autocast_a_look_measures_what_it_does_without(data):
    """Distances and products of the audit would be rounded to 8 bits, too."""
    looks = []
    for enabled in (False, True):
        monitor = quiet(data)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            monitor(10, copying_model(data, 0.1))
            assert torch.is_autocast_enabled("cpu") == enabled
        looks.append(replace(monitor.looks[0], seconds=0.0))
    assert looks[0] == looks[1]


def global_states() -> tuple[object, ...]:
    numpy = np.random.get_state(legacy=False)["state"]  # noqa: NPY002
    return random.getstate(), numpy["key"].tolist(), numpy["pos"], torch.get_rng_state().tolist()


def test_a_block_that_draws_leaves_every_global_generator_and_mode_as_it_was():
    network = Noisy(3)
    network.layers[3].eval()  # a mode of its own, which comes back
    before = global_states()
    with undisturbed(network):
        assert not any(part.training for part in network.modules())
        assert not torch.is_grad_enabled()
        _ = random.random(), torch.rand(3)
        drawn = np.random.rand()  # noqa: NPY002
    after = global_states()
    assert before == after
    assert [part.training for part in network.modules()] == [True, True, True, True, True, False, True]
    assert drawn == np.random.rand()  # noqa: NPY002 the next draw is that of the block
    assert torch.is_grad_enabled()


def test_the_default_training_is_the_same_with_it_and_resumes_with_its_log(data, tmp_path):
    def run(out: Path, stop=None, steps: int = 20) -> dict[str, Tensor]:
        out.mkdir(exist_ok=True)
        return train_denoiser(data, steps=steps, batch_size=16, out=out, stop=stop).state_dict()

    without = run(tmp_path / "without")
    monitor = quiet(data, out=tmp_path / "watched")

    def interrupted(step: int, made) -> bool:
        if step == 15:
            raise KeyboardInterrupt
        return monitor.after_step(step, made)

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "watched", interrupted)
    resumed = quiet(data, out=tmp_path / "watched")
    assert [look.step for look in resumed.looks] == [10]
    watched = run(tmp_path / "watched", resumed.after_step)
    assert [(look.step, look.look) for look in resumed.looks] == [(10, 1), (20, 2)]
    assert all(torch.equal(without[name], watched[name]) for name in without)


def test_a_stopped_training_has_the_weights_of_that_step_and_stays_stopped(data, tmp_path):
    """Stopped at step 10 of 40: the average is that of a run that was broken off there; the same call ends at once."""
    asked: list[int] = []

    def stop(step: int, made) -> bool:
        asked.append(step)
        assert isinstance(made(), nn.Module)
        return step == 10

    stopped = train_denoiser(data, steps=40, batch_size=16, out=tmp_path, stop=stop).state_dict()
    assert asked == list(range(1, 11))
    again = train_denoiser(data, steps=40, batch_size=16, out=tmp_path, stop=stop).state_dict()
    assert asked[10:] == [10]
    assert all(torch.equal(stopped[name], again[name]) for name in stopped)
    onward = train_denoiser(data, steps=40, batch_size=16, out=tmp_path).state_dict()
    whole = train_denoiser(data, steps=40, batch_size=16).state_dict()
    assert all(torch.equal(onward[name], whole[name]) for name in whole)


def test_repeated_steps_replace_their_looks_and_a_half_written_line_is_dropped(data, tmp_path):
    model = copying_model(data, 0.0)
    monitor = quiet(data, out=tmp_path)
    for step in (10, 20, 30):
        monitor(step, model)
    log = tmp_path / "monitor.jsonl"
    log.write_bytes(log.read_bytes() + b'{"step": 40, "lo')
    resumed = quiet(data, out=tmp_path)
    resumed(20, model)
    assert [(look.step, look.look) for look in resumed.looks] == [(10, 1), (20, 2)]
    lines = log.read_text().splitlines()
    assert [json.loads(line).get("step") for line in lines] == [None, 10, 20]
    # the same model at the same step: the same look, but for the time it took
    first, second = (replace(look, seconds=0.0) for look in (monitor.looks[1], resumed.looks[1]))
    assert first == second


def test_the_log_of_another_run_and_another_file_are_refused(data, tmp_path):
    quiet(data, out=tmp_path)(10, copying_model(data, 0.0))
    with pytest.raises(InputError, match=r"out: .*monitor.jsonl is of another run, whose false_stop differ"):
        quiet(data, out=tmp_path, false_stop=0.02)
    other = gaussian_data(seed=5)
    with pytest.raises(InputError, match=r"whose train, heldout differ; name another folder or remove it"):
        quiet(other, out=tmp_path)
    (tmp_path / "monitor.jsonl").write_text("notes\n")
    with pytest.raises(InputError, match=r"out: line 1 of .*monitor.jsonl is not of a monitor's log"):
        quiet(data, out=tmp_path)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"every": 0}, "every: expected a whole number of steps >= 1, got 0"),
        ({"stop_on": ("quality",)}, "stop_on: expected 'copies' or nothing, got quality"),
        ({"false_stop": 1.0}, "false_stop: expected a number between 0 and 1, got 1"),
        ({"budget": 0.0}, "budget: expected a share above 0 and at most 1, got 0"),
        ({"log": 3}, "log: expected an object with add_scalar, log_metrics or log, or a function of numbers and step"),
    ],
)
def test_values_outside_their_ranges_are_refused_by_name(data, chosen, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        quiet(data, **chosen)


NUMPY = (np.zeros((30, 2)), np.ones((30, 2)))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"every": "5"}, "every: expected a whole number of steps >= 1, got '5'"),
        ({"every": 2.5}, "every: expected a whole number of steps >= 1, got 2.5"),
        ({"every": None}, "every: expected a whole number of steps >= 1, got None"),
        ({"every": True}, "every: expected a whole number of steps >= 1, got True"),
        ({"stop_on": 3}, "stop_on: expected 'copies' or nothing, got 3"),
        ({"stop_on": None}, "stop_on: expected 'copies' or nothing, got None"),
        ({"stop_on": "quality"}, "stop_on: expected 'copies' or nothing, got quality"),
        ({"false_stop": "rare"}, "false_stop: expected a number between 0 and 1, got 'rare'"),
        ({"budget": "5%"}, "budget: expected a share above 0 and at most 1, got '5%'"),
        ({"budget": True}, "budget: expected a share above 0 and at most 1, got True"),
        ({"settings": {"levels": 4}}, "settings: expected audit.Settings, got dict"),
        ({"show": None}, "show: expected a function of a sentence, got None"),
        ({"data": None}, "data: expected a data set, or training and held-out examples as two tensors, got NoneType"),
        ({"data": "digits"}, "two tensors, got str"),
        ({"data": torch.ones(30, 2)}, "two tensors, got Tensor"),
        ({"data": (torch.ones(30, 2),)}, "two tensors, got tuple of Tensor"),
        ({"data": (torch.ones(30, 2), None)}, "two tensors, got tuple of Tensor, NoneType"),
        ({"data": NUMPY}, "two tensors, got tuple of ndarray, ndarray"),
    ],
)  # fmt: skip
def test_values_of_other_kinds_are_refused_by_name(data, chosen, message):
    init: Any = inspect.unwrap(Monitor.__init__)  # what a user without checks of types meets
    with pytest.raises(InputError, match=re.escape(message)):
        init(object.__new__(Monitor), **{"data": data, "every": 10, **chosen})


def test_a_step_is_any_whole_number_and_a_shape_is_the_models(data, tmp_path):
    model, monitor = copying_model(data, 0.0), quiet(data, out=tmp_path)
    is_due: Any = inspect.unwrap(Monitor.is_due)
    assert is_due(monitor, torch.tensor(10))
    assert not is_due(monitor, np.int64(11))
    for wrong in ("10", 10.0, None):
        with pytest.raises(InputError, match=r"^step: expected a whole number, got "):
            is_due(monitor, wrong)

    class Wider:
        schedule, event_shape = model.schedule, (7,)

        def __call__(self, x_t, t):
            return x_t * t

    with pytest.raises(InputError, match=r"^data: expected examples of shape \(7,\), the model's event_shape, got \("):
        monitor(10, Wider())
    assert monitor.looks == ()


def test_what_stops_may_be_one_word(data):
    assert quiet(data, stop_on="copies").stop_on == quiet(data).stop_on == ("copies",)


class Broken(nn.Module):
    """A model that answers NaN from its second look on."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner, self.schedule, self.broken = inner, inner.schedule, False

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.inner(x_t, t) * (math.nan if self.broken else 1.0)


def test_a_model_that_diverges_is_a_look_that_cannot_tell_and_a_mistake_shows_at_the_first_look(data, tmp_path):
    model, monitor = Broken(copying_model(data, 0.0)), quiet(data, out=tmp_path)
    assert not monitor(10, model)
    model.broken = True
    assert not monitor(20, model)
    last = monitor.last
    assert last is not None
    assert last.word == "cannot-tell"
    assert "expected finite values, got NaN or infinity" in last.sentence
    assert math.isnan(read_looks(tmp_path / "monitor.jsonl")[1].copied)
    assert "Cannot tell whether it copies" in monitor.report().read_text()
    # also at the first look of a run: no argument is wrong
    early = quiet(data)
    assert not early(10, model)
    assert early.looks[0].word == "cannot-tell"
    model.broken = False
    assert not early(20, model)
    assert early.looks[1].word == "not-detected"
    with pytest.raises(InputError, match=r"denoiser: expected an object called with x_t and t that has a `schedule`"):
        quiet(data)(10, nn.Linear(2, 2))


class Failing(Broken):
    """A model that cannot be called from its second look on."""

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        if self.broken:
            raise RuntimeError("CUDA error:\n out of memory")
        return self.inner(x_t, t)


def test_after_the_first_look_no_error_of_a_look_ends_the_training(data, tmp_path):
    """The model's, the logger's and the disk's are said in a line each; at the first look they are raised."""
    said: list[str] = []

    def log(_, step: int) -> None:
        if step == 30:
            raise ConnectionError("no network")

    model = Failing(copying_model(data, 0.0))
    monitor = quiet(data, out=tmp_path / "out", show=said.append, log=log)
    assert not monitor(10, model)
    model.broken = True
    assert not monitor(20, model)
    model.broken = False
    shown = "step 20: Cannot tell whether it copies: RuntimeError: CUDA error: out of memory."
    assert said[-1] == shown
    assert not monitor(30, model)
    assert said[-1] == "step 30: this look was not kept (ConnectionError: no network)."
    # a folder in the place of the log, as a disk that is full for a while
    path = tmp_path / "out" / "monitor.jsonl"
    kept = path.read_bytes()
    path.unlink()
    path.mkdir()
    assert not monitor(40, model)
    assert said[-1].startswith(f"step 40: this look was not kept (out: cannot write {path}")
    path.rmdir()
    path.write_bytes(kept + b'{"step": 40, "lo')  # part of a line was written
    assert not monitor(50, model)
    assert [look.step for look in read_looks(path)] == [10, 20, 30, 40, 50]
    assert [look.word == "cannot-tell" for look in monitor.looks] == [False, True, False, False, False]
    model.broken = True
    for chosen, error in (({}, RuntimeError), ({"log": lambda *_: 1 / 0}, RuntimeError)):
        with pytest.raises(error, match="out of memory"):
            quiet(data, **chosen)(10, model)
    model.broken = False
    with pytest.raises(ZeroDivisionError):
        quiet(data, log=lambda *_: 1 / 0)(10, model)


def test_without_stop_on_it_only_watches(data):
    monitor = quiet(data, stop_on=())
    assert not monitor(10, copying_model(data, 1.0))
    assert monitor.looks[0].word == "copies"


def test_a_budget_leaves_out_looks_that_would_exceed_it(data, monkeypatch):
    """A look takes a second, a step a tenth: of 100 looks, one a second, 5% of the time allows about 5% of them."""
    now = [0.0]
    monkeypatch.setattr("diffuscope.monitor.callback.time.monotonic", lambda: now[0])
    monitor = quiet(data, budget=0.05)

    def look(_, step: int) -> Look:
        now[0] += 1.0
        return Look(step=step, look=1, word="not-detected", sentence="", stop=False, detectable={}, seconds=1.0)

    monkeypatch.setattr(monitor, "_look", look)
    model = copying_model(data, 0.0)
    for step in range(1, 1001):
        now[0] += 0.1
        monitor(step, model)
    assert monitor.seconds / now[0] <= 0.05 + 0.01
    assert 4 <= len(monitor.looks) <= 7


def test_a_p_value_that_underflows_is_below_the_smallest_on_the_page(data, tmp_path, monkeypatch):
    monitor = quiet(data)
    certain = Look(step=10, look=1, word="copies", sentence="", stop=True, p_value=0.0, detectable={})
    monkeypatch.setattr(monitor, "_look", lambda *_: certain)
    monitor(10, copying_model(data, 1.0))
    page = monitor.report(tmp_path).read_text()
    assert page.count("&lt; 10⁻³⁰⁰") == 3  # the card, the numbers behind the verdict, and the table of looks


def test_a_look_goes_to_the_device_of_any_tensor_within_a_model():
    """A model may be no module: `denoisers.device_of` would say CPU of it."""
    model = SimpleNamespace(schedule=VE(), parts=[torch.zeros(1), {"weights": torch.zeros(2, device="meta")}])
    assert device_of_tensors(model) == torch.device("meta")
    assert device_of_tensors(SimpleNamespace(weights=torch.zeros(2))) == torch.device("cpu")
    assert device_of(model) == torch.device("cpu")


def test_the_page_needs_a_look_and_a_folder(data, tmp_path):
    with pytest.raises(InputError, match="report: expected at least one look, got none"):
        quiet(data, out=tmp_path).report()
    with pytest.raises(InputError, match="out: expected a folder for the page, got none"):
        quiet(data).report()
