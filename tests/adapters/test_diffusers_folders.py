"""A saved pipeline is read from its folder: real networks whose answer is set by hand, and everything that is wrong."""

import json
import socket

import pytest
import safetensors.torch
import torch
from exact_gaussian import SHAPE, assert_passes_the_audits_first_question, load_model
from networks_of_tables import TABLE, Exact, table_levels

from diffuscope.adapters import from_diffusers, from_diffusers_folder
from diffuscope.denoisers import OfClass, noise_to_denoised
from diffuscope.errors import InputError
from diffuscope.samplers import generate

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore")  # about the library's own code


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("nothing may be fetched")

    monkeypatch.setattr(socket, "getaddrinfo", refused)
    monkeypatch.setattr(socket.socket, "connect", refused)


def unet():
    """A small UNet2DModel; random, but for a last layer that adds a known constant."""
    torch.manual_seed(0)
    made = diffusers.UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=2, block_out_channels=(4, 4),
        down_block_types=("DownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "UpBlock2D"),
        add_attention=False,
    )  # fmt: skip
    torch.nn.init.constant_(made.conv_out.bias, 0.25)
    return made.eval()


@pytest.fixture
def folder(tmp_path):
    pipeline = diffusers.DDPMPipeline(unet(), diffusers.DDPMScheduler(prediction_type="epsilon"))
    pipeline.save_pretrained(tmp_path / "ddpm")
    return tmp_path / "ddpm"


def test_a_saved_pipeline_is_the_denoiser_of_its_parts(folder):
    direct = from_diffusers(unet(), diffusers.DDPMScheduler(prediction_type="epsilon"))
    x = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    for loaded in (from_diffusers_folder(folder), load_model(f"diffusers:{folder}")):
        assert (loaded.event_shape, loaded.data_range, loaded.training) == ((1, 8, 8), (-1.0, 1.0), False)
        for t in (1, 300, 1000):
            assert float((loaded(x, t) - direct(x, t)).abs().max()) < 1e-6 * float(direct(x, t).abs().max())
    # and it is (x - sigma eps) / alpha of what the network itself says at index t - 1
    noise = unet()(x, 299).sample
    assert torch.allclose(direct(x, 300), noise_to_denoised(x, noise, direct.schedule, 300), atol=1e-6)
    assert generate(direct, 2, steps=3).shape == (2, 1, 8, 8)


def test_a_network_that_does_not_take_the_shape_or_lacks_an_input_is_one_line_with_its_reason(folder):
    odd = load_model(f"diffusers:{folder}?event_shape=1,7,7")
    with pytest.raises(InputError, match=r"^model: the UNet2DModel does not take examples of shape \(1, 7, 7\) \(Run"):
        generate(odd, 2, steps=2)
    text = diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, norm_num_groups=2, block_out_channels=(4,),
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), cross_attention_dim=4, attention_head_dim=4,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"^model: the UNet2DConditionModel .*\(TypeError: .*encoder_hidden_states"):
        generate(from_diffusers(text.eval(), diffusers.DDPMScheduler()), 2, steps=2)


def test_a_network_that_predicts_a_constant_is_known_by_hand(tmp_path):
    network = unet()
    torch.nn.init.zeros_(network.conv_out.weight)
    scheduler = diffusers.DDPMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)
    diffusers.DDPMPipeline(network, scheduler).save_pretrained(tmp_path)
    denoiser = load_model(f"diffusers:{tmp_path}?data_range=0,1")
    alpha = scheduler.alphas_cumprod.double().sqrt()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for k in (0, 500, 999):
        by_hand = alpha[k] * x - (1 - alpha[k] ** 2).sqrt() * 0.25
        assert float((denoiser(x, k + 1) - by_hand).abs().max()) < 1e-6
    assert float(alpha[-1]) == 0.0
    assert denoiser.data_range == (0.0, 1.0)


def test_a_dit_has_classes_a_learned_variance_and_latents(tmp_path):
    torch.manual_seed(0)
    dit = diffusers.DiTTransformer2DModel(
        num_attention_heads=2, attention_head_dim=4, in_channels=1, out_channels=2, num_layers=1, sample_size=4,
        patch_size=2, num_embeds_ada_norm=3,
    ).eval()  # fmt: skip
    torch.manual_seed(1)
    for parameter in dit.parameters():  # a new DiT ignores its classes
        torch.nn.init.normal_(parameter, std=0.3)
    vae = diffusers.AutoencoderKL(norm_num_groups=2, block_out_channels=(2,))
    pipeline = diffusers.DiTPipeline(dit, vae, diffusers.DDIMScheduler())
    pipeline.save_pretrained(tmp_path)
    denoiser = load_model(f"diffusers:{tmp_path}")
    assert (denoiser.event_shape, denoiser.classes) == ((1, 4, 4), 3)
    assert not hasattr(denoiser, "data_range")  # latents come in the model's own units
    x = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    for y, labels in ((torch.tensor([0, 2]), [0, 2]), (None, [3, 3])):
        noise = dit(x, timestep=torch.tensor([9, 9]), class_labels=torch.tensor(labels)).sample[:, :1]
        by_hand = noise_to_denoised(x, noise, denoiser.schedule, 10)
        assert torch.allclose(denoiser(x, 10, y), by_hand, atol=1e-5)
    assert float((denoiser(x, 10) - denoiser(x, 10, 0)).abs().max()) > 1e-3
    assert torch.equal(load_model(f"diffusers:{tmp_path}?class=2")(x, 10), OfClass(denoiser, 2)(x, 10))


def test_weights_in_half_precision_are_read_too(tmp_path):
    pipeline = diffusers.DDPMPipeline(unet().half(), diffusers.DDPMScheduler())
    pipeline.save_pretrained(tmp_path, variant="fp16")
    loaded = load_model(f"diffusers:{tmp_path}")
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    direct = from_diffusers(unet().half().float(), diffusers.DDPMScheduler())
    assert torch.allclose(loaded(x, 300), direct(x, 300), atol=1e-5)


def refused(spec, match):
    with pytest.raises(InputError, match=match) as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("model: ")


def test_each_folder_that_is_no_such_pipeline_has_its_line(folder, tmp_path):
    spec, index = f"diffusers:{folder}", folder / "model_index.json"
    refused("diffusers:google/ddpm-cat-256", "no folder google/ddpm-cat-256; expected a pipeline's local folder")
    refused(f"diffusers:{tmp_path}", "has no model_index.json; expected a saved diffusers pipeline")
    refused("diffusers:", "expected diffusers:NAME")
    refused(f"{spec}?shape=3", "has no option 'shape'; expected data_range, event_shape, null_class")
    refused(f"{spec}?event_shape=3,x", "expected event_shape=3,32,32")
    refused(f"{spec}?data_range=1,0", "expected data_range=-1,1")
    refused(f"{spec}?null_class=4", "null_class: expected none, as the network has no classes, got 4")
    refused(f"{spec}?event_shape=3,8,8", r"event_shape: expected 1 channels, which the network has, got \(3, 8, 8\)")
    refused(f"{spec}?class=1", "model: expected no class, as the model has none, got class=1")
    whole = index.read_text()
    for change, match in [
        ("{", "is no JSON"),
        ("[]", "describes no pipeline"),
        (
            json.dumps({"vae": ["diffusers", "AutoencoderKL"]}),
            "has no unet or transformer with a scheduler; its mo.* names vae",
        ),
        (whole.replace("UNet2DModel", "NoSuchModel"), "is diffusers.NoSuchModel, which the installed diffusers"),
        (whole.replace('"diffusers",\n    "UNet2DModel"', '"my_code",\n    "UNet2DModel"'), "is my_code.UNet2DModel"),
        (whole.replace("DDPMScheduler", "TCDScheduler"), "scheduler: the network of a TCDScheduler is not known to be"),
        (json.dumps(json.loads(whole) | {"text_encoder": ["transformers", "T5"]}), "takes text embeddings; expected"),
    ]:
        index.write_text(change)
        refused(spec, match)
    index.write_text(whole)
    config = folder / "unet" / "config.json"
    described = json.loads(config.read_text())
    config.write_text(json.dumps(described | {"sample_size": None}))
    refused(spec, "event_shape: the config of the UNet2DModel does not state the shape of one example; expected e.g.")
    assert load_model(f"{spec}?event_shape=1,8,8").event_shape == (1, 8, 8)
    config.write_text(json.dumps(described | {"block_out_channels": [4, 8]}))
    refused(spec, "ddpm/unet cannot be loaded|do not fit its config")


def test_weights_that_are_pickled_missing_or_incomplete_are_refused(folder):
    spec, weights = f"diffusers:{folder}", folder / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = safetensors.torch.load_file(weights)
    tensors.pop("conv_in.weight")
    safetensors.torch.save_file(tensors, weights, {"format": "pt"})
    refused(spec, "the weights of ddpm/unet do not fit its config: 'conv_in.weight'")
    weights.write_bytes(weights.read_bytes()[:1000])
    refused(spec, "ddpm/unet cannot be loaded")
    weights.unlink()
    refused(spec, "ddpm/unet has no weights; expected diffusion_pytorch_model.safetensors")
    torch.save(unet().state_dict(), folder / "unet" / "diffusion_pytorch_model.bin")
    refused(spec, "has only the pickle diffusion_pytorch_model.bin, which can run code; expected diffusion_pytorch_mod")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["table", "flow"])
def test_an_exact_network_passes_the_audits_first_question(kind):
    settings = TABLE | {"num_train_timesteps": 200, "beta_end": 0.1, "prediction_type": "v_prediction"}
    if kind == "table":
        denoiser = from_diffusers(
            Exact(table_levels(settings), "v_prediction"), diffusers.DDIMScheduler(**settings), event_shape=SHAPE
        )
    else:
        network = Exact(lambda time: (1 - time / 1000, time / 1000), "flow_prediction")
        flow = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
        denoiser = from_diffusers(network, flow, event_shape=SHAPE)
    assert_passes_the_audits_first_question(denoiser)
