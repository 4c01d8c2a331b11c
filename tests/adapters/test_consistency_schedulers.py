"""Consistency models and saved pipelines of diffusers where the library is absent: the maps and the lines by hand."""

import json
import math
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import diffusers_in_small
import pytest
import safetensors.torch
import torch
from exact_gaussian import load_model
from torch import Tensor, nn

from diffuscope.adapters import diffusers_trained, from_diffusers, from_diffusers_folder
from diffuscope.adapters.diffusers_trained import Angle, trained_for
from diffuscope.errors import InputError
from diffuscope.samplers import is_one_step
from diffuscope.schedules import VE, Cosine, RectifiedFlow, ZeroTerminalVP

TABLE = torch.tensor([0.8, 0.5, 0.2], dtype=torch.float64)
X = torch.tensor([[3.0, 6.0], [1.0, -1.0]], dtype=torch.float64)


class CMStochasticIterativeScheduler:
    def __init__(self, **config: Any) -> None:
        self.config = SimpleNamespace(**{"sigma_min": 0.01, "sigma_max": 80.0, "sigma_data": 0.5} | config)


class LCMScheduler:
    alphas_cumprod = TABLE

    def __init__(self, **config: Any) -> None:
        given = {"prediction_type": "sample", "timestep_scaling": 10.0} | config
        self.config = diffusers_in_small.Config(given)


class Network(nn.Module):
    """F(x, time) = x + time / 100, plus ten times a class."""

    classes = 0

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config, self.times = config, list[Tensor]()

    def forward(self, x: Tensor, timestep: Tensor, class_labels: Tensor | None = None) -> Any:
        self.times.append(timestep)
        added = timestep.double()[:, None] / 100 + (0 if class_labels is None else 10 * class_labels[:, None])
        return SimpleNamespace(sample=x + added.to(x))


def test_a_consistency_map_is_the_identity_at_its_lowest_level_and_edms_blend_above_it():
    network = Network(num_class_embeds=3)
    model = from_diffusers(network, CMStochasticIterativeScheduler(sigma_data=0.75), event_shape=(2,))
    assert is_one_step(model)
    assert model.schedule == VE(0.01, 80.0)
    assert (model.event_shape, model.data_range, model.classes) == ((2,), (-1.0, 1.0), 3)
    y, s, sigma = torch.tensor([0, 2]), 0.75, 1.0
    scale = (sigma**2 + s**2) ** 0.5  # 1.25
    F = X / scale + 250 * 0.0 / 100 + torch.tensor([[0.0], [20.0]])
    above = sigma - 0.01
    expected = s**2 / (above**2 + s**2) * X + above * s / scale * F
    torch.testing.assert_close(model(X, sigma, y), expected, rtol=1e-12, atol=0)
    assert torch.equal(model(X, 0.01, y), X)
    model(X, 2.0, y)
    torch.testing.assert_close(network.times[-1], torch.full((2,), 250 * math.log(2.0), dtype=torch.float64))


@pytest.mark.parametrize("prediction", ["sample", "epsilon", "v_prediction"])
def test_a_latent_consistency_map_is_the_identity_at_the_first_step(prediction):
    network = Network(num_class_embeds=2)
    model = from_diffusers(network, LCMScheduler(prediction_type=prediction), event_shape=(2,))
    assert is_one_step(model)
    assert model.classes == 2
    y = torch.tensor([0, 1])
    for k in range(3):
        F = X + k / 100 + 10 * y[:, None]
        alpha, sigma = TABLE[k].sqrt(), (1 - TABLE[k]).sqrt()
        D = {"sample": F, "epsilon": (X - sigma * F) / alpha, "v_prediction": alpha * X - sigma * F}[prediction]
        r = 10.0 * k
        expected = 0.25 / (r**2 + 0.25) * X + r / (r**2 + 0.25) ** 0.5 * D
        torch.testing.assert_close(model(X, k + 1, y), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(model(X, 1, y), X)
    assert (model.event_shape, model.data_range) == ((2,), (-1.0, 1.0))


def of(name: str, **config: Any) -> Any:
    """A scheduler of which only its table and its settings are read."""
    return type(name, (), {"alphas_cumprod": TABLE, "config": diffusers_in_small.Config(config)})()


def test_the_schedule_clock_and_sign_of_every_kind():
    trained_for: Any = diffusers_trained.trained_for
    flow = trained_for(of("FlowMatchEulerDiscreteScheduler", num_train_timesteps=400, shift=3.0))
    assert flow.schedule == RectifiedFlow(3 / 402)
    assert flow.sign == 1
    assert flow.clock.label(0.5) == 200
    for config, low in (
        ({}, 1 / 1000),
        ({"shift": 3.0, "use_dynamic_shifting": True}, 1 / 1000),
        ({"flow_shift": 3.0, "shift": 2.0}, 3 / 1002),
    ):
        assert trained_for(of("FlowMatchEulerDiscreteScheduler", **config)).schedule == RectifiedFlow(low)
    inverted = trained_for(of("FlowMatchEulerDiscreteScheduler", invert_sigmas=True))
    assert (inverted.sign, float(inverted.clock.label(torch.tensor(0.25)))) == (-1, 750)
    clean = trained_for(of("FlowMatchEulerDiscreteScheduler", invert_sigmas=True, prediction_type="sample"))
    assert clean.sign == 1
    angle = trained_for(of("IPNDMScheduler"))
    assert angle.schedule == Cosine(0.0)
    assert float(angle.clock.label(torch.tensor(0.25))) == 0.25
    edm = {"sigma_min": 0.1, "sigma_max": 40.0, "sigma_data": 0.7}
    for name, prediction, sign in (("EDMEulerScheduler", "epsilon", 1), ("EDMEulerScheduler", "v_prediction", -1)):
        found = trained_for(of(name, prediction_type=prediction, **edm))
        assert (found.schedule, found.sign, found.clock) == (VE(0.1, 40.0), sign, None)
    cosine = trained_for(of("CosineDPMSolverMultistepScheduler", prediction_type="v_prediction", **edm))
    assert float(cosine.clock.label(1.0)) == pytest.approx(0.5)  # 2/pi arctan 1
    assert float(Angle().nearest(1.5)) == 1.5
    continuous = {"timestep_type": "continuous", "prediction_type": "v_prediction"}
    ends = trained_for(of("EulerDiscreteScheduler", **continuous)).schedule
    assert (ends.t_min, ends.t_max) == pytest.approx((0.5, 2.0))  # (1/0.8 - 1)^(1/2) and (1/0.2 - 1)^(1/2)
    for given in ({"sigma_min": 0.1}, {"sigma_max": 9.0}):
        assert trained_for(of("EulerDiscreteScheduler", **continuous, **given)).schedule.t_min == pytest.approx(0.5)
    named = trained_for(of("EulerDiscreteScheduler", **continuous, sigma_min=0.1, sigma_max=9.0))
    assert named.schedule == VE(0.1, 9.0)
    table = trained_for(of("DDIMScheduler", timestep_type="continuous"))
    torch.testing.assert_close(table.schedule.alpha(torch.arange(1.0, 4.0)) ** 2, TABLE, rtol=1e-6, atol=0)
    assert [int(table.clock.label(t)) for t in (1, 2, 3)] == [0, 1, 2]
    silent = of("DDIMScheduler", prediction_type="sample")
    silent.alphas_cumprod = torch.tensor([0.5, 0.0])
    assert isinstance(trained_for(silent).schedule, ZeroTerminalVP)


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (of("TCDScheduler"), "scheduler: the network of a TCDScheduler is not known to be a denoiser; expected one of"),
        ("DDPMScheduler", "scheduler: the network of a str is not known"),
        (type("DDPMScheduler", (), {})(), "scheduler: the network of a DDPMScheduler is not known"),
        (type("LCMScheduler", (), {})(), "scheduler: the network of a LCMScheduler is not known"),
        (
            of("DDIMScheduler", prediction_type="flow_prediction"),
            "DDIMScheduler of prediction_type epsilon or sample or",
        ),
        (of("FlowMatchEulerDiscreteScheduler", prediction_type="epsilon"), "of prediction_type flow_prediction or sam"),
        (of("IPNDMScheduler", prediction_type="epsilon"), "of prediction_type v_prediction, got 'epsilon'"),
        (of("EDMEulerScheduler", prediction_type="sample"), "of prediction_type epsilon or v_prediction, got 'sample'"),
        (LCMScheduler(prediction_type="score"), "expected a LCMScheduler of a known prediction_type, got 'score'"),
    ],
)
def test_a_scheduler_whose_network_is_no_denoiser_is_one_line(scheduler, said):
    with pytest.raises(InputError, match=said):
        trained_for(scheduler)


def test_a_network_is_called_by_the_names_that_it_takes_and_its_output_is_read_in_every_form():
    class Named(nn.Module):
        config = MappingProxyType[str, Any]({})

        def forward(self, sample: Tensor, **inputs: Tensor) -> Tensor:
            assert inputs.keys() == {"timestep", "more", "same"}
            assert inputs["more"].shape == (3, 4)
            assert inputs["same"].shape == (2, 4)
            return sample

    scheduler = of("DDIMScheduler", prediction_type="sample")
    x = torch.ones(3, 2)
    more = {"more": torch.zeros(1, 4), "same": torch.zeros(2, 4)}
    assert torch.equal(from_diffusers(Named(), scheduler, event_shape=(2,), condition=more)(x, 1), x)

    class Plain(nn.Module):
        config = MappingProxyType[str, Any]({})
        form: Any

        def forward(self, sample: Tensor, time: Tensor) -> Any:
            assert time.shape == (3,)
            return self.form(sample)

    halves = lambda x: torch.cat([x, torch.full_like(x, torch.nan)], 1)  # noqa: E731
    for form in (lambda x: x, lambda x: (x, None), lambda x: SimpleNamespace(sample=x), halves, lambda x: (halves(x),)):
        network = Plain()
        network.form = form
        assert torch.equal(from_diffusers(network, scheduler, event_shape=(2,))(x, 1), x)

    def refuse(_: Tensor) -> Any:
        raise RuntimeError("sizes\n do not fit")

    network = Plain().train()
    network.form = refuse
    model = from_diffusers(network, scheduler, event_shape=(2,), data_range=None)
    with pytest.raises(InputError, match=r"^model: the Plain does not take examples of shape \(2,\) \(RuntimeError: s"):
        model(x, 1)
    assert model.training
    assert not hasattr(model, "data_range")


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({"sample_size": 4, "in_channels": 3}, (3, 4, 4)),
        ({"sample_size": (4, 5), "in_channels": 1}, (1, 4, 5)),
        ({"sample_size": None, "in_channels": 1}, None),
        ({"sample_size": 4}, None),
    ],
)
def test_the_shape_is_that_of_the_networks_config(config, shape):
    scheduler = of("DDIMScheduler")
    if shape is None:
        with pytest.raises(InputError, match="event_shape: the config of the Network does not state the shape"):
            from_diffusers(Network(**config), scheduler)
    else:
        assert from_diffusers(Network(**config), scheduler).event_shape == shape
    with pytest.raises(InputError, match=r"event_shape: expected 7 channels, which the network has, got \(2, 2\)"):
        from_diffusers(Network(in_channels=7), scheduler, event_shape=(2, 2))


# saved pipelines


class UNet2DModel(nn.Module):
    """The prediction is the weight times the state, and the classes."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config, self.weight = config, nn.Parameter(torch.zeros(()))

    def forward(self, sample: Tensor, timestep: Tensor, **inputs: Any) -> Any:
        del timestep
        return (self.weight * sample + sum(inputs.values()),)

    @classmethod
    def from_pretrained(
        cls, folder: Path, *, local_files_only: bool, use_safetensors: bool, output_loading_info: bool,
        low_cpu_mem_usage: bool, variant: str | None = None,
    ) -> Any:  # fmt: skip
        assert (local_files_only, use_safetensors, output_loading_info, low_cpu_mem_usage) == (True, True, True, False)
        made = cls(**json.loads((folder / "config.json").read_text()))
        middle = "" if variant is None else f".{variant}"
        tensors = safetensors.torch.load_file(folder / f"diffusion_pytorch_model{middle}.safetensors")
        own = made.state_dict()
        info = {
            "missing_keys": [key for key in own if key not in tensors],
            "unexpected_keys": [key for key in tensors if key not in own],
            "mismatched_keys": [key for key in tensors if key in own and tensors[key].shape != own[key].shape],
        }
        if not any(info.values()):
            made.load_state_dict(tensors)
        return made.train(), info


class Saved(diffusers_in_small.DDPMScheduler):
    @classmethod
    def from_pretrained(cls, folder: Path, *, local_files_only: bool) -> Any:
        assert local_files_only
        return cls(**json.loads((folder / "scheduler_config.json").read_text()))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    library = diffusers_in_small.stand_in(monkeypatch)
    library.UNet2DModel, library.DDPMScheduler = UNet2DModel, type("DDPMScheduler", (Saved,), {})
    monkeypatch.setattr(
        "diffuscope.adapters.diffusers_folder.library", lambda *_: library
    )  # also where the library itself is installed
    pipeline = tmp_path / "ddpm"
    (pipeline / "unet").mkdir(parents=True)
    (pipeline / "scheduler").mkdir()
    index = {"_class_name": "DDPMPipeline", "unet": ["diffusers", "UNet2DModel"], "safety": [None, None]}
    (pipeline / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "DDPMScheduler"]}))
    (pipeline / "unet" / "config.json").write_text(json.dumps({"in_channels": 1, "sample_size": 2}))
    (pipeline / "scheduler" / "scheduler_config.json").write_text(json.dumps({"prediction_type": "sample"}))
    weights(pipeline, weight=torch.tensor(3.0))
    return pipeline


def weights(pipeline: Path, name: str = "diffusion_pytorch_model.safetensors", **tensors: Tensor) -> Path:
    path = pipeline / "unet" / name
    safetensors.torch.save_file(tensors, path)
    return path


def test_a_saved_pipeline_is_the_denoiser_of_its_parts(folder):
    x = torch.ones(2, 1, 2, 2)
    for model in (from_diffusers_folder(folder), load_model(f"diffusers:{folder}")):
        assert (model.event_shape, model.data_range, model.training) == ((1, 2, 2), (-1.0, 1.0), False)
        assert torch.equal(model(x, 5), 3 * x)
    conditioned = from_diffusers_folder(folder, condition={"encoder_hidden_states": torch.tensor(0.5)})
    assert torch.equal(conditioned(x, 5), 3 * x + 0.5)
    assert load_model(f"diffusers:{folder}?data_range=0,1&event_shape=1,4,4").event_shape == (1, 4, 4)
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"vae": ["diffusers", "AutoencoderKL"]}))
    assert not hasattr(from_diffusers_folder(folder), "data_range")
    assert from_diffusers_folder(folder, data_range=(0.0, 2.0)).data_range == (0.0, 2.0)
    with pytest.raises(InputError, match="null_class: expected none, as the network has no classes, got 4"):
        from_diffusers_folder(folder, null_class=4)


def test_weights_of_a_variant_or_in_parts_are_read(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    half = weights(folder, "diffusion_pytorch_model.fp16.safetensors", weight=torch.tensor(2.0).half())
    x = torch.ones(1, 1, 2, 2)
    assert torch.equal(from_diffusers_folder(folder)(x, 5), 2 * x)
    half.rename(folder / "unet" / "diffusion_pytorch_model-00001-of-00002.fp16.safetensors")
    weights(folder, weight=torch.tensor(4.0))  # the whole one is taken
    assert torch.equal(from_diffusers_folder(folder)(x, 5), 4 * x)


def refused(folder: Path | str, said: str) -> None:
    with pytest.raises(InputError, match=f"^model: {said}") as caught:
        from_diffusers_folder(folder)
    assert "\n" not in str(caught.value)


def test_each_folder_that_is_no_such_pipeline_has_its_line(folder, tmp_path):
    refused("google/ddpm", "no folder google/ddpm; expected a pipeline's local folder")
    refused(folder / "model_index.json", "no folder .*; expected a pipeline's local folder")
    refused(300 * "long", "no folder long")
    refused(tmp_path, ".* has no model_index.json; expected a saved diffusers pipeline")
    path = folder / "model_index.json"
    whole = path.read_text()
    for change, said in (
        ("{", ".* is no JSON"),
        ("[]", ".* describes no pipeline"),
        ("{}", "ddpm has no unet or transformer with a scheduler; its model_index.json names nothing"),
        ('{"unet": ["diffusers", "UNet2DModel"]}', "ddpm has no unet or transformer with .* names unet"),
        (whole.replace('"UNet2DModel"', '"NoSuch"'), "the unet of ddpm is diffusers.NoSuch, which the installed diff"),
        (whole.replace('["diffusers", "UNet', '["mine", "UNet'), "the unet of ddpm is mine.UNet2DModel, which the"),
        (whole.replace('"UNet2DModel"', '"DDIMScheduler"'), "the unet of ddpm is diffusers.DDIMScheduler, which"),
        (
            json.dumps(json.loads(whole) | {"text_encoder": ["transformers", "T5"]}),
            "the network of ddpm takes text embeddings; expected from_diffusers_folder",
        ),
    ):
        path.write_text(change)
        refused(folder, said)


def test_weights_that_are_pickled_missing_or_do_not_fit_are_refused(folder):
    path = weights(folder, other=torch.zeros(()))
    refused(folder, "the weights of ddpm/unet do not fit its config: 'weight'$")
    weights(folder, weight=torch.tensor(3.0), other=torch.zeros(()))
    refused(folder, "the weights of ddpm/unet do not fit its config: 'other'$")
    weights(folder, weight=torch.zeros(2))
    refused(folder, "the weights of ddpm/unet do not fit its config: 'weight'$")
    path.write_bytes(b"nothing")
    refused(folder, "ddpm/unet cannot be loaded: ")
    path.unlink()
    refused(folder, "ddpm/unet has no weights; expected diffusion_pytorch_model.safetensors$")
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"")
    refused(folder, "ddpm/unet has only the pickle diffusion_pytorch_model.bin, which can run code; expected")
