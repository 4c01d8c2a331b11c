"""Spectral bias: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import LinearDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import find
from diffuscope.experiments.spectral_bias import SPECTRAL_BIAS, generated, setting, weights
from diffuscope.schedules import VE
from diffuscope.theory import (
    AffineLearning,
    one_layer_generated_variance,
    two_layer_descent,
    two_layer_flow,
    two_layer_generated_variance,
)

HERE = "diffuscope.experiments.spectral_bias"
clock, nodes = weights.learning_rates, generated.Nodes


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer levels, components and steps; the bars stay."""

    def shorter(share, first, cap, end):
        return clock(share, first, cap, min(end, 1.2))

    with (
        planted(f"{HERE}.weights.LEVELS", torch.tensor([0.5], dtype=torch.float64)),
        planted(f"{HERE}.weights.learning_rates", shorter),
        planted(f"{HERE}.generated.COMPONENTS", 5),
        planted(f"{HERE}.generated.END", 1.5),
        planted(f"{HERE}.network.COMPONENTS", 8),
        planted(f"{HERE}.network.SMALLEST", 0.4),
        planted(f"{HERE}.network.STEPS", 250),
    ):
        yield


def test_it_is_found_by_its_name():
    assert find("spectral-bias") is SPECTRAL_BIAS


@pytest.mark.parametrize("part", [part.name for part in SPECTRAL_BIAS.parts])
def test_every_claim_holds(part):
    answer = answered(SPECTRAL_BIAS, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}
    assert all(math.isfinite(claim.value) for claim in answer.claims)


def test_the_clock_keeps_steps_a_share_of_the_time_that_passed():
    rates = clock(0.1, 0.01, 0.3, 5.0)
    passed = rates.cumsum(0) - rates
    assert torch.allclose(rates, (0.1 * passed).clamp(0.01, 0.3), rtol=1e-14)
    assert 5.0 <= float(rates.sum()) < 5.3


def test_a_node_table_generates_what_the_exact_denoisers_of_the_levels_do():
    """Trained to the end, the variance is that of the exact Gaussian, to the quadrature's 1e-4."""
    law = Gaussian(torch.zeros(2), torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 0.1]))
    table = nodes.gauss_legendre()
    schedule = VE(generated.SIGMA_0, generated.SIGMA_T)
    model = LinearDenoiser(schedule, table.levels, event_shape=(2,), data_range=(-1.0, 1.0)).double()
    for place, sigma in enumerate(table.levels.tolist()):
        model.weight.data[place] = AffineLearning(law, 1, sigma).optimum.weight
    eye = torch.eye(2, dtype=torch.float64)
    exact = law.flow(generated.SIGMA_T * eye, schedule, generated.SIGMA_T, generated.SIGMA_0).diag() ** 2
    assert torch.allclose(table.generated(model, eye), exact, rtol=1e-4)


# faults


def test_a_loss_that_is_a_mean_where_a_sum_is_meant_is_caught():
    """The convention of the loss: time off by a factor 64 / 63."""

    class Misread(AffineLearning):
        def flow(self, start, time):
            return super().flow(start, time * 64 / 63)

        def descent(self, start, learning_rates):
            return super().descent(start, learning_rates * 64 / 63)

    with planted(f"{HERE}.weights.AffineLearning", Misread):
        assert "one-layer-steps" in failures(SPECTRAL_BIAS, "one-layer")


def test_a_theory_without_the_mean_is_caught():
    class Centered(AffineLearning):
        def __init__(self, law, alpha, sigma):
            super().__init__(setting.centered(law), alpha, sigma)

    # a rate that both bear: the mean is the stiffest direction
    with (
        planted(f"{HERE}.weights.AffineLearning", Centered),
        planted(f"{HERE}.weights.learning_rates", lambda share, first, cap, end: clock(share, first, 0.02, 1.0)),  # noqa: ARG005
    ):
        assert {"one-layer-steps", "one-layer-flow"} <= failures(SPECTRAL_BIAS, "one-layer")


@pytest.mark.parametrize("factor", [4 / 8, 2 / 8, 1.05], ids=["4", "2", "8.4"])
def test_another_factor_in_the_logistic_than_eight_is_caught(factor):
    def slower(lam, times, start, *, alpha, sigma):
        return two_layer_flow(lam, factor * times, start, alpha=alpha, sigma=sigma)

    with planted(f"{HERE}.weights.two_layer_flow", slower):
        assert failures(SPECTRAL_BIAS, "two-layers") == {"two-layer-flow"}


def test_a_recursion_without_its_square_is_caught():
    def first_order(lam, rates, start, *, alpha, sigma):
        w = two_layer_descent(lam, rates, start, alpha=alpha, sigma=sigma)
        s = alpha**2 * lam + sigma**2
        for step, rate in enumerate(rates.tolist()):
            w[step + 1] = w[step] * (1 - 8 * rate * (s * w[step] - alpha * lam))
        return w

    with planted(f"{HERE}.weights.two_layer_descent", first_order):
        assert failures(SPECTRAL_BIAS, "two-layers") == {"two-layer-steps"}


def test_steps_that_are_too_long_for_gradient_flow_are_caught():
    with planted(f"{HERE}.weights.learning_rates", lambda share, first, cap, end: clock(8 * share, first, cap, end)):
        assert failures(SPECTRAL_BIAS, "two-layers") == {"two-layer-flow"}


def test_components_that_do_not_start_apart_are_caught():
    """P that is not a multiple of I: the logistic curve is of aligned starts only."""

    class Tilted(weights.SymmetricLinearDenoiser):
        def forward(self, x_t, t):
            with torch.no_grad():
                self.factor[:, 0, 1] += 1e-4
            return super().forward(x_t, t)

    with planted(f"{HERE}.weights.SymmetricLinearDenoiser", Tilted):
        assert {"apart", "two-layer-steps"} <= failures(SPECTRAL_BIAS, "two-layers")


def test_noise_that_is_a_few_percent_too_large_is_caught_on_real_batches():
    sound = weights.one_layer_flow, weights.two_layer_flow
    with (
        planted(f"{HERE}.weights.BATCH", 512),
        planted(
            f"{HERE}.weights.one_layer_flow", lambda *a, alpha, sigma: sound[0](*a, alpha=alpha, sigma=1.1 * sigma)
        ),
        planted(
            f"{HERE}.weights.two_layer_flow", lambda *a, alpha, sigma: sound[1](*a, alpha=alpha, sigma=1.1 * sigma)
        ),
    ):
        assert failures(SPECTRAL_BIAS, "stochastic") == {"stochastic-one", "stochastic-two"}


def test_the_sign_that_the_source_prints_is_caught():
    """exp[- sum (W - I)] in place of exp[+ ...]."""

    class Printed(nodes):
        @classmethod
        def gauss_legendre(cls):
            sound = nodes.gauss_legendre()
            return cls(sound.levels, -sound.weights)

    with planted(f"{HERE}.generated.Nodes", Printed):
        assert {"generated-one", "generated-two"} <= failures(SPECTRAL_BIAS, "generated")


def test_a_generated_variance_with_half_the_rate_is_caught():
    def half(variance):
        return lambda lam, times, *rest, **ends: variance(lam, times / 2, *rest, **ends)

    slow = {"one": half(one_layer_generated_variance), "two": half(two_layer_generated_variance)}
    with planted(f"{HERE}.generated.CLOSED", slow):
        assert failures(SPECTRAL_BIAS, "generated") == {"generated-one", "generated-two"}


def test_learning_that_is_equally_fast_for_every_component_has_no_exponent():
    """Whitened training: rates without lambda."""

    def whitened(lam, times, start, *, sigma_0, sigma_T):
        total = sigma_0**2 + (lam - sigma_0**2) * (1 - torch.exp(-times[:, None])) + 0 * start
        return total * sigma_T**2 / (lam + sigma_T**2)

    with planted(f"{HERE}.generated.CLOSED", {"one": whitened, "two": whitened}):
        assert {"exponent-one", "exponent-two"} <= failures(SPECTRAL_BIAS, "generated")


def test_a_network_that_learns_nothing_is_caught():
    with planted(f"{HERE}.network.STEPS", 3):
        assert failures(SPECTRAL_BIAS, "network") == {"network-order", "network-learned"}


def test_a_training_that_is_too_short_for_the_small_components_is_caught():
    with planted(f"{HERE}.network.STEPS", 60):
        assert "network-learned" in failures(SPECTRAL_BIAS, "network")
