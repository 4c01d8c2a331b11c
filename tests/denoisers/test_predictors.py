"""A network that predicts exactly what it should makes the exact denoiser, whichever of the predictions it is."""

from typing import Any

import pytest
import torch

from diffuscope.denoisers import (
    DataPredictor,
    Denoiser,
    ExactDenoiser,
    NoisePredictor,
    ScheduleTime,
    SignalTime,
    StepIndex,
    VelocityPredictor,
    VPredictor,
    nearest_trained_time,
)
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP, Cosine, DiscreteVP, RectifiedFlow, ZeroTerminalVP

VARIANCE = 0.6
SHAPE = {"event_shape": (2, 3), "data_range": (-1.0, 1.0)}


def gain(schedule, t):
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    return (alpha * VARIANCE / (alpha**2 * VARIANCE + sigma**2))[:, None, None]


def exact_networks(schedule):
    """For N(0, v I): D = alpha v x / (alpha^2 v + sigma^2), and the noise and velocity made of it by hand."""

    def data(x, t):
        return gain(schedule, t) * x

    def noise(x, t):
        alpha, sigma = schedule.alpha(t)[:, None, None], schedule.sigma(t)[:, None, None]
        return sigma * x / (alpha**2 * VARIANCE + sigma**2)

    def velocity(x, t):
        alpha_dot, sigma_dot = schedule.alpha_dot(t)[:, None, None], schedule.sigma_dot(t)[:, None, None]
        return alpha_dot * data(x, t) + sigma_dot * noise(x, t)

    def v(x, t):
        alpha, sigma = schedule.alpha(t)[:, None, None], schedule.sigma(t)[:, None, None]
        return alpha * noise(x, t) - sigma * data(x, t)

    return {NoisePredictor: noise, DataPredictor: data, VelocityPredictor: velocity, VPredictor: v}


@pytest.mark.parametrize("schedule", [VE(), VP(), Cosine(), RectifiedFlow()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("predictor", [NoisePredictor, DataPredictor, VelocityPredictor, VPredictor])
def test_an_exact_prediction_makes_the_exact_denoiser(predictor, schedule, generator):
    t = torch.linspace(schedule.t_min, 0.95 * schedule.t_max, 6, dtype=torch.float64)
    x_t = torch.randn(6, 2, 3, dtype=torch.float64, generator=generator)
    denoiser = predictor(exact_networks(schedule)[predictor], schedule, **SHAPE)
    assert isinstance(denoiser, Denoiser)
    assert torch.allclose(denoiser(x_t, t), gain(schedule, t) * x_t, rtol=1e-10, atol=1e-10)


def test_a_velocity_network_answers_at_pure_noise_and_a_noise_network_refuses(generator):
    schedule, t = RectifiedFlow(), torch.ones(2, dtype=torch.float64)
    networks, x_t = exact_networks(schedule), torch.randn(2, 2, 3, dtype=torch.float64, generator=generator)
    denoised = VelocityPredictor(networks[VelocityPredictor], schedule, **SHAPE)(x_t, t)
    assert denoised.abs().max() < 1e-14  # the mean of the data
    with pytest.raises(ValueError, match="alpha"):
        NoisePredictor(networks[NoisePredictor], schedule, **SHAPE)(x_t, t)


def test_a_v_network_denoises_pure_noise_of_a_chain_of_zero_terminal_snr(generator):
    schedule = ZeroTerminalVP((0.1, 0.3, 0.6, 1.0))
    x_t, labels = torch.randn(4, 2, 3, dtype=torch.float64, generator=generator), []

    def network(x, index):
        labels.extend(index.tolist())
        return exact_networks(schedule)[VPredictor](x, (index + 1).double())

    t = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    denoised = VPredictor(network, schedule, **SHAPE)(x_t, t)
    assert labels == [0, 1, 2, 3]
    assert torch.allclose(denoised, gain(schedule, t) * x_t, rtol=1e-14, atol=1e-14)
    assert torch.equal(denoised[3], torch.zeros(2, 3, dtype=torch.float64))


def test_clocks_may_count_in_thousandths():
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    assert ScheduleTime(1000.0).label(t).tolist() == [0.0, 250.0, 1000.0]
    assert SignalTime(1000.0).label(t).tolist() == [1000.0, 750.0, 0.0]


def test_one_time_for_all_samples_is_that_time_for_each(generator):
    schedule = VP()
    denoiser = DataPredictor(exact_networks(schedule)[DataPredictor], schedule, **SHAPE)
    x_t = torch.randn(3, 2, 3, dtype=torch.float64, generator=generator)
    assert torch.equal(denoiser(x_t, 0.4), denoiser(x_t, torch.full((3,), 0.4, dtype=torch.float64)))


def test_step_k_of_a_table_reads_index_k_minus_one():
    seen = []

    def network(x, index):
        seen.append(index)
        return torch.zeros_like(x)

    denoiser = NoisePredictor(network, DiscreteVP.linear(), **SHAPE)
    denoiser(torch.zeros(3, 2, 3), torch.tensor([1.0, 500.0 + 5e-7, 1000.0], dtype=torch.float64))
    assert seen[0].tolist() == [0, 499, 999]
    assert seen[0].dtype == torch.int64


@pytest.mark.parametrize("t", [0.0, 0.5, 17.00001, 1001.0, float("nan")])
def test_a_table_refuses_times_between_and_beyond_its_steps(t):
    denoiser = NoisePredictor(lambda x, _: x, DiscreteVP.linear(), **SHAPE)
    with pytest.raises(ValueError, match=r"integer times 1\.\.1000"):
        denoiser(torch.zeros(1, 2, 3), t)


def test_clocks_count_from_data_or_from_noise():
    t = torch.tensor([0.0, 0.25, 1.0], dtype=torch.float64)
    assert ScheduleTime().label(t).tolist() == [0, 0.25, 1]
    assert SignalTime().label(t).tolist() == [1, 0.75, 0]
    assert StepIndex(10, first_trained=2).nearest(torch.tensor([1.0, 30.0])).tolist() == [2, 10]
    assert StepIndex(10, first_index=1).label(torch.tensor([1.0, 10.0])).tolist() == [1, 10]


def test_a_wrapper_without_a_clock_is_asked_at_the_steps_of_its_table_and_an_exact_denoiser_anywhere():
    class ByHand:
        schedule = DiscreteVP.linear()

        def __call__(self, x_t, t):
            return x_t + 0 * t

    assert float(nearest_trained_time(ByHand(), 613.89)) == 614
    exact = ExactDenoiser(Gaussian.isotropic(torch.zeros(2), 1.0), DiscreteVP.linear())
    assert float(nearest_trained_time(exact, 613.89)) == 613.89


def test_a_step_is_known_within_a_millionth_on_both_sides_and_between_the_ends_of_the_table():
    clock = StepIndex(20)
    for known in (1.0, 20.0, 17 + 9e-7, 17 - 9e-7):
        assert int(clock.label(known)) == round(known) - 1
    for unknown in (0.0, 21.0, 16.7, 17.3, 17 + 2e-6, 17 - 2e-6, float("nan")):
        with pytest.raises(InputError, match="integer times"):
            clock.label(unknown)
    # one unknown time of many
    with pytest.raises(InputError, match=r"got 16\.7"):
        clock.label(torch.tensor([3.0, 16.7, 5.0], dtype=torch.float64))


def test_the_network_computes_in_its_own_dtype_and_the_answer_has_that_of_the_state():
    seen = []

    class Network(torch.nn.Linear):
        def __call__(self, x, label):
            seen.append((x.dtype, label.dtype))
            return super().__call__(x)

    denoiser = DataPredictor(Network(3, 3), VP(), **SHAPE)
    assert denoiser(torch.zeros(2, 2, 3, dtype=torch.float64), 0.5).dtype == torch.float64
    assert seen == [(torch.float32, torch.float32)]
    assert len(list(denoiser.parameters())) == 2


def test_shapes_that_do_not_fit_are_refused_by_name():
    with pytest.raises(InputError, match=r"network: expected .* \(4, 2, 3\), got \(4, 6\)"):
        DataPredictor(lambda x, _: x.flatten(1), VP(), **SHAPE)(torch.zeros(4, 2, 3), 0.5)
    tuples: Any = lambda x, _: (x,)  # noqa: E731
    with pytest.raises(InputError, match=r"^network: expected an output that is a tensor, got tuple$"):
        DataPredictor(tuples, VP(), **SHAPE)(torch.zeros(4, 2, 3), 0.5)
    with pytest.raises(InputError, match=r"x_t: expected shape \(batch, 2, 3\), got \(batch, 5\)"):
        DataPredictor(lambda x, _: x, VP(), **SHAPE)(torch.zeros(4, 5), 0.5)
