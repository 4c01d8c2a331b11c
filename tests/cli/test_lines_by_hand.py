"""What commands print, draw and refuse of results that are made by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from diffuscope.audit.fingerprint import digest
from diffuscope.cli import failures
from diffuscope.cli.arguments import _first_sentence, _number, _whole
from diffuscope.cli.audit import Audit, model_range, require_shape
from diffuscope.cli.certify import Certify
from diffuscope.cli.classes import check_classes
from diffuscope.cli.forecast import _after, _expected, _later_than, _reason, standing
from diffuscope.cli.grade import Grade
from diffuscope.cli.options import DataOptions, TrainOptions
from diffuscope.cli.paths import Paths
from diffuscope.cli.sample import Sample, contact_sheet
from diffuscope.cli.solve import Solve, _typical
from diffuscope.cli.statistics import Statistics, lines
from diffuscope.cli.train import Train
from diffuscope.cli.weights import WeightsOptions
from diffuscope.data import ClassStatistics, DataStatistics, data_from_arrays
from diffuscope.denoisers.contents import tensors_within
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.physics import Prior
from diffuscope.samplers import Heun
from diffuscope.schedules import VE
from diffuscope.theory import NoForecast, OnsetForecast
from diffuscope.theory.onset_pilots import Pilot

# a contact sheet


def test_pictures_stand_in_a_square_row_by_row_with_a_dark_line_behind_each():
    """Five of 1 x 2 pixels: three columns of 3 pixels, two rows of 2; 800 // 9 = 88 pixels for one."""
    samples = torch.tensor([[51, 102], [153, 204], [255, 51], [102, 153], [204, 255]]).reshape(5, 1, 1, 2) / 255
    sheet = np.asarray(contact_sheet(samples, (0.0, 1.0)))
    assert sheet.shape == (4 * 88, 9 * 88)
    assert sheet[::88, ::88].tolist() == [
        [51, 102, 0, 153, 204, 0, 255, 51, 0],
        [0] * 9,
        [102, 153, 0, 204, 255, 0, 0, 0, 0],
        [0] * 9,
    ]
    assert (sheet == sheet[::88, ::88].repeat(88, 0).repeat(88, 1)).all()


def test_a_sheet_has_a_hundred_pictures_at_most_and_colors_where_these_have():
    many = np.asarray(contact_sheet(torch.ones(101, 1, 1, 1), (0.0, 1.0)))[::40, ::40]
    assert many.shape == (20, 20)
    assert many[::2, ::2].min() == 255
    color = np.asarray(contact_sheet(torch.tensor([0.0, 0.5, 1.0]).reshape(1, 3, 1, 1), (0.0, 1.0)))
    assert color[0, 0].tolist() == [0, 128, 255]
    own = np.asarray(contact_sheet(torch.tensor([2.0, 3.0, 7.0]).reshape(1, 1, 1, 3), None))  # no range is known
    assert own[0, ::200].tolist() == [0, 51, 255, 0]


# counts and their limits


@pytest.mark.parametrize(
    ("sampler", "nfe", "steps"), [("heun", 3, 1), ("heun", 4, 1), ("heun", 5, 2), ("ddim", 2, 1), ("ddim", 41, 40)]
)
def test_evaluations_of_a_sample_are_those_of_its_steps_and_a_last_one(sampler, nfe, steps, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(Sample, "_sample", lambda *given: asked.append(given[2]))
    Sample(model="a:b", sampler=sampler, nfe=nfe, n=1, classes=(0,), out=tmp_path).run()
    assert asked == [steps]
    least = 3 if sampler == "heun" else 2
    with pytest.raises(InputError, match=f"nfe: expected a whole number from {least} to 1,000,000"):
        Sample(model="a:b", sampler=sampler, nfe=least - 1, out=tmp_path).run()
    for wrong, named in (
        ({"n": 0}, "n: expected"),
        ({"classes": (-1,)}, "classes: expected whole numbers >= 0, got -1"),
    ):
        with pytest.raises(InputError, match=named):
            Sample(model="a:b", out=tmp_path, **wrong).run()  # pyright: ignore[reportArgumentType]


def test_processes_that_share_a_sample_must_have_one_model(tmp_path, monkeypatch):
    """Rows of two models would be put together."""
    shared: list[dict[str, object]] = []
    model: Any = torch.nn.Linear(2, 2)
    model.event_shape, model.schedule = (2,), VE()
    monkeypatch.setattr(WeightsOptions, "load", lambda *_: model)
    monkeypatch.setattr("diffuscope.cli.sample.require_same", shared.append)
    monkeypatch.setattr("diffuscope.cli.sample.generate", lambda *_, **__: torch.zeros(1, 2))
    for count in (1, 2):
        monkeypatch.setattr("diffuscope.cli.sample.processes", lambda count=count: count)
        Sample(model="a:b", n=1, out=tmp_path)._sample(Heun(), 1, torch.device("cpu"))
    assert shared == [{"model": digest(*tensors_within(model))}]


class Stated:
    """A model that states something of itself."""

    schedule = VE()

    def __init__(self, **stated: Any) -> None:
        vars(self).update(stated)

    def __call__(self, x_t: torch.Tensor, t: Any) -> torch.Tensor:
        return x_t * t


class Chosen(Exception):  # noqa: N818
    """The values were taken."""


def chosen(*_: Any, **__: Any) -> None:
    raise Chosen


@pytest.mark.parametrize(
    ("command", "name", "least", "most"),
    [
        (lambda value: Grade(problems=value), "problems", 1, 1000),
        (lambda value: Grade(draws=value), "draws", 8, 100_000),
        (lambda value: Grade(steps=value), "steps", 2, 10_000),
        (lambda value: Solve("darcy", samples=value), "samples", 2, 10**5),
        (lambda value: Solve("darcy", fields=value), "fields", 50, 10**6),
        (lambda value: Solve("darcy", nodes=value), "nodes", 11, 257),
        (lambda value: Paths("a:b", (0.0,), (1.0,), nodes=value), "nodes", 5, 20_001),
        (lambda value: Train(source=DataOptions(train_limit=value)), "train_limit", 2, 10**12),
        (lambda value: Train(training=TrainOptions(train_steps=value)), "train_steps", 1, 10**9),
        (lambda value: Train(log_every=value), "log_every", 0, 10**9),
    ],
)
def test_counts_are_taken_up_to_their_limits_and_not_beyond(command, name, least, most, monkeypatch):
    for place in ("grade", "solve", "paths", "train"):
        monkeypatch.setattr(f"diffuscope.cli.{place}.writing", chosen)
    monkeypatch.setattr("diffuscope.cli.paths.Paths._dynamics", chosen)
    for value in (least, most):
        with pytest.raises(Chosen):
            command(value).run()
    for value in (least - 1, most + 1):
        with pytest.raises(
            InputError, match=f"^{name}: expected a whole number from {least:,} to {most:,}, got {value}"
        ):
            command(value).run()


def test_looks_are_due_within_the_training_or_it_is_refused(monkeypatch):
    monkeypatch.setattr("diffuscope.cli.train.writing", chosen)
    training = TrainOptions(train_steps=100)
    for every in (0, 100):
        with pytest.raises(Chosen):
            Train(training=training, audit_every=every).run()
    with pytest.raises(InputError, match="audit_every: expected at most --train-steps, 100"):
        Train(training=training, audit_every=101).run()
    with pytest.raises(InputError, match="stop_on: expected --audit-every as well"):
        Train(stop_on="copies").run()


@pytest.mark.parametrize(("level", "taken"), [(None, True), (1e-9, True), (0.0, False), (-1.0, False)])
def test_a_level_of_noise_is_positive(level, taken, monkeypatch):
    monkeypatch.setattr("diffuscope.cli.statistics.require_writable_file", chosen)
    with pytest.raises(Chosen if taken else InputError, match=None if taken else "level: expected a number > 0, got"):
        Statistics(level=level).run()


@pytest.mark.parametrize(("forecast", "where"), [(False, "train.train_denoiser"), (True, "forecast.forecast")])
def test_a_small_model_is_trained_on_data_between_minus_one_and_one(forecast, where, monkeypatch, tmp_path):
    ranges = []

    def trained(data: Any, *_: Any, **__: Any) -> None:
        ranges.append((data.data_range, float(data.train.min()), float(data.train.max())))
        raise Chosen

    monkeypatch.setattr(f"diffuscope.cli.{where}", trained)
    monkeypatch.setattr("diffuscope.cli.audit.train_denoiser", trained)
    with pytest.raises(Chosen):
        Train(out=tmp_path / "train", forecast=forecast).run()
    with pytest.raises(Chosen):
        Audit(out=tmp_path / "audit").run()
    assert ranges == [((-1.0, 1.0), -1.0, 1.0)] * 2


@pytest.mark.parametrize(("budget", "taken"), [(1.0, True), (0.99, False), (float("inf"), False), (1e300, True)])
def test_a_budget_is_a_second_or_more(budget, taken):
    if taken:
        certify = Certify("a:b", budget=budget)
        assert certify._chosen() == certify._sampler
        return
    with pytest.raises(InputError, match="budget: expected at least 1 second, got"):
        Certify("a:b", budget=budget)._chosen()


def test_a_certificate_is_of_one_kind_whose_options_are_its_own():
    assert Certify("a:b", guidance=True)._chosen().__name__ == "_guidance"
    assert Certify("a:b", likelihood=True, budget=2.0)._chosen().__name__ == "_likelihood"
    for wrong, said in (
        ({"guidance": True, "flow_map": True}, "guidance: expected one kind of target, got --guidance and --flow-map"),
        ({"as_shipped": True, "known": ("order",)}, "known: belongs to samplers, got it with --as-shipped"),
        ({"flow_map": True, "budget": 2.0}, "budget: belongs to samplers and likelihoods, got it with --flow-map"),
    ):
        with pytest.raises(InputError, match=said):
            Certify("a:b", **wrong)._chosen()  # pyright: ignore[reportArgumentType]


def test_guidance_needs_classes_and_classes_a_model():
    check_classes((), 1.0, None, {"samples": "x.npy"})
    check_classes(("1",), 3.0, "a:b", {"samples": None})
    both: dict[str, str | None] = {"samples": "x.npy"}
    for given, said in (
        (((), 2.0, "a:b", {}), r"guidance: expected --classes with it, or .*guidance=2$"),
        ((("1",), float("inf"), "a:b", {}), "guidance: expected a finite number, got inf"),
        ((("1",), 1.0, None, {}), "classes: expected --model"),
        ((("1",), 1.0, "a:b", both), "samples: expected without --classes, got x.npy"),
    ):
        with pytest.raises(InputError, match=said):
            check_classes(*given)


# lines


def test_statistics_are_said_in_lines():
    """Eigenvalues 6, 3, 0.5 of four dimensions, 0.25 in the fourth: 9.75; four fifths of it is 7.8."""
    mean = torch.tensor([3.0, 4.0, 0.0, 0.0], dtype=torch.float64)
    values = torch.tensor([6.0, 3.0, 0.5], dtype=torch.float64)
    gaussian = Gaussian(mean, torch.eye(4, dtype=torch.float64)[:, :3], values, 0.25, 12_345, (0.0, 9.0))
    classes = ClassStatistics(
        labels=(0, 1), names=("a", "b"), counts=(2000, 10_345), gaussians=(gaussian,) * 2, pooled=False,
        shrinkage=(0.125, 0.5),
    )  # fmt: skip
    said = lines(DataStatistics(gaussian=gaussian, classes=classes, data="points", kind="vectors", notes=()), None)
    assert said[:7] == [
        "Data: points, 12,345 examples of shape (4,), values in [0, 9]",
        "Squared norm of the mean: 25",
        "Total variance: 9.75, 2.44 per dimension",
        "Leading eigenvalues: 6, 3, 0.5",
        "Eigenvalues for 80%, 90%, 95%, 99% of the variance: 2, 2, 3, > 3",
        "Beyond 3 eigenvalues: 0.25 in each of 1 dimensions",
        "Classes: 2, 2,000 to 10,345 examples each, shrunk by 0.125 to 0.5",
    ]
    six = Gaussian(torch.zeros(6).double(), torch.eye(6).double(), torch.arange(6.0, 0, -1).double(), 0.0, 99)
    bare = lines(DataStatistics(gaussian=six, classes=None, data="x", kind="vectors", notes=()), None)
    assert bare[0].endswith("values in [nan, nan]")
    assert bare[3] == "Leading eigenvalues: 6, 5, 4, 3, 2"
    assert bare[5].startswith("Enough examples: ")


TIME = [0.0, 1.0, 3.0, 7.0]  # the training time of steps 0 to 3


def onset(median: float, at_80: tuple[float, float], at_95: tuple[float, float]) -> OnsetForecast:
    return OnsetForecast(
        n=9, median=median, interval_80=at_80, interval_95=at_95, slope=1.0, slope_error=0.1, scatter=0.1
    )


def test_a_forecast_is_told_in_steps_or_in_training_time_beyond_the_plan():
    assert _expected(onset(2.0, (0.5, 3.0), (0.2, 8.0)), TIME, "from x") == (
        "Copying is expected to start at step 2 (80% interval 1 to 2, 95% interval 1 to later than 3), from x"
    )
    assert "80% interval later than 3, 95% interval 3 to later than 3" in _expected(
        onset(7.0, (7.5, 9.0), (6.0, 9.0)), TIME, ""
    )
    assert _expected(onset(1000.4, (900.0, 2000.0), (500.0, 4000.0)), TIME, "from x") == (
        "Copying is expected to start after 1,000 steps of the full learning rate (80% interval 900 to 2,000, 95% "
        "interval 500 to 4,000; the planned steps amount to 7), from x"
    )
    assert [_after(step, 30) for step in (1500, None)] == ["after step 1,500", "after the planned 30 steps"]
    found = onset(2.0, (1.0, 4.0), (0.5, 8.0))
    assert [standing(found, end) for end in (0.9, 1.0, 4.0, 4.1)] == ["before", "within", "within", "after"]


def pilot(size: int, onset: int | None, chance: int = 0, heldout: int = 1000) -> Pilot:
    return Pilot(size=size, steps=3, onset=onset, chance=chance, heldout=heldout)


def test_why_nothing_is_told_and_what_is_known_all_the_same():
    nothing, bound = NoForecast(reason="too steep", later_than=None), NoForecast(reason="too steep", later_than=5.0)
    copied, censored, by_chance = pilot(16, 2), pilot(32, None), pilot(32, 1, chance=100)
    assert _later_than(nothing, [copied], TIME) is None
    assert _later_than(bound, [copied], TIME) == 5.0
    assert _later_than(nothing, [copied, censored], TIME) == 7.0
    assert _later_than(bound, [copied, censored, pilot(32, 2)], TIME) == 5.0  # one of that size has copied
    assert _later_than(nothing, [copied, pilot(64, None, chance=100)], TIME) is None
    worst = pilot(16, 1, chance=90, heldout=300)
    said = _reason(nothing, [by_chance, worst], [], 3)
    assert said.startswith("by chance 90 of 300 held-out examples count as copies of 16 examples, and expected is")
    assert _reason(nothing, [by_chance, copied, pilot(64, 1)], [copied, pilot(64, 1)], 3) == "too steep"
    assert _reason(nothing, [by_chance, copied], [copied], 3).startswith("by chance 100 of 1000")
    assert _reason(nothing, [pilot(16, None)], [], 3000) == "not all pilots of 16 examples copied within 3,000 steps"


def test_the_typical_size_of_a_solution_is_its_root_mean_square():
    """The last channel of the fields of the prior, of its truths, or of the truth."""
    fields = torch.tensor([[[9.0, 9.0], [1.0, 2.0]], [[9.0, 9.0], [3.0, 4.0]]])
    for of_prior, of_truths in ((fields, None), (None, fields), (fields, 2 * fields)):
        prior = Prior(name="a", words="b", fields=of_prior, truths=of_truths, denoiser=Stated())
        assert _typical(prior, fields[1]) == pytest.approx(7.5**0.5)
    assert _typical(Prior(name="a", words="b", denoiser=Stated()), fields[1]) == pytest.approx(12.5**0.5)


def test_a_diffusion_is_one_number_or_one_per_coordinate():
    def given(*words: str) -> Any:
        return Paths("a:b", (0.0,), (1.0,), diffusion=words)._diffusion

    assert given("0.5")(3) == 0.5
    assert given("1", "2", "3")(3).tolist() == [1, 2, 3]
    assert given("math:pi")(1) == pytest.approx(np.pi)
    for words, d, said in (
        (("1", "2"), 3, "expected 1 number or 3, one per coordinate, got 1 2"),
        (("1", "2"), 1, "expected 1 number, got 1 2"),
        ((), 1, "expected a number, one per coordinate, or module:object, got none"),
        (("x",), 1, "expected numbers or module:object, got 'x'"),
        (("math:tau", "1"), 2, "expected numbers or module:object"),
        (("sys:path",), 1, "expected a number, a tensor or a function, got a list"),
    ):
        with pytest.raises(InputError, match=said):
            given(*words)(d)


def test_a_model_is_audited_in_its_own_range_and_on_examples_of_its_shape():
    data = data_from_arrays(np.arange(12.0).reshape(6, 2))
    assert model_range(Stated(data_range=(0, 1)), data) == (0.0, 1.0)
    assert model_range(Stated(), data) == (0.0, 11.0)
    require_shape(Stated(), data)
    require_shape(Stated(event_shape=[2]), data)
    with pytest.raises(InputError, match=r"data: expected examples of shape \(3,\)"):
        require_shape(Stated(event_shape=(3,)), data)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"samples_range": (0.0, 1.0)}, "samples_range: expected with --samples only"),
        ({"samples": "x.npy", "canaries": "y.npz"}, "canaries: expected with --model"),
        ({"second_data": "x.npy"}, "second_data: expected with --second-model only"),
        ({"second_model": "a:b", "second_data": "x.npy", "encode": "a:b"}, "second_data: expected without --encode"),
    ],
)
def test_options_that_do_not_go_together_are_refused(given, said):
    with pytest.raises(InputError, match=said):
        Audit(**given).run()


def test_more_than_20_000_samples_are_drawn_from_and_as_many_are_not(monkeypatch):
    data, notes = data_from_arrays(np.arange(12.0).reshape(6, 2)), list[str]()
    rows = torch.arange(40_002.0).reshape(-1, 2)
    for count, drawn in ((20_000, False), (20_001, True)):
        read = SimpleNamespace(values=rows[:count], notes=("read",))
        monkeypatch.setattr("diffuscope.cli.audit.read_samples", lambda *_, read=read, **__: read)
        found = Audit(samples="x.npy")._samples(data, notes)
        assert len(found.unique(dim=0)) == 20_000
        assert torch.equal(found, rows[:count]) != drawn
    assert notes == ["read", "read", "20,000 of the 20,001 samples were drawn at random"]


# mistakes


def test_a_number_is_finite_and_a_whole_number_has_no_fraction():
    assert (_whole("-3"), _number("1e3")) == (-3, 1000.0)
    for read, word in ((_whole, "1.5"), (_number, "x"), (_number, "nan"), (_number, "inf")):
        with pytest.raises(ValueError, match=f"expected a .*number, got '{word}'"):
            read(word)


def test_the_first_sentence_of_a_boxed_message_is_in_our_words():
    boxed = "╭─ Parsing error ─╮\n│ Error parsing --n: expected INT, got 'x' │\n│ ──── │\n│ help │\n╰──╯"
    assert _first_sentence(boxed) == "--n: expected a whole number, got 'x'"
    ruled = "Parsing error\n-----\nMissing from diffuscope: MODEL (required)\n-----\nhelp"
    assert _first_sentence(ruled) == "MODEL: expected, but missing"
    choice = "invalid choice 'hun' for argument '--sampler'. Expected one of ('heun', 'ddim', None)."
    assert _first_sentence(f"x\n--\n{choice}") == (
        "--sampler: expected one of heun, ddim, got 'hun'; did you mean heun?"
    )
    broken = "│ Error parsing --points: expected one from 8 to 10,000, │\n│ 000, got 0 │"
    assert _first_sentence(f"╭──╮\n{broken}") == "--points: expected one from 8 to 10,000,000, got 0"
    assert _first_sentence("") == "the arguments cannot be read"


def test_a_line_says_where_the_user_s_code_failed_and_nothing_of_ours(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("\n\ndef f():\n    raise KeyError('k')\n")
    namespace: dict[str, Any] = {"__name__": "mine"}
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    with pytest.raises(KeyError) as raised:
        namespace["f"]()
    assert failures.user_place(raised.value) == f"{path}:4"
    assert failures.failure(raised.value, {}, None).code == 2
    assert failures.kind_and_text(raised.value) == "KeyError: 'k'"
    assert failures.kind_and_text(KeyError()) == "KeyError"
    assert failures.user_place(ValueError()) is None
    assert failures.modules_named(["--model=a.b:c?x=1", "azula:d:e", "f", "--n", "3"]) == {"a.b", "azula", "d"}
    assert failures.one_line("a\n b\tc\x00") == "a b c\\x00"
    assert failures.failure(MemoryError("m"), {}, None).line.startswith("the memory does not suffice (MemoryError: m)")
    assert failures.failure(KeyboardInterrupt(), {}, None).code == 130
