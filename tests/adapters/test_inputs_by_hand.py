"""Inputs, classes, levels and outputs that the adapters pass on, by hand."""

import math
from types import SimpleNamespace
from typing import Any

import diffusers_in_small
import pytest
import torch

from diffuscope.adapters import from_azula, from_edm, from_k_diffusion, from_onnx, sampler_scheduler
from diffuscope.adapters.azula_models import AzulaSchedule
from diffuscope.adapters.diffusers import _model_output, _model_times, _scale, _Table
from diffuscope.adapters.diffusers_models import Called, class_rows, shape_of
from diffuscope.adapters.edm_models import Rounded
from diffuscope.adapters.k_diffusion_models import Levels
from diffuscope.adapters.model_inputs import ClassRows, conditioned_by, read_range, read_shape, repeated, settings_of
from diffuscope.errors import InputError
from diffuscope.schedules import VE, RectifiedFlow
from numbers_in_tests import double

CPU = torch.device("cpu")


class Model:
    """It states what it is given, and answers its first input, or what is said."""

    def __init__(self, answer: Any = None, **stated: Any) -> None:
        vars(self).update(stated)
        self.answer = answer

    def __call__(self, x: torch.Tensor, t: Any, y: Any = None) -> Any:
        del t, y
        return x if self.answer is None else self.answer(x)


# classes and constants


def test_classes_are_the_rows_but_that_of_none():
    """Five rows, of which the third means none: classes 0, 1 and 2, 3 behind it."""
    rows = ClassRows(5, 2)
    assert rows.classes == 4
    assert rows.of(torch.tensor([0, 1, 2, 3, 4]), 5, CPU).tolist() == [0, 1, 3, 4, 2]
    assert rows.of(None, 2, CPU).tolist() == [2, 2]
    assert rows.of(3, 2, CPU).tolist() == [4, 4]
    without = ClassRows(5)
    assert without.classes == 5
    assert without.of(torch.tensor([4, 0]), 2, CPU).tolist() == [4, 0]
    for none in (None, torch.tensor([1, 5])):
        with pytest.raises(InputError, match=r"expected class=0 \.\. class=4, or null_class"):
            without.of(none, 2, CPU)
    assert [ClassRows(5, null).null for null in (0, 4)] == [0, 4]
    for null in (-1, 5):
        with pytest.raises(InputError, match=rf"null_class: expected one of the classes 0 \.\. 4, got {null}"):
            ClassRows(5, null)


def test_constants_of_one_row_are_repeated_and_others_are_not():
    given = {"a": torch.ones(1, 3), "b": torch.ones(2, 3), "c": 0.5, "d": torch.tensor(2.0)}
    found = repeated(given, 4)
    assert found["a"].shape == (4, 3)
    assert found["b"] is given["b"]
    assert (found["c"], found["d"]) == (0.5, given["d"])


def test_shapes_and_ranges_are_read_from_words():
    assert (read_shape("3,1,2"), read_shape(7)) == ((3, 1, 2), (7,))
    for word in ("3,0", "-1", "x", True, None, "1.5"):
        with pytest.raises(InputError, match="expected event_shape=3,32,32"):
            read_shape(word)
    assert read_range("-2,0.5") == (-2.0, 0.5)
    for word in ("1,1", "2,1", "1", "1,2,3", "x"):
        with pytest.raises(InputError, match="expected data_range=-1,1"):
            read_range(word)


def test_numbers_are_numbers_and_what_no_word_can_say_is_refused():
    assert settings_of(from_edm, {"sigma_min": 1, "event_shape": "2", "data_range": None}, "edm:x") == {
        "sigma_min": 1,
        "event_shape": (2,),
        "data_range": None,
    }
    for value in (None, True, "word"):
        with pytest.raises(InputError, match=f"expected a number for sigma_max, got {value!r}"):
            settings_of(from_edm, {"sigma_max": value}, "edm:x")
    with pytest.raises(InputError, match="has no option 'condition'"):
        settings_of(from_azula, {"condition": 1}, "azula:x")


def test_a_class_and_its_guidance_are_numbers():
    for wrong, said in (
        ({"class": True}, "expected class=NUMBER, got class=True"),
        ({"class": 1.0}, "expected class=NUMBER"),
        ({"class": 1, "guidance": "x"}, "expected guidance=NUMBER"),
        ({"class": 1, "guidance": math.inf}, "expected guidance=NUMBER"),
        ({"guidance": 2}, "expected class=NUMBER with guidance=2"),
    ):
        with pytest.raises(InputError, match=said):
            conditioned_by(dict(wrong))
    model: Any = Model(schedule=VE(), classes=3)
    assert [conditioned_by({"class": y})(model).y.item() for y in (0, 2)] == [0, 2]  # pyright: ignore
    assert type(conditioned_by({"class": 1, "guidance": 1})(model)).__name__ == "OfClass"
    assert type(conditioned_by({"class": 1, "guidance": 0})(model)).__name__ == "Guided"
    for y in (-1, 3):
        with pytest.raises(InputError, match=rf"expected class=0 \.\. class=2, got class={y}"):
            conditioned_by({"class": y})(model)


# what models state


def test_data_are_in_the_usual_range_unless_another_one_is_stated_or_none():
    azula = Model(schedule=Scales(lambda t: 1 + t))
    for make, network in ((from_edm, Model()), (from_k_diffusion, Model()), (from_azula, azula)):
        stated: Any = make
        assert stated(network, event_shape=(2,)).data_range == (-1.0, 1.0)
        assert stated(network, event_shape=(2,), data_range=(0.0, 2.0)).data_range == (0.0, 2.0)
        assert not hasattr(stated(network, event_shape=(2,), data_range=None), "data_range")


def test_an_edm_network_has_the_levels_of_its_sampler_where_its_own_are_wider():
    for stated, ends in (({}, (0.002, 80)), ({"sigma_min": 0.0, "sigma_max": math.inf}, (0.002, 80)),
                         ({"sigma_min": 0.5, "sigma_max": 9.0}, (0.5, 9.0))):  # fmt: skip
        network = Model(**stated)
        schedule = from_edm(network, event_shape=(2,)).schedule
        assert (schedule.sigma_min, schedule.sigma_max) == ends
        schedule = from_edm(network, event_shape=(2,), sigma_min=0.001, sigma_max=100).schedule
        assert (schedule.sigma_min, schedule.sigma_max) == (0.001, 100.0)
        wrapped = from_k_diffusion(network, event_shape=(2,)).schedule if stated.get("sigma_min", 1) else None
        if wrapped is not None:
            assert (wrapped.sigma_min, wrapped.sigma_max) == ((0.5, 9.0) if stated else (0.01, 160.0))


@pytest.mark.parametrize(
    ("channels", "size", "shape"), [(3, 8, (3, 8, 8)), (1, (4, 6), (1, 4, 6)), (None, 8, None), (3, None, None)]
)
def test_a_network_states_its_shape(channels, size, shape):
    network = Model(img_channels=channels, img_resolution=size)
    assert shape_of({"in_channels": channels, "sample_size": size}) == shape
    if shape is not None:
        assert from_edm(network).event_shape == shape
        return
    with pytest.raises(InputError, match="does not state the shape of one example"):
        from_edm(network)


def test_a_network_that_rounds_a_level_by_a_millionth_leaves_it_alone():
    for change, kept in ((0.9e-6, True), (1.05e-6, False), (-0.9e-6, True), (-1.05e-6, False)):
        network = SimpleNamespace(round_sigma=lambda sigma, change=change: sigma * (1 + change))
        t = double(3.0)
        assert (float(Rounded(network).nearest(t)) == 3.0) == kept
    assert float(Rounded(SimpleNamespace()).nearest(3.0)) == 3.0


def test_the_nearest_level_of_a_table_is_that_in_the_logarithm():
    """Between 1 and 4 the border is at 2; beyond the ends it is the end."""
    levels = Levels(double(1.0, 4.0, 9.0))
    assert levels.nearest(double(0.1, 1.0, 1.9, 2.0, 2.1, 4.0, 5.9, 6.1, 100.0)).tolist() == [
        1,
        1,
        1,
        1,
        4,
        4,
        4,
        9,
        9,
    ]


class Scales:
    """An azula schedule with alpha = 1."""

    def __init__(self, sigma: Any) -> None:
        self.sigma = sigma

    def __call__(self, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones_like(t), self.sigma(t)


def test_an_azula_schedule_is_positive_and_higher_at_its_end():
    def model(sigma: Any) -> Any:
        return Model(lambda x: SimpleNamespace(mean=x), schedule=Scales(sigma))

    for right in (lambda t: 1e-9 + t, lambda t: 1 + (t - 0.1).abs()):  # more at 1 than at 0, whatever lies between
        assert from_azula(model(right), event_shape=(2,)).event_shape == (2,)
    for wrong in (
        lambda t: t,  # nothing at 0
        lambda t: 1 + 10 * (t - 1).clamp(min=0),  # as much at 1 as at 0, and more behind
        lambda t: 2 - t,
    ):
        with pytest.raises(InputError, match="expected an azula schedule with sigma > 0 and decreasing"):
            from_azula(model(wrong), event_shape=(2,))


def test_the_time_of_a_level_is_found_by_section_and_beyond_the_ends_is_the_end():
    """sigma = 1 + 3 t."""
    schedule = AzulaSchedule(Scales(lambda t: 1 + 3 * t))
    t = double(0.0, 0.1, 0.7, 1.0)
    assert schedule.time_of_lambda(-(1 + 3 * t).log()).tolist() == pytest.approx(t.tolist(), abs=1e-14)
    assert schedule.time_of_lambda(double(1.0, -9.0)).tolist() == pytest.approx([0, 1], abs=1e-14)
    assert schedule.sigma_dot(t).tolist() == [3] * 4
    assert schedule.alpha_dot(t).tolist() == [0] * 4


# states and outputs of diffusers' schedulers

X, CLEAN = double(1.5, -0.5)[None], double(0.5, 0.25)[None]


@pytest.mark.parametrize(
    ("kind", "schedule", "time", "scale"),
    [
        ("vp", VE(), 0.75, 1.25), ("ve", VE(), 0.75, 1.0), ("edm", VE(), 0.75, 1.0), ("flow", VE(), 0.75, 1.75),
        ("flow", RectifiedFlow(), 0.75, 1.0), ("vp", RectifiedFlow(), 3 / 7, 5 / 7),
        ("ve", RectifiedFlow(), 3 / 7, 4 / 7),
    ],
)  # fmt: skip
def test_our_state_is_the_schedulers_times_alpha_their_sum_or_their_norm(kind, schedule, time, scale):
    assert float(_scale(kind, schedule, double(time)[0])) == pytest.approx(scale)


def test_the_output_of_the_model_is_in_the_parametrization_of_the_scheduler():
    """At the rectified flow's t = 3/7 (4 and 3 sevenths): eps = (7 x - 4 x_0) / 3, and v in states of norm 5/7."""
    t = double(3 / 7)[0]
    denoiser: Any = Model(lambda _: CLEAN, schedule=RectifiedFlow())
    eps = (7 * X - 4 * CLEAN) / 3
    for settings, expected in (
        ({"prediction_type": "sample"}, CLEAN),
        ({"prediction_type": "epsilon"}, eps),
        ({"prediction_type": "flow_prediction"}, eps - CLEAN),
        ({}, eps - CLEAN),
        ({"prediction_type": "v_prediction"}, (4 * eps - 3 * CLEAN) / 5),
    ):
        scheduler = SimpleNamespace(config=settings)
        torch.testing.assert_close(_model_output(scheduler, "vp", denoiser, X, t, X), expected, rtol=1e-12, atol=1e-12)
    edm = SimpleNamespace(precondition_outputs=lambda x, output, r: x / (1 + r) + 2 * r * output)
    state = 2 * X  # r = 3/4
    torch.testing.assert_close(_model_output(edm, "edm", denoiser, X, t, state), (CLEAN - state / 1.75) / 1.5)


def test_the_times_of_calls_are_those_of_their_levels():
    scheduler = SimpleNamespace(config=SimpleNamespace(num_train_timesteps=1000))
    table = _Table.of(VE(), double(4.0, 1.0, 0.25))
    assert _model_times(scheduler, "flow", table, double(500.0, 200.0)).tolist() == pytest.approx([1.0, 0.25])
    assert _model_times(scheduler, "edm", table, double(0.0, 0.25)).tolist() == pytest.approx([1.0, math.e])
    assert _model_times(scheduler, "ve", table, double(2.0, 0.5)).tolist() == pytest.approx([4.0, 0.5])


def test_a_network_is_called_by_name_or_by_place_and_of_twice_the_channels_the_first_half_is_meant():
    class ByName(torch.nn.Module):
        def forward(self, sample, timestep, class_labels=None):
            shift = 0 if class_labels is None else class_labels.reshape(-1, 1)
            return (torch.cat([sample + timestep + shift, 100 * sample], 1),)

    class ByPlace(torch.nn.Module):
        def forward(self, a, b):
            return SimpleNamespace(sample=a - b)

    x = double(1.0, 2.0)[None]
    assert Called(ByName(), ClassRows(0), {}, 1.0)(x, torch.tensor(3.0)).tolist() == [[4, 5]]
    assert Called(ByName(), ClassRows(4, 3), {}, -1.0)(x, torch.tensor(3.0), 2).tolist() == [[-6, -7]]
    assert Called(ByPlace(), ClassRows(0), {}, 1.0)(x, torch.tensor(3.0)).tolist() == [[-2, -1]]
    assert class_rows({"num_class_embeds": 7}, None) == ClassRows(7)
    assert class_rows({"norm_type": "ada_norm_zero", "num_embeds_ada_norm": 7}, None) == ClassRows(8, 7)
    assert class_rows({"norm_type": "ada_norm_zero", "num_embeds_ada_norm": 7}, 0) == ClassRows(8, 0)
    assert class_rows({"num_embeds_ada_norm": 7}, None) == class_rows({}, None) == ClassRows(0)
    with pytest.raises(InputError, match="null_class: expected none"):
        class_rows({}, 1)


# ONNX files


class Session:
    """A session that answers x and keeps what it is fed."""

    def __init__(self, **shapes: Any) -> None:
        self.shapes, self.fed = shapes, list[dict[str, Any]]()

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name=name, shape=shape, type="tensor(double)") for name, shape in self.shapes.items()]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="d")]

    def run(self, outputs: list[str], feeds: dict[str, Any]) -> list[Any]:
        assert outputs == ["d"]
        self.fed.append({name: value.tolist() for name, value in feeds.items()})
        return [feeds["x"]]


def test_a_file_for_batches_of_two_is_fed_twos_of_which_the_last_is_filled_up():
    session = Session(x=[2, 1], t=[2], c=[2, 1])
    denoiser = from_onnx(session, schedule=VE(), predicts="data", constants={"c": 0.5}, time="t", event_shape=(1,))
    x = double(1.0, 2.0, 3.0)[:, None]
    assert denoiser(x, double(4.0, 5.0, 6.0)).tolist() == x.tolist()
    assert session.fed == [
        {"x": [[1.0], [2.0]], "t": [4.0, 5.0], "c": [[0.5], [0.5]]},
        {"x": [[3.0], [3.0]], "t": [6.0, 6.0], "c": [[0.5], [0.5]]},
    ]
    assert denoiser(x[:0], double()).shape == (0, 1)


def test_inputs_of_one_value_are_given_one():
    session = Session(x=["n", 1], t=[], c=[1])
    denoiser = from_onnx(session, schedule=VE(), predicts="data", constants={"c": 0.5}, time="t")
    denoiser(double(1.0, 2.0)[:, None], 4.0)
    assert session.fed == [{"x": [[1.0], [2.0]], "t": 4.0, "c": [0.5]}]
    with pytest.raises(InputError, match="takes one value for a whole batch, got several"):
        denoiser(double(1.0, 2.0)[:, None], double(4.0, 5.0))


# our samplers as a scheduler


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Any:
    if not diffusers_in_small.INSTALLED:
        diffusers_in_small.stand_in(monkeypatch)
        sampler_scheduler._scheduler_class.cache_clear()
    yield sampler_scheduler.SamplerScheduler
    if not diffusers_in_small.INSTALLED:
        sampler_scheduler._scheduler_class.cache_clear()


def test_levels_of_a_flow_are_equal_steps_to_that_of_the_first_timestep_and_shifted(scheduler):
    """From 1 to 1/10 in 3 steps, of which the last is not called: 1, 0.7, 0.4; s to 3 s / (1 + 2 s)."""
    flow = scheduler(num_train_timesteps=10, prediction_type="flow_prediction")
    flow.set_timesteps(3)
    assert flow.timesteps.tolist() == pytest.approx([10, 7, 4])
    assert len(flow) == 10
    shifted = scheduler(num_train_timesteps=10, shift=3.0)
    shifted.set_timesteps(3)
    assert shifted.timesteps.tolist() == pytest.approx([10, 8.75, 20 / 3])
    shifted.set_timesteps(sigmas=[0.5, 0.25])
    assert shifted.timesteps.tolist() == pytest.approx([7.5, 5])
    shifted.set_timesteps(timesteps=[7.5, 5])  # as they are
    assert shifted.timesteps.tolist() == pytest.approx([7.5, 5])
    x, eps = torch.ones(2, 1), torch.full((2, 1), 3.0)
    assert flow.add_noise(x, eps, torch.tensor([2.0, 5.0])).flatten().tolist() == pytest.approx([1.4, 2.0])


def test_timesteps_decrease_within_the_table_whose_ends_are_in_it(scheduler):
    table = scheduler(num_train_timesteps=5)
    table.set_timesteps(timesteps=[4, 0])
    assert (table.timesteps.tolist(), table.num_inference_steps) == ([4, 0], 2)
    table.set_timesteps(1)
    assert table.timesteps.tolist() == [4]
    for wrong in ([5, 0], [4, -1], [0, 4], [2, 2], []):
        with pytest.raises(InputError, match="timesteps: expected decreasing ones within the table"):
            table.set_timesteps(timesteps=wrong)
    with pytest.raises(InputError, match="num_inference_steps: expected at least 1, got 0"):
        table.set_timesteps(0)
    with pytest.raises(InputError, match="expected exactly one of num_inference_steps, timesteps, sigmas, got 2"):
        table.set_timesteps(1, timesteps=[4])
    with pytest.raises(InputError, match="got 0"):
        table.set_timesteps()
    with pytest.raises(InputError, match="sigmas: expected timesteps"):
        table.set_timesteps(sigmas=[0.5])


def test_steps_are_counted_from_the_first_that_is_called_or_set(scheduler):
    """Two steps of DDIM of which each predicts zero noise: x times the ratio of the alphas."""
    table = scheduler("DDIM", num_train_timesteps=5, beta_start=0.1, beta_end=0.5)
    table.set_timesteps(timesteps=[4, 2, 1])
    alpha = table.alphas_cumprod.double().sqrt()
    x, nothing = torch.ones(1, 2, dtype=torch.float64), torch.zeros(1, 2, dtype=torch.float64)
    for begin, timestep, after, number in ((None, 2, 1, 2), (None, 1, None, 3), (0, 2, 2, 1)):
        table.set_timesteps(timesteps=[4, 2, 1])
        assert table.step_index is None
        if begin is not None:
            table.set_begin_index(begin)
        found = table.step(nothing, timestep, x)
        start = 4 if begin == 0 else timestep
        ratio = (1 if after is None else alpha[after]) / alpha[start]
        torch.testing.assert_close(found.prev_sample, ratio * x, rtol=1e-6, atol=0)
        torch.testing.assert_close(found.pred_original_sample, x / alpha[start], rtol=1e-6, atol=0)
        assert (table.step_index, table.begin_index) == (number, begin)
