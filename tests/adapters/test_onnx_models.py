"""ONNX files: an exact model in a file is the exact denoiser, and a one-step model is declared as one."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from exact_gaussian import (
    MEAN,
    SHAPE,
    VARIANCE,
    assert_passes_the_audits_first_question,
    denoised,
    difference,
    load_model,
    noised,
)

from diffuscope.adapters import from_onnx
from diffuscope.denoisers import ExactDenoiser, StepIndex
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import generate, is_one_step
from diffuscope.schedules import VE, VP, DiscreteVP, RectifiedFlow

LEVELS = torch.tensor([0.002, 0.1, 1.0, 7.0, 80.0], dtype=torch.float64)


class Session:
    """What of an onnxruntime session is used, around a function of named arrays."""

    def __init__(self, function, **inputs):
        self.function, self.inputs, self.batches = function, inputs, []

    def get_inputs(self):
        return [SimpleNamespace(name=name, shape=shape, type=kind) for name, (shape, kind) in self.inputs.items()]

    def get_outputs(self):
        return [SimpleNamespace(name="out"), SimpleNamespace(name="other")]

    def run(self, names, feeds):
        assert names == ["out"]
        for name, (shape, kind) in self.inputs.items():
            assert feeds[name].ndim == len(shape)
            assert all(a == b for a, b in zip(feeds[name].shape, shape, strict=True) if isinstance(b, int))
            assert str(feeds[name].dtype) == {"tensor(double)": "float64", "tensor(int64)": "int64"}[kind]
        self.batches.append(len(feeds["x"]))
        return [self.function(**{name: torch.from_numpy(value) for name, value in feeds.items()}).numpy()]


X, DOUBLE, WHOLE = ["batch", *SHAPE], "tensor(double)", "tensor(int64)"


def exact(x, t):
    return denoised(x, torch.ones(len(x)), t.expand(len(x)) if t.ndim == 0 else t.flatten())


def test_a_state_and_a_time_that_require_gradients_are_sent_as_numbers():
    denoiser = from_onnx(Session(exact, x=(X, DOUBLE), t=(["batch"], DOUBLE)), schedule=VE(), predicts="data")
    x, t = torch.ones(2, *SHAPE, dtype=torch.float64), torch.tensor(1.5, dtype=torch.float64)
    found = denoiser(x.clone().requires_grad_(), t.clone().requires_grad_())
    assert torch.equal(found, denoiser(x, t))
    assert not found.requires_grad


@pytest.mark.parametrize("time_shape", [["batch"], ["batch", 1], ["batch", 1, 1, 1]])
def test_the_time_comes_in_the_shape_of_its_input(time_shape):
    denoiser = from_onnx(
        Session(exact, x=(X, DOUBLE), t=(time_shape, DOUBLE)), time="t", schedule=VE(), predicts="data"
    )
    x = noised(5, torch.ones(5), LEVELS)
    assert difference(denoiser(x, LEVELS), denoised(x, torch.ones(5), LEVELS)) < 1e-12
    assert denoiser.event_shape == SHAPE
    assert denoiser(x.float(), 1.0).dtype == torch.float32


@pytest.mark.parametrize("time_shape", [[], [1]])
def test_one_time_for_the_batch_takes_one_value(time_shape):
    denoiser = from_onnx(
        Session(exact, x=(X, DOUBLE), t=(time_shape, DOUBLE)), time="t", schedule=VE(), predicts="data"
    )
    x = noised(5, torch.ones(5), LEVELS)
    assert difference(denoiser(x, 7.0), denoised(x, torch.ones(5), torch.full((5,), 7.0))) < 1e-12
    with pytest.raises(InputError, match="t: the input t of this file takes one value for a whole batch, got several"):
        denoiser(x, LEVELS)


def test_a_file_for_batches_of_two_is_called_in_twos():
    session = Session(exact, x=([2, *SHAPE], DOUBLE), t=([2], DOUBLE))
    denoiser = from_onnx(session, schedule=VE(), predicts="data")
    x = noised(5, torch.ones(5), LEVELS)
    assert difference(denoiser(x, LEVELS), denoised(x, torch.ones(5), LEVELS)) < 1e-12
    assert session.batches == [2, 2, 2]


@pytest.mark.parametrize("predicts", ["noise", "v", "velocity", "data"])
def test_what_a_file_predicts_is_stated(predicts):
    schedule = RectifiedFlow()

    def network(x, t):
        t = t / 1000
        alpha, sigma = (1 - t).reshape(-1, 1, 1, 1), t.reshape(-1, 1, 1, 1)
        clean = denoised(x, alpha, sigma)
        noise = (x - alpha * clean) / sigma
        return {"noise": noise, "data": clean, "velocity": noise - clean, "v": alpha * noise - sigma * clean}[predicts]

    session = Session(network, x=(X, DOUBLE), t=(["batch"], DOUBLE))
    denoiser = from_onnx(session, schedule=schedule, predicts=predicts, time_scale=1000)
    t = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    x = noised(3, 1 - t, t)
    assert difference(denoiser(x, t), denoised(x, 1 - t, t)) < 1e-11


def test_a_table_gives_its_indices_and_classes_and_constants_go_where_they_belong():
    seen = {}

    def network(x, k, y, strength):
        seen.update(k=k.tolist(), y=y.tolist(), strength=strength.tolist())
        return torch.zeros_like(x)

    session = Session(
        network, x=(X, DOUBLE), k=(["batch"], WHOLE), y=(["batch"], WHOLE), strength=(["batch", 1], DOUBLE)
    )
    denoiser = from_onnx(
        session, schedule=DiscreteVP.linear(), predicts="noise", time="k", constants={"strength": 0.5}, labels="y",
        classes=11, null_class=10, clock=StepIndex(1000, first_index=1), output="out",
    )  # fmt: skip
    x = torch.zeros(2, *SHAPE)
    denoiser(x, torch.tensor([1.0, 7.0]), torch.tensor([3, 0]))
    assert seen == {"k": [1, 7], "y": [3, 0], "strength": [[0.5], [0.5]]}
    denoiser(x, 1000)
    assert seen["y"] == [10, 10]
    assert denoiser.classes == 10


INPUTS = {"x": (X, DOUBLE), "t": (["batch"], DOUBLE)}


@pytest.mark.parametrize(
    ("inputs", "options", "match"),
    [
        (INPUTS, {"time": "sigma"}, r"model: no input sigma for time; the file has x \(batch, 1, 2, 2\), t \(batch\)$"),
        (INPUTS, {"x": "noisy"}, "model: no input noisy for x; the file has"),
        (INPUTS, {"constants": {"c": 1}}, "model: no input c for c; the file has"),
        (INPUTS | {"c": (["batch"], DOUBLE)}, {}, "model: expected time=NAME, the input of the time or noise level; "),
        (INPUTS | {"c": (["batch"], DOUBLE)}, {"time": "t"}, "model: the input c has no value; expected c=NUMBER; "),
        (INPUTS | {"z": (X, DOUBLE)}, {}, "model: expected x=NAME, the input of noised data; the file has"),
        (INPUTS | {"c": (["b"], "tensor(string)")}, {}, r"model: the input c is a tensor\(string\); expected numbers"),
        (
            INPUTS | {"c": (["b"], DOUBLE)},
            {"time": "t", "constants": {"c": "high"}},
            "expected a number for the input c",
        ),
        (INPUTS, {"output": "eps"}, "output: expected one of out, other, got eps"),
        (INPUTS, {"classes": 3}, "labels: expected labels=NAME with classes=NUMBER, got None and 3"),
        (INPUTS, {"predicts": "eps"}, "expected .*predicts=data, noise, v or velocity, got .* and predicts=eps$"),
        (INPUTS, {"schedule": None}, "an ONNX file does not state its training; expected a schedule and predicts="),
        (INPUTS | {"x": (["batch", 3, "h", "w"], DOUBLE)}, {}, "event_shape: the input x of the file does not state"),
    ],
)
def test_what_a_file_lacks_is_one_line_with_what_it_has(inputs, options, match):
    with pytest.raises(InputError, match=match) as caught:
        from_onnx(Session(exact, **inputs), **({"schedule": VP(), "predicts": "data"} | options))
    assert "\n" not in str(caught.value)


@pytest.fixture
def written(tmp_path):
    """A function that writes the exact denoiser of the Gaussian under VE, times `gain`, as an ONNX file."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    helper = onnx.helper

    def write(name: str, kind=onnx.TensorProto.DOUBLE, third: bool = False) -> Path:
        dtype = {onnx.TensorProto.DOUBLE: np.float64, onnx.TensorProto.FLOAT: np.float32}[kind]
        fixed = {"m": MEAN[None], "v": VARIANCE[None], "shape": torch.tensor([-1, 1, 1, 1])}
        constants = [
            onnx.numpy_helper.from_array(np.asarray(value, dtype if value.is_floating_point() else None), key)
            for key, value in fixed.items()
        ]
        chain = [
            ("Mul", ["sigma", "sigma"], "variance"), ("Reshape", ["variance", "shape"], "noise"),
            ("Add", ["noise", "v"], "total"), ("Sub", ["noisy", "m"], "centered"), ("Mul", ["centered", "v"], "a"),
            ("Div", ["a", "total"], "b"), ("Add", ["b", "m"], "c"),
        ]  # fmt: skip
        chain += [("Reshape", ["gain", "shape"], "g"), ("Mul", ["c", "g"], "denoised")] if third else []
        nodes = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in chain]
        last = chain[-1][2]
        inputs = [helper.make_tensor_value_info("noisy", kind, ["batch", *SHAPE])]
        inputs += [
            helper.make_tensor_value_info(key, kind, ["batch"]) for key in ("sigma", *(["gain"] if third else []))
        ]
        outputs = [helper.make_tensor_value_info(last, kind, ["batch", *SHAPE])]
        graph = helper.make_graph(nodes, "exact", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        (tmp_path / name).write_bytes(model.SerializeToString())
        return tmp_path / name

    return write


def test_an_exact_model_in_a_file_is_the_exact_denoiser(written):
    onnx = pytest.importorskip("onnx")

    x = noised(5, torch.ones(5), LEVELS)
    exact = denoised(x, torch.ones(5), LEVELS)
    double = load_model(f"onnx:{written('double.onnx')}?schedule=ve&predicts=data")
    assert difference(double(x, LEVELS), exact) < 1e-12
    single = load_model(
        f"onnx:{written('single.onnx', onnx.TensorProto.FLOAT)}?schedule=ve&predicts=data&data_range=-3,3"
    )
    assert difference(single(x, LEVELS), exact) < 2e-6  # sigma and x in float32
    assert (single.event_shape, single.data_range) == (SHAPE, (-3.0, 3.0))
    three = written("three.onnx", third=True)
    twice = load_model(f"onnx:{three}?schedule=ve&predicts=data&time=sigma&gain=2&sigma_max=40")
    assert difference(twice(x, LEVELS), 2 * exact) < 1e-12
    assert twice.schedule.t_max == 40.0
    assert load_model(f"onnx:{three}?schedule=flow&predicts=velocity&time=sigma&gain=1").schedule == RectifiedFlow()


def test_a_file_without_the_expected_inputs_is_one_line_that_names_those_it_has(written, tmp_path):
    three, broken = written("three.onnx", third=True), tmp_path / "broken.onnx"
    has = r"the file has noisy \(batch, 1, 2, 2\), sigma \(batch\), gain \(batch\)$"
    broken.write_bytes(three.read_bytes()[:100])
    for options, match in [
        ("?schedule=ve&predicts=data", f"model: expected time=NAME, the input of the time or noise level; {has}"),
        ("?schedule=ve&predicts=data&time=t", f"model: no input t for time; {has}"),
        ("?schedule=ve&predicts=data&time=sigma", f"model: the input gain has no value; expected gain=NUMBER; {has}"),
        ("?schedule=edm&predicts=data", "model: an ONNX file .*schedule=ve, ddpm, vp or flow, got schedule=edm"),
        ("?predicts=data", "model: an ONNX file .* expected schedule=ve, ddpm, vp or flow, got no schedule"),
        (
            "?schedule=ve&predicts=data&time=sigma&gain=1&event_shape=1,3,3",
            r"model: event_shape: expected \(1, 2, 2\), as the input noisy has, got \(1, 3, 3\)$",
        ),
        ("?schedule=ve&predicts=data&difficulty=1", r"model: onnx:three\.onnx has no option 'difficulty'; expected"),
    ]:
        with pytest.raises(InputError, match=match) as caught:
            load_model(f"onnx:{three}{options}")
        assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"model: broken\.onnx is no ONNX file that onnxruntime can run \("):
        load_model(f"onnx:{broken}?schedule=ve&predicts=data")
    with pytest.raises(InputError, match=r"model: no file .*absent\.onnx"):
        load_model(f"onnx:{tmp_path}/absent.onnx?schedule=ve&predicts=data")


@pytest.mark.slow
def test_an_exact_model_in_a_file_passes_the_audits_first_question(written):
    assert_passes_the_audits_first_question(
        load_model(f"onnx:{written('double.onnx')}?schedule=ve&predicts=data&data_range=-6,6")
    )


@pytest.fixture(scope="module")
def terrain():
    """The file of a one-step consistency model that other people trained, in EDM's convention."""
    pytest.importorskip("onnxruntime")
    found = importlib.util.find_spec("terrain_diffusion")
    if found is None or found.origin is None:
        pytest.skip("adaptive-terrain-diffusion is not installed")
    (path,) = (Path(found.origin).parent / "weights").glob("*.onnx")
    return path


TERRAIN = "schedule=ve&predicts=data&time=sigma&difficulty=0.5&one_step=true&data_range=-1,1"


def test_the_terrain_model_is_declared_a_one_step_map_and_is_the_identity_at_its_lowest_level(terrain):
    model = load_model(f"onnx:{terrain}?{TERRAIN}")
    assert is_one_step(model)
    assert (model.event_shape, model.schedule) == ((1, 128, 128), VE(0.002, 80.0))
    # the boundary condition of a consistency model: f(x, sigma_min) = x
    x = 0.1 + 0.002 * torch.randn(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(x, 0.002), x)
    with pytest.raises(InputError, match="the input difficulty has no value; expected difficulty=NUMBER; the file has"):
        load_model(f"onnx:{terrain}?schedule=ve&predicts=data&time=sigma")


@pytest.mark.slow
def test_a_sample_of_the_terrain_model_is_one_call_from_noise_of_its_highest_level(terrain):
    model = load_model(f"onnx:{terrain}?{TERRAIN}")
    samples = generate(model, 2, seed=5)
    start = 80 * torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(5))
    alone = torch.cat([model(start[i : i + 1], 80.0) for i in range(2)])
    assert float((samples - alone).abs().max()) < 1e-5
    assert -1 < float(samples.min()) < float(samples.max()) < 1


def test_samples_of_an_exact_file_have_the_moments_of_the_data(written):
    """DPM-Solver++(2M) through the file and through our own exact denoiser give the same samples."""
    denoiser = load_model(f"onnx:{written('double.onnx')}?schedule=ve&predicts=data")
    gaussian = Gaussian.from_covariance(MEAN, torch.diag(VARIANCE.flatten()))
    ours = generate(ExactDenoiser(gaussian, VE()), 16, event_shape=SHAPE, dtype=torch.float64)
    assert difference(generate(denoiser, 16, dtype=torch.float64), ours) < 1e-9


def test_a_shape_that_the_file_states_is_the_one():
    session = Session(exact, x=(X, DOUBLE), t=(["batch"], DOUBLE))
    assert from_onnx(session, schedule=VE(), predicts="data", event_shape=SHAPE).event_shape == SHAPE
    with pytest.raises(InputError, match=r"event_shape: expected \(1, 2, 2\), as the input x has, got \(1, 3, 3\)$"):
        from_onnx(session, schedule=VE(), predicts="data", event_shape=(1, 3, 3))
