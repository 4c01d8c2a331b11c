"""Models of EDM, k-diffusion and azula by the objects that their libraries make: exact networks, exact denoisers."""

import importlib.util
import math
import sys
from types import ModuleType, SimpleNamespace

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
from torch import nn

from diffuscope.adapters import from_azula, from_edm, from_k_diffusion, k_diffusion
from diffuscope.denoisers import OfClass, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.samplers import generate
from diffuscope.schedules import GeometricVE, Karras

LEVELS = torch.tensor([0.002, 0.1, 1.0, 7.0, 80.0], dtype=torch.float64)
TABLE = (1 - torch.linspace(0.001, 0.2, 60, dtype=torch.float64)).cumprod(0)  # alphas_cumprod


class EDM(nn.Module):
    """EDM's calling convention: D itself, in float32 unless forced, from (x, sigma, class_labels)."""

    img_channels, img_resolution, label_dim, sigma_min, sigma_max = 1, 2, 0, 0, math.inf

    def forward(self, x, sigma, class_labels=None, force_fp32=False):
        del force_fp32
        shift = 0 if class_labels is None else class_labels @ torch.arange(1.0, 1.0 + self.label_dim).to(class_labels)
        clean = denoised(x, torch.ones(len(x)), sigma)
        return (clean + torch.as_tensor(shift).reshape(-1, 1, 1, 1)).to(x.dtype)

    def round_sigma(self, sigma):
        return torch.as_tensor(sigma)


class OfTable(EDM):
    """iDDPM's: levels of a table, in decreasing order, single precision."""

    label_dim, sigma_min, sigma_max = 3, 0.05, 30.0
    levels = torch.logspace(math.log10(30), math.log10(0.05), 12)

    def round_sigma(self, sigma):
        nearest = (torch.as_tensor(sigma).float().reshape(-1, 1) - self.levels).abs().argmin(1)
        return self.levels[nearest].reshape(torch.as_tensor(sigma).shape)


def test_an_edm_network_is_the_denoiser_and_states_its_shape_and_its_levels():
    denoiser = from_edm(EDM())
    x = noised(5, torch.ones(5), LEVELS)
    assert difference(denoiser(x, LEVELS), denoised(x, torch.ones(5), LEVELS)) < 1e-12
    assert (denoiser.event_shape, denoiser.schedule.t_min, denoiser.schedule.t_max) == (SHAPE, 0.002, 80.0)
    assert from_edm(EDM(), sigma_min=0.01, sigma_max=40).schedule.t_max == 40.0
    assert generate(denoiser, 3, steps=4).shape == (3, *SHAPE)


def test_an_edm_network_of_a_table_was_trained_at_the_levels_that_it_rounds_to():
    denoiser = from_edm(OfTable())
    t = torch.tensor([0.05, 0.4, 11.0, 30.0], dtype=torch.float64)
    nearest = nearest_trained_time(denoiser, t)
    assert float((OfTable.levels - nearest[:, None]).abs().amin(1).div(nearest).max()) < 1e-6
    assert torch.equal(nearest, nearest_trained_time(denoiser, nearest))
    assert (denoiser.schedule.t_min, denoiser.schedule.t_max) == (0.05, 30.0)


def test_classes_of_an_edm_network_are_one_hot_rows_and_none_is_a_row_of_zeros():
    denoiser, x = from_edm(OfTable()), torch.zeros(3, *SHAPE)
    shifts = [denoiser(x, 1.0, y) - denoiser(x, 1.0) for y in (torch.tensor([0, 1, 2]), 2, 3)]
    assert [round(value, 5) for value in shifts[0][:, 0, 0, 0].tolist()] == [1.0, 2.0, 3.0]
    assert (shifts[1] - 3).abs().max() < 1e-6
    assert shifts[2].abs().max() == 0
    assert OfClass(denoiser, 1).event_shape == SHAPE


def test_a_wrapper_is_an_object_not_its_class():
    for given, kind in ((Wrapper, "type"), ("k", "str")):
        with pytest.raises(InputError, match=rf"^model: expected a wrapper called as .*, got {kind}$"):
            from_k_diffusion(given, event_shape=SHAPE)


class Wrapper(nn.Module):
    """What every wrapper of k-diffusion is: D from (x, sigma), with a table of levels."""

    def __init__(self, sigmas=None):
        super().__init__()
        if sigmas is not None:
            self.register_buffer("sigmas", sigmas)

    sigma_min = property(lambda self: self.sigmas[0])
    sigma_max = property(lambda self: self.sigmas[-1])

    def forward(self, x, sigma, cond=None):
        clean = denoised(x, torch.ones(len(x)), sigma)
        return clean if cond is None else clean + cond.reshape(-1, 1, 1, 1)


def test_a_wrapper_of_k_diffusion_is_the_denoiser_with_its_table_as_trained_levels():
    sigmas = ((1 - TABLE) / TABLE).sqrt()
    denoiser = from_k_diffusion(Wrapper(sigmas), event_shape=SHAPE)
    x = noised(60, torch.ones(60), sigmas)
    assert difference(denoiser(x, sigmas), denoised(x, torch.ones(60), sigmas)) < 1e-12
    assert torch.equal(nearest_trained_time(denoiser, sigmas), sigmas)
    between = (sigmas[1:] * sigmas[:-1]).sqrt()
    assert torch.equal(nearest_trained_time(denoiser, between * 1.0001), sigmas[1:])
    assert torch.equal(nearest_trained_time(denoiser, between * 0.9999), sigmas[:-1])
    assert float(nearest_trained_time(denoiser, 1e9)) == float(sigmas[-1])
    given = from_k_diffusion(Wrapper(sigmas), event_shape=SHAPE, condition={"cond": torch.tensor([2.0])})
    assert float((given(x, sigmas) - denoiser(x, sigmas) - 2).abs().max()) < 1e-12


class Posterior(SimpleNamespace):
    """azula's answer."""


class Azula(nn.Module):
    """azula's calling convention, under any of its schedules."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def forward(self, x_t, t, label=None):
        alpha, sigma = self.schedule(t)
        clean = denoised(x_t, alpha.expand(len(x_t)), sigma.expand(len(x_t)))
        return Posterior(mean=clean if label is None else clean + label.reshape(-1, 1, 1, 1))


def half_cosine(t):
    """A schedule that nobody has named: neither preserving nor exploding."""
    return (t * math.pi / 3).cos(), 0.01 + t**2


def test_an_azula_denoiser_is_the_denoiser_under_any_schedule():
    denoiser = from_azula(Azula(half_cosine), event_shape=SHAPE)
    schedule, t = denoiser.schedule, torch.linspace(0, 1, 7, dtype=torch.float64)
    x = noised(7, *half_cosine(t))
    assert difference(denoiser(x, t), denoised(x, *half_cosine(t))) < 1e-12
    assert difference(denoiser(x, 0.4), torch.cat([denoiser(row[None], 0.4) for row in x])) < 1e-12
    with torch.no_grad():
        assert torch.allclose(schedule.alpha_dot(t), -math.pi / 3 * (t * math.pi / 3).sin(), rtol=1e-13, atol=0)
        assert torch.allclose(schedule.sigma_dot(t), 2 * t, rtol=1e-13, atol=0)
    assert torch.allclose(schedule.time_of_lambda(schedule.lam(t)), t, rtol=0, atol=1e-13)
    assert schedule.time_of_noise_to_signal(torch.tensor([0.0, math.inf], dtype=torch.float64)).tolist() == [0.0, 1.0]
    assert schedule.time_of_lambda(0.0).shape == ()
    given = from_azula(Azula(half_cosine), condition={"label": torch.tensor([2.0])})
    assert float((given(x, t) - denoiser(x, t) - 2).abs().max()) < 1e-12
    assert not hasattr(given, "event_shape")


@pytest.mark.slow
@pytest.mark.parametrize("library", ["edm", "k_diffusion", "azula"])
def test_exact_models_pass_the_audits_first_question(library):
    sigmas = torch.logspace(-2.5, 2, 200, dtype=torch.float64)
    make = {
        "edm": lambda: from_edm(EDM()),
        "k_diffusion": lambda: from_k_diffusion(Wrapper(sigmas), event_shape=SHAPE),
        "azula": lambda: from_azula(Azula(lambda t: (1 - 0.999 * t, 0.001 + 0.999 * t)), event_shape=SHAPE),
    }
    assert_passes_the_audits_first_question(make[library]())


SOURCE = """
import torch
from test_models_as_objects import EDM, OfTable, Wrapper, Azula, half_cosine
net, table = EDM(), OfTable()
wrapper, without = Wrapper(torch.tensor([0.1, 1.0, 10.0])), Wrapper()
denoiser, number = Azula(half_cosine), 3
"""


@pytest.fixture
def named_objects(tmp_path, monkeypatch):
    (tmp_path / "objects_of_libraries.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("objects_of_libraries", None)


@pytest.mark.usefixtures("named_objects")
def test_objects_are_named_with_their_library_and_options():
    edm = load_model("edm:objects_of_libraries:net?sigma_max=20&data_range=0,1")
    assert (edm.schedule.t_max, edm.data_range) == (20.0, (0.0, 1.0))
    assert isinstance(load_model("edm:objects_of_libraries:table?class=1"), OfClass)
    wrapper = load_model("k_diffusion:objects_of_libraries:wrapper?event_shape=1,2,2")
    assert (wrapper.event_shape, wrapper.schedule.t_max) == (SHAPE, 10.0)
    azula = load_model("azula:objects_of_libraries:denoiser?event_shape=1,2,2&data_range=none")
    assert azula.event_shape == SHAPE
    assert not hasattr(azula, "data_range")


@pytest.mark.parametrize(
    ("spec", "match"),
    [
        ("edm:objects_of_libraries:number", r"model: expected a network net\(x, sigma\), got a int"),
        ("edm:objects_of_libraries:EDM", r"model: expected a network net\(x, sigma\), got the class EDM"),
        ("edm:objects_of_libraries:absent", "model: module 'objects_of_libraries' has no 'absent'"),
        ("edm:objects_of_libraries:net?steps=3", "model: edm:objects_of_libraries:net has no option 'steps'; expected"),
        ("edm:objects_of_libraries:net?class=1", "model: expected no class, as the model has none, got class=1"),
        ("edm:objects_of_libraries:net?class=dog", "model: expected class=NUMBER, got class=dog"),
        ("edm:objects_of_libraries:net?sigma_max=0.001", "model: sigma_min, sigma_max: expected 0 < minimum <"),
        ("edm:objects_of_libraries:net?sigma_max=high", "model: expected a number for sigma_max, got 'high'"),
        (
            "edm:objects_of_libraries:net?sigma_max",
            "model: expected options as name=value joined by &, got 'sigma_max'$",
        ),
        ("edm:objects_of_libraries:wrapper", "event_shape: the Wrapper does not state the shape of one example"),
        ("k_diffusion:objects_of_libraries:wrapper", "event_shape: a Wrapper of k-diffusion does not state the shape"),
        ("azula:objects_of_libraries:wrapper", "model: expected an azula denoiser, which has a schedule, got Wrapper"),
        ("edm:objects_of_libraries:table?class=3", r"model: expected class=0 \.\. class=2, got class=3"),
        ("edm:objects_of_libraries", "no module named 'edm' .*; a model of edm is named edm:module:object"),
    ],
)
@pytest.mark.usefixtures("named_objects")
def test_each_wrong_object_is_one_line(spec, match):
    with pytest.raises(InputError, match=match) as caught:
        load_model(spec)
    assert "\n" not in str(caught.value)


def external():
    """The module of the real wrappers."""
    if importlib.util.find_spec("k_diffusion") is None:
        pytest.skip("could not import 'k_diffusion'")
    return k_diffusion.part("external")


class Inner(nn.Module):
    """An exact network of a table of alphas_cumprod, as k-diffusion's wrappers call it."""

    alphas_cumprod = TABLE

    def __init__(self, prediction):
        super().__init__()
        self.prediction = prediction

    def forward(self, x, t):
        index = t.round().long()
        assert float((index - t).abs().max()) < 1e-4
        alpha, sigma = (value[index].reshape(-1, 1, 1, 1) for value in (TABLE.sqrt(), (1 - TABLE).sqrt()))
        clean = denoised(x, alpha, sigma)
        noise = (x - alpha * clean) / sigma
        return noise if self.prediction == "noise" else alpha * noise - sigma * clean

    def apply_model(self, x, t, cond=None):
        return self(x, t) if cond is None else self(x, t) + 0 * cond


@pytest.mark.parametrize("quantize", [False, True])
@pytest.mark.parametrize(
    "name",
    ["DiscreteEpsDDPMDenoiser", "DiscreteVDDPMDenoiser", "CompVisDenoiser", "CompVisVDenoiser", "OpenAIDenoiser"],
)
def test_real_wrappers_of_k_diffusion_with_exact_networks_are_exact(name, quantize):
    made = getattr(external(), name)
    inner = Inner("v" if "VD" in name else "noise")
    condition, precision = {}, 1e-6
    if name.startswith("Discrete"):
        wrapper = made(inner, TABLE, quantize)
    elif name == "OpenAIDenoiser":
        # the wrapper keeps its table in float32, and takes the first half of the channels
        class Halves(Inner):
            def forward(self, x, t):
                return torch.cat([super().forward(x, t), torch.full_like(x, math.nan)], dim=1)

        wrapper = made(Halves("noise"), SimpleNamespace(alphas_cumprod=TABLE.numpy()), quantize).double()
        precision = 1e-5
    else:
        wrapper, condition = made(inner, quantize), {"cond": torch.zeros(1, *SHAPE)} if "VD" in name else {}
    denoiser = from_k_diffusion(wrapper, event_shape=SHAPE, condition=condition)
    trained = nearest_trained_time(denoiser, ((1 - TABLE) / TABLE).sqrt())
    x = noised(60, torch.ones(60), trained)
    assert difference(denoiser(x, trained), denoised(x, torch.ones(60), trained)) < precision


def test_k_diffusions_v_wrapper_is_exact_at_all_levels():
    class V(nn.Module):
        def forward(self, x, t):
            alpha, sigma = ((t * math.pi / 2).cos().reshape(-1, 1, 1, 1), (t * math.pi / 2).sin().reshape(-1, 1, 1, 1))
            clean = denoised(x, alpha, sigma)
            return alpha * (x - alpha * clean) / sigma - sigma * clean

    denoiser = from_k_diffusion(external().VDenoiser(V()), event_shape=SHAPE)
    levels = torch.tensor([0.01, 0.3, 2.0, 160.0], dtype=torch.float64)
    x = noised(4, torch.ones(4), levels)
    assert difference(denoiser(x, levels), denoised(x, torch.ones(4), levels)) < 1e-6
    assert torch.equal(nearest_trained_time(denoiser, levels), levels)


@pytest.fixture
def azula_module(monkeypatch):
    """The import of one of azula's modules; its plugins ask for gdown, which they need for downloads only."""
    pytest.importorskip("azula")
    monkeypatch.setitem(sys.modules, "gdown", ModuleType("gdown"))
    return lambda name: pytest.importorskip(f"azula.{name}")


@pytest.mark.parametrize("form", ["SimpleDenoiser", "KarrasDenoiser", "edm", "adm"])
def test_real_azula_denoisers_with_exact_backbones_are_exact(form, azula_module):
    denoise, noise = azula_module("denoise"), azula_module("noise")

    class Backbone(nn.Module):
        """From x / sqrt(alpha^2 + sigma^2) and log(sigma/alpha), or in the plugins' own conventions."""

        def forward(self, x, time, class_labels=None, y=None):
            assert class_labels is None or class_labels.shape == (len(x), 2)
            assert y is None
            ratio = time if form == "edm" else time.exp()
            if form == "adm":
                ratio = level(time)
            ratio = ratio.expand(len(x)).reshape(-1, 1, 1, 1)
            norm = torch.ones_like(ratio) if form == "edm" else (1 + ratio**2).sqrt()
            clean = denoised(x, 1 / norm, ratio / norm)
            if form in ("SimpleDenoiser", "edm"):
                return clean
            noise_or_residual = (norm * x - clean) / ratio, (norm * clean - x) / ratio
            return noise_or_residual[form == "KarrasDenoiser"]

    def level(index):
        sigmas = model.sigmas[index.clamp(max=len(model.sigmas) - 1)].double()
        return sigmas / (1 - sigmas**2).sqrt()

    condition, t = {}, torch.linspace(0, 1, 9, dtype=torch.float64)
    if form == "edm":
        model = azula_module("plugins.edm").ElucidatedDenoiser(Backbone())
        condition, same = {"label": torch.zeros(1, 2)}, Karras()
    elif form == "adm":
        model = azula_module("plugins.adm").AblatedDenoiser(Backbone(), clip_mean=False, learn_var=False)
        same = None
    else:
        model = getattr(denoise, form)(Backbone(), noise.VESchedule(0.01, 50.0))
        same = GeometricVE()
    denoiser = from_azula(model, event_shape=SHAPE, condition=condition)
    schedule = denoiser.schedule
    if form == "adm":  # trained at the steps of its own table
        index = torch.tensor([3, 400, 900])
        t = schedule.time_of_noise_to_signal(level(index) * (1 - 1e-6))
    x = noised(len(t), schedule.alpha(t), schedule.sigma(t))
    assert difference(denoiser(x, t), denoised(x, schedule.alpha(t), schedule.sigma(t))) < (
        2e-5 if form == "adm" else 1e-6
    )
    if same is not None:  # our own schedule of that name, which has formulas for everything
        for name in ("alpha", "sigma", "alpha_dot", "sigma_dot"):
            ours, computed = getattr(same, name)(t), getattr(schedule, name)(t)
            assert torch.allclose(computed, ours, rtol=1e-10, atol=1e-14)
        assert torch.allclose(schedule.time_of_lambda(same.lam(t)), t, atol=1e-10)


def test_azulas_own_gaussian_denoiser_and_schedules_are_ours(azula_module):
    denoise, noise = azula_module("denoise"), azula_module("noise")
    covariance = azula_module("linalg.covariance")
    model = denoise.GaussianDenoiser(MEAN, covariance.DiagonalCovariance(VARIANCE), noise.CosineSchedule())
    denoiser = from_azula(model, event_shape=SHAPE)
    for t in (0.0, 0.3, 1.0):
        alpha, sigma = denoiser.schedule.alpha(t), denoiser.schedule.sigma(t)
        x = noised(6, alpha, sigma)
        assert difference(denoiser(x, t), denoised(x, alpha.expand(6), sigma.expand(6))) < 1e-6
    for name in noise.__all__:
        if name == "Schedule":
            continue
        schedule = from_azula(denoise.SimpleDenoiser(nn.Identity(), getattr(noise, name)())).schedule
        t = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
        assert torch.allclose(schedule.time_of_lambda(schedule.lam(t)), t, rtol=0, atol=1e-9)
        step = 1e-5
        slope = (schedule.sigma(t + step) - schedule.sigma(t - step)) / (2 * step)
        assert torch.allclose(schedule.sigma_dot(t), slope, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("spec", "package"),
    [("diffusers:folder", "diffusers"), ("onnx:folder/model_index.json?schedule=ve", "onnxruntime")],
)
def test_an_absent_library_is_one_line_that_says_how_to_install_it(spec, package, tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "model_index.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=f"^model: {package} is not installed; pip install {package}$"):
        load_model(spec)
