"""An exact network of diffusers makes the exact denoiser, for every scheduler, prediction, table and shift.

The network knows what the library's own training noises examples with (`add_noise`, `scale_noise`, `precondition_*`),
and answers exactly for N(m, diag v); the adapter is not consulted. Where the library is absent, its training is that of
`diffusers_in_small`.
"""

import inspect
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers_in_small import here
from exact_gaussian import MEAN, SHAPE, VARIANCE, denoised, difference, noised
from networks_of_tables import TABLE, Exact, diffusers, table_levels
from torch import nn

from diffuscope.adapters import from_diffusers
from diffuscope.denoisers import OfClass, nearest_trained_time
from diffuscope.errors import InputError
from diffuscope.samplers import generate, is_one_step

pytestmark = pytest.mark.filterwarnings("ignore")  # about the library's own code

TOLERANCE = 1e-6


TABLE_SETTINGS = [
    {},
    {"beta_schedule": "scaled_linear"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"trained_betas": [0.01 + 0.004 * k for k in range(40)]},
    {"timestep_spacing": "trailing"},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"use_karras_sigmas": True},
    {"rescale_betas_zero_snr": True},
    {"rescale_betas_zero_snr": True, "beta_schedule": "scaled_linear", "timestep_spacing": "trailing"},
]
TABLE_SCHEDULERS = [
    "DDPMScheduler", "DDIMScheduler", "DDIMParallelScheduler", "DDPMParallelScheduler", "DDIMInverseScheduler",
    "PNDMScheduler", "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler",
    "DPMSolverMultistepInverseScheduler",
    "UniPCMultistepScheduler", "DEISMultistepScheduler", "SASolverScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler", "LMSDiscreteScheduler", "DPMSolverSDEScheduler",
]  # fmt: skip


def built(name, settings) -> Any:
    """The scheduler, None where it does not take these settings."""
    kind = getattr(diffusers, name)
    known = inspect.signature(kind.__init__).parameters
    return kind(**settings) if set(settings) <= set(known) else None


@pytest.mark.parametrize("name", here(*TABLE_SCHEDULERS))
@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
def test_an_exact_network_of_a_table_makes_the_exact_denoiser(name, prediction):
    asked = 0
    for more in TABLE_SETTINGS:
        settings = TABLE | more | {"prediction_type": prediction}
        scheduler = built(name, settings)
        if scheduler is None:
            continue
        network = Exact(table_levels(settings), prediction)
        if prediction == "epsilon" and float(scheduler.alphas_cumprod[-1]) == 0:
            with pytest.raises(InputError, match="scheduler: the last step of its table leaves no signal"):
                from_diffusers(network, scheduler, event_shape=SHAPE)
            continue
        denoiser = from_diffusers(network, scheduler, event_shape=SHAPE)
        asked += 1
        t = torch.arange(1, 41, dtype=torch.float64)
        alpha, sigma = network.levels(torch.arange(40))
        x = noised(40, alpha, sigma)
        # schedulers that replace the last alpha = 0 by 2^-12 attribute that much signal to pure noise
        replaced = float(scheduler.alphas_cumprod[-1]) > 0 == float(alpha[-1])
        upto = 39 if replaced else 40
        assert difference(denoiser(x, t)[:upto], denoised(x, alpha, sigma)[:upto]) < TOLERANCE
        if replaced and prediction != "epsilon":
            assert difference(denoiser(x, t)[-1:], denoised(x, alpha, sigma)[-1:]) < 5e-3
        # the schedule has the library's scales
        assert float((denoiser.schedule.alpha(t) - alpha)[:upto].abs().max()) < TOLERANCE
        assert float((denoiser.schedule.sigma(t) - sigma)[:upto].abs().max()) < TOLERANCE
    assert asked >= 3


@pytest.mark.parametrize("steps", [1, 7, 40])
@pytest.mark.parametrize(
    "name", here("DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler", "LMSDiscreteScheduler")
)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_denoiser_is_what_the_librarys_own_step_takes_for_the_clean_data(name, spacing, steps):
    settings = TABLE | {"prediction_type": "epsilon", "timestep_spacing": spacing}
    more = {"clip_sample": False} if name.startswith("DD") else {}
    scheduler = getattr(diffusers, name)(**settings, **more)
    network = Exact(table_levels(settings), "epsilon")
    denoiser = from_diffusers(network, scheduler, event_shape=SHAPE)
    scheduler.set_timesteps(steps)
    step = next(t for t in scheduler.timesteps if float(t) == round(float(t)))  # linspace has steps in between
    t = torch.tensor(float(step) + 1, dtype=torch.float64)
    x = noised(8, denoiser.schedule.alpha(t), denoiser.schedule.sigma(t))
    state = x / denoiser.schedule.alpha(t) if "sigmas" in vars(scheduler) else x
    output = network(x, step.long().reshape(1)).sample
    read = scheduler.step(output, step, state).pred_original_sample
    # the step reads (x - sigma eps) / alpha in float32: half an ulp of each of its two terms
    rounding = 2**-23 * float(x.abs().max() / denoiser.schedule.alpha(t) / VARIANCE.sqrt().min())
    assert difference(read, denoiser(x, t)) < rounding + TOLERANCE


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("FlowMatchEulerDiscreteScheduler", {}),
        ("FlowMatchEulerDiscreteScheduler", {"shift": 3.0}),
        ("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True, "shift": 3.0}),
        ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
        ("FlowMatchEulerDiscreteScheduler", {"num_train_timesteps": 400}),
        ("FlowMatchHeunDiscreteScheduler", {"shift": 2.0}),
    ],
)
def test_an_exact_velocity_of_flow_matching_makes_the_exact_denoiser(name, settings):
    scheduler = built(name, settings) or pytest.skip("no such setting here")
    t = scheduler.timesteps[:: len(scheduler.timesteps) // 20]  # of those that the library trains at
    t = torch.cat([t, scheduler.timesteps[-1:]])
    one = torch.ones(1, dtype=torch.float64)
    # one by one, and each with a new scheduler: Heun's takes the level of its first call for all
    alpha, sigma = (
        torch.cat([built(name, settings).scale_noise(clean, step.reshape(1), noise) for step in t])
        for clean, noise in ((one, 0 * one), (0 * one, one))
    )
    steps = settings.get("num_train_timesteps", 1000)

    def levels(timestep):
        nearest = (timestep[:, None] - t.double()).abs().min(1)
        assert float(nearest.values.max()) < 1e-3  # one of the library's own timesteps
        return alpha[nearest.indices], sigma[nearest.indices]

    network = Exact(levels, "flow_prediction")
    denoiser = from_diffusers(network, scheduler, event_shape=SHAPE)
    x = noised(len(t), alpha, sigma)
    assert difference(denoiser(x, sigma), denoised(x, alpha, sigma)) < 2e-6  # levels of float32
    assert denoiser.schedule.t_min == pytest.approx(scheduler.sigma_min, rel=1e-5)
    assert float(network.timesteps[-1].max()) == pytest.approx(steps)


def test_an_inverted_flow_counts_time_from_noise_to_data():
    """The library walks from s = 0, noise, by s' - s times the output: it is dx/ds of x = s x_0 + (1 - s) noise."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(invert_sigmas=True)

    class Inverted(Exact):
        def forward(self, sample, timestep, class_labels=None, return_dict=False):
            return (-super().forward(sample, timestep, class_labels, return_dict)[0],)

    network = Inverted(lambda time: (time / 1000, 1 - time / 1000), "flow_prediction")
    denoiser = from_diffusers(network, scheduler, event_shape=SHAPE)
    s = torch.tensor([0.01, 0.5, 0.9], dtype=torch.float64)
    x = noised(3, 1 - s, s)
    assert difference(denoiser(x, s), denoised(x, 1 - s, s)) < TOLERANCE
    # and the library's own loop with that network goes to the data: the exact flow from noise of N(m, v) is affine
    scheduler.set_timesteps(500)
    state = start = torch.randn(64, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for t in scheduler.timesteps:
        time = t.double().clamp(1e-9, 1000).reshape(1)
        state = scheduler.step(network(state, time.expand(64))[0], t, state).prev_sample.double()
    assert difference(state, MEAN + VARIANCE.sqrt() * start) < 0.02  # the error of 500 Euler steps


@pytest.mark.parametrize("prediction", ["flow_prediction", "sample"])
@pytest.mark.parametrize(
    "name", here("DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")
)
def test_a_table_solver_with_flow_sigmas_is_flow_matching(name, prediction):
    scheduler = getattr(diffusers, name)(use_flow_sigmas=True, prediction_type=prediction, flow_shift=3.0)
    network = Exact(lambda time: (1 - time / 1000, time / 1000), prediction)
    denoiser = from_diffusers(network, scheduler, event_shape=SHAPE)
    scheduler.set_timesteps(8)
    sigma = scheduler.sigmas[:-1].double()
    assert torch.allclose(scheduler.timesteps.double(), 1000 * sigma, atol=1)  # the library rounds down
    x = noised(8, 1 - sigma, sigma)
    assert difference(denoiser(x, sigma), denoised(x, 1 - sigma, sigma)) < TOLERANCE
    assert denoiser.schedule.t_min == pytest.approx(3 / 1002)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(
    "name", here("EDMEulerScheduler", "EDMDPMSolverMultistepScheduler", "CosineDPMSolverMultistepScheduler")
)
def test_an_exact_network_in_edms_preconditioning_makes_the_exact_denoiser(name, prediction):
    scheduler = getattr(diffusers, name)(sigma_min=0.01, sigma_max=40.0, sigma_data=0.7, prediction_type=prediction)
    levels = torch.tensor([0.01, 0.3, 1.0, 6.0, 40.0], dtype=torch.float64)

    class Preconditioned(nn.Module):
        """F such that the library's `precondition_outputs` is the exact denoiser."""

        def forward(self, sample, timestep):
            labels = torch.stack([scheduler.precondition_noise(level) for level in levels]).flatten()
            assert torch.allclose(timestep, labels, rtol=1e-6, atol=1e-9)
            out = []
            for given, sigma in zip(sample, levels, strict=True):
                x = given / scheduler.precondition_inputs(torch.ones((), dtype=torch.float64), sigma)
                base = scheduler.precondition_outputs(x, torch.zeros_like(x), sigma)
                gain = scheduler.precondition_outputs(torch.zeros_like(x), torch.ones_like(x), sigma)
                out.append((denoised(x[None], torch.ones(1), sigma)[0] - base) / gain)
            return (torch.stack(out),)

    denoiser = from_diffusers(Preconditioned(), scheduler, event_shape=SHAPE)
    x = noised(5, torch.ones(5), levels)
    assert difference(denoiser(x, levels), denoised(x, torch.ones(5), levels)) < TOLERANCE
    assert (denoiser.schedule.t_min, denoiser.schedule.t_max) == (0.01, 40.0)


def test_eulers_continuous_timesteps_are_a_quarter_of_log_sigma():
    settings = {"timestep_type": "continuous", "prediction_type": "v_prediction", "sigma_min": 0.02, "sigma_max": 90.0}
    scheduler = diffusers.EulerDiscreteScheduler(**settings)
    scheduler.set_timesteps(6)
    sigma = scheduler.sigmas[:-1].double()
    norm = (1 + sigma**2).sqrt()

    def levels(timestep):
        assert torch.allclose(timestep, scheduler.timesteps.double(), atol=1e-6)
        return 1 / norm, sigma / norm  # `scale_model_input` divides by the norm

    denoiser = from_diffusers(Exact(levels, "v_prediction"), scheduler, event_shape=SHAPE)
    x = noised(6, torch.ones(6), sigma)
    assert difference(denoiser(x, sigma), denoised(x, torch.ones(6), sigma)) < TOLERANCE
    assert (denoiser.schedule.t_min, denoiser.schedule.t_max) == (0.02, 90.0)


def test_the_network_of_ipndm_is_given_an_angle():
    denoiser = from_diffusers(
        Exact(lambda t: ((t * math.pi / 2).cos(), (t * math.pi / 2).sin()), "v_prediction"),
        diffusers.IPNDMScheduler(),
        event_shape=SHAPE,
    )
    t = diffusers.IPNDMScheduler().timesteps[::100].double()
    alpha, sigma = (t * math.pi / 2).cos(), (t * math.pi / 2).sin()
    x = noised(len(t), alpha, sigma)
    assert difference(denoiser(x, t), denoised(x, alpha, sigma)) < TOLERANCE


def test_of_a_learned_variance_the_first_half_is_the_prediction():
    network = Exact(table_levels(TABLE), "epsilon", two_halves=True)
    denoiser = from_diffusers(network, diffusers.DDPMScheduler(**TABLE), event_shape=SHAPE)
    alpha, sigma = network.levels(torch.tensor([5]))
    x = noised(4, alpha, sigma)
    assert difference(denoiser(x, 6), denoised(x, alpha, sigma)) < TOLERANCE


def test_only_trained_timesteps_are_asked():
    network = Exact(table_levels(TABLE), "epsilon")
    denoiser = from_diffusers(network, diffusers.DDPMScheduler(**TABLE), event_shape=SHAPE)
    assert nearest_trained_time(denoiser, 7.4).item() == 7.0
    with pytest.raises(InputError, match=r"t: this network knows the integer times 1\.\.40 only"):
        denoiser(torch.zeros(1, *SHAPE), 7.4)
    generate(denoiser, 2, steps=5)
    asked = torch.cat(network.timesteps)
    assert not asked.is_floating_point()
    assert (int(asked.max()), int(asked.min())) == (39, 0)


class WithClasses(nn.Module):
    """The prediction is the class that the network is given."""

    def __init__(self, **config):
        super().__init__()
        self.config = {"in_channels": 1, "sample_size": 2} | config

    def forward(self, sample, timestep, class_labels):
        assert not sample.isnan().any()
        assert timestep.shape == class_labels.shape == (len(sample),)
        return (class_labels.to(sample).reshape(-1, 1, 1, 1).expand_as(sample),)


def test_classes_are_the_rows_of_the_networks_table_but_for_the_one_that_means_none():
    scheduler = diffusers.DDPMScheduler(**TABLE, prediction_type="sample")
    x, y = torch.zeros(3, *SHAPE), torch.tensor([0, 1, 2])
    last = from_diffusers(WithClasses(num_class_embeds=4), scheduler, null_class=3)
    first = from_diffusers(WithClasses(num_class_embeds=4), scheduler, null_class=0)
    without = from_diffusers(WithClasses(num_class_embeds=4), scheduler)
    dit = from_diffusers(WithClasses(num_embeds_ada_norm=10, norm_type="ada_norm_zero"), scheduler)
    assert (last.classes, first.classes, without.classes, dit.classes) == (3, 3, 4, 10)
    assert last(x, 3, y)[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert first(x, 3, y)[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert [d(x, 3)[0, 0, 0, 0].item() for d in (last, first, dit)] == [3, 0, 10]
    assert OfClass(without, 2)(x, 3)[:, 0, 0, 0].tolist() == [2, 2, 2]
    with pytest.raises(InputError, match=r"model: this network needs a class; expected class=0 \.\. class=3"):
        without(x, 3)
    with pytest.raises(InputError, match=r"null_class: expected one of the classes 0 \.\. 3, got 4"):
        from_diffusers(WithClasses(num_class_embeds=4), scheduler, null_class=4)
    with pytest.raises(InputError, match="null_class: expected none, as the network has no classes"):
        from_diffusers(WithClasses(), scheduler, null_class=4)


class OfTime(nn.Module):
    """A network of diffusers' call signature that depends on the example and on the time."""

    def __init__(self):
        super().__init__()
        self.config = {"in_channels": SHAPE[0], "sample_size": SHAPE[1:]}

    def forward(self, sample, timestep, **_: object) -> Any:
        time = torch.as_tensor(timestep).to(sample).reshape(-1, *[1] * (sample.ndim - 1))
        return SimpleNamespace(sample=(sample + time / 300).sin())


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("CMStochasticIterativeScheduler", {"clip_denoised": False}),
        ("LCMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
        ("LCMScheduler", {"clip_sample": False, "prediction_type": "v_prediction", "timestep_scaling": 0.01}),
    ],
)
def test_a_consistency_model_is_called_as_the_library_calls_it(name, settings):
    """Its answer at every level is `denoised` of the library's own step, and it is the identity at the lowest."""
    scheduler = getattr(diffusers, name, lambda **_: pytest.skip("no such scheduler here"))(**settings)
    network = OfTime()
    model = from_diffusers(network, scheduler)
    assert is_one_step(model)
    scheduler.set_timesteps(4)
    x = torch.randn(2, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for place, step in enumerate(scheduler.timesteps):
        sigma = float(scheduler.sigmas[place]) if name.startswith("CM") else None
        state = x * (sigma or 1.0)
        scaled = scheduler.scale_model_input(state, step)
        out = network(scaled, step).sample
        found = scheduler.step(out, step, state, generator=torch.Generator().manual_seed(1))
        expected = getattr(found, "denoised", None)
        if expected is None:  # the sample has the noise of the next level added
            low, high = scheduler.config.sigma_min, scheduler.config.sigma_max
            following = min(max(float(scheduler.sigmas[place + 1]), low), high)
            noise = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(1))
            expected = found.prev_sample - noise * (following**2 - low**2) ** 0.5
        t = sigma if sigma is not None else float(step) + 1
        assert difference(model(state, t), expected) < 2e-4  # the library has levels and times in float32
    lowest = nearest_trained_time(model, model.schedule.t_min)
    assert torch.allclose(model(x, lowest), x, atol=1e-12)


@pytest.mark.parametrize("name", here("TCDScheduler", "SCMScheduler"))
def test_a_scheduler_whose_network_is_no_denoiser_is_refused(name):
    scheduler = getattr(diffusers, name)()
    with pytest.raises(InputError, match=f"scheduler: the network of a {name} is not known to be a denoiser; expected"):
        from_diffusers(Exact(None, "epsilon"), scheduler, event_shape=SHAPE)


def test_an_unknown_prediction_and_an_unknown_shape_are_one_line_each():
    network = Exact(None, "epsilon")
    with pytest.raises(InputError, match="scheduler: expected a DPMSolverMultistepScheduler of prediction_type flow_"):
        from_diffusers(network, diffusers.DPMSolverMultistepScheduler(use_flow_sigmas=True), event_shape=SHAPE)
    with pytest.raises(InputError, match="event_shape: the config of the Exact does not state the shape"):
        from_diffusers(network, diffusers.DDPMScheduler())
    with pytest.raises(InputError, match="scheduler: the network of a str is not known"):
        from_diffusers(network, "DDPMScheduler")
