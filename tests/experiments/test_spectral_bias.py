"""Spectral bias: every claim holds for another seed, and a planted fault makes the claim about it fail."""

import copy
import math

import pytest
import torch
from answering import answered, failures, planted

from diffuscope.denoisers import LinearDenoiser, SymmetricLinearDenoiser
from diffuscope.exact import Gaussian
from diffuscope.experiments import find
from diffuscope.experiments.spectral_bias import EXPERIMENT, SIGMA_0, SIGMA_T, centered, digits_gaussian
from diffuscope.experiments.spectral_bias.linear_training import (
    descend,
    gauss_legendre,
    generated_gains,
    learning_rates,
)
from diffuscope.schedules import VE
from diffuscope.theory import (
    AffineLearning,
    AffineMap,
    moment_batch,
    one_layer_generated_variance,
    two_layer_descent,
    two_layer_flow,
    two_layer_generated_variance,
)

HERE = "diffuscope.experiments.spectral_bias"


def replaying(descend):
    """The same descent, but what was trained once with the same rates is not trained again."""
    trained = {}

    def replayed(model, levels, batches, rates):
        key = (type(model), model.event_shape, len(levels), len(rates), float(rates.sum()))
        if key not in trained:
            steps = descend(model, levels, batches, rates)
            trained[key] = [(step, copy.deepcopy(model.state_dict())) for step in steps]
        for step, state in trained[key]:
            model.load_state_dict(state)
            yield step

    return replayed


@pytest.fixture(autouse=True, scope="module")
def _smaller():
    """Fewer levels, components and steps, and every training once; the bars stay."""

    def shorter(share, first, cap, end):
        return learning_rates(share, first, cap, min(end, 0.9))

    with (
        planted(f"{HERE}.LEVELS", torch.tensor([0.5], dtype=torch.float64)),
        planted(f"{HERE}.learning_rates", shorter),
        planted(f"{HERE}.descend", replaying(descend)),
        planted(f"{HERE}.DIGITS_BATCH", 1024),
        planted(f"{HERE}.COMPONENTS", 4),
        planted(f"{HERE}.VARIANCES", torch.linspace(4, 1, 5, dtype=torch.float64)),
        planted(f"{HERE}.STEPS", 120),
        planted(f"{HERE}.SAMPLES", 300),
    ):
        yield


def test_it_is_found_by_its_name():
    assert find("spectral-bias") is EXPERIMENT


@pytest.mark.parametrize("part", [part.name for part in EXPERIMENT.parts])
def test_every_claim_holds(part):
    answer = answered(EXPERIMENT, part)
    assert {claim.name: claim.measured for claim in answer.claims if not claim.holds} == {}
    assert all(math.isfinite(claim.value) for claim in answer.claims)


def test_the_clock_keeps_steps_a_share_of_the_time_that_passed():
    rates = learning_rates(0.1, 0.01, 0.3, 5.0)
    passed = rates.cumsum(0) - rates
    assert torch.allclose(rates, (0.1 * passed).clamp(0.01, 0.3), rtol=1e-14, atol=0)
    assert 5.0 <= float(rates.sum()) < 5.3


def test_a_node_table_generates_what_the_exact_denoisers_of_the_levels_do():
    """Trained to the end, the variance is that of the exact Gaussian, to the quadrature's 1e-4."""
    p = Gaussian(torch.zeros(2), torch.eye(2, dtype=torch.float64), torch.tensor([1.0, 0.1]))
    (levels, weights), schedule = gauss_legendre(12, SIGMA_0, SIGMA_T), VE(SIGMA_0, SIGMA_T)
    model = LinearDenoiser(schedule, levels, event_shape=(2,), data_range=(-1.0, 1.0)).double()
    for place, sigma in enumerate(levels.tolist()):
        model.weight.data[place] = AffineLearning(p, 1, sigma).optimum.weight
    eye = torch.eye(2, dtype=torch.float64)
    exact = p.flow(SIGMA_T * eye, schedule, SIGMA_T, SIGMA_0).diag() ** 2
    assert torch.allclose(SIGMA_T**2 * generated_gains(model, levels, weights, eye), exact, rtol=1e-4, atol=0)


# exact steps

SIGMAS = torch.tensor([0.3, 1.0], dtype=torch.float64)


def one_layer_error(learning):
    """Weights and bias in descent on the digits' moments against V* + (V_0 - V*) prod (I - 2 eta M): the largest."""
    p, rates = digits_gaussian(), torch.linspace(1e-3, 8e-3, 25, dtype=torch.float64)
    model = LinearDenoiser(VE(0.01, 10.0), SIGMAS, event_shape=(64,), data_range=(-1.0, 1.0)).double()
    zero, batch, error = AffineMap(torch.zeros(64, 64).double(), torch.zeros(64).double()), moment_batch(p), 0.0
    for step in descend(model, SIGMAS, lambda: batch, rates):
        for sigma in SIGMAS.tolist():
            (weight, bias), exact = model.map_at(sigma), learning(p, 1, sigma).descent(zero, rates[:step])
            error = max(error, float((weight - exact.weight).abs().max()), float((bias - exact.bias).abs().max()))
    return error


def two_layer_matrices(network):
    """P P^T in the components' basis at every logged step, in descent on the centered digits' moments."""
    p, rates = centered(digits_gaussian()), torch.full((25,), 0.04, dtype=torch.float64)
    model = network(VE(0.01, 10.0), SIGMAS, mean=p.mean, data_range=(-1.0, 1.0), start=0.01).double()
    model.factor.data = model.factor.data.sign() * 0.1
    batch, turn = moment_batch(p), p.eigenvectors
    steps, found = [], []
    for step in descend(model, SIGMAS, lambda: batch, rates):
        steps.append(step)
        found.append(torch.stack([turn.T @ model.map_at(sigma)[0] @ turn for sigma in SIGMAS.tolist()]))
    return p.eigenvalues.clamp(min=0), rates, steps, torch.stack(found)


def two_layer_errors(network=SymmetricLinearDenoiser, descent=two_layer_descent):
    """Largest error of w <- w [1 - 4 eta (s w - lambda)]^2 in a gain, and largest element between components."""
    lam, rates, steps, found = two_layer_matrices(network)
    exact = torch.stack([descent(lam, rates, 0.01, alpha=1, sigma=sigma)[steps] for sigma in SIGMAS.tolist()], 1)
    gains = found.diagonal(dim1=-2, dim2=-1)
    return float((gains - exact).abs().max()), float((found - gains.diag_embed()).abs().max())


def test_descent_on_one_layer_is_the_matrix_recursion():
    assert one_layer_error(AffineLearning) < 1e-10  # rounding of autograd over the steps


def test_descent_on_two_layers_is_the_scalar_recursion_and_components_learn_apart():
    assert max(two_layer_errors()) < 1e-10  # rounding; P starts at a multiple of I


def test_a_loss_that_is_a_mean_where_a_sum_is_meant_is_caught():
    """The convention of the loss: time off by a factor 64 / 63."""

    class Misread(AffineLearning):
        def descent(self, start, learning_rates):
            return super().descent(start, learning_rates * 64 / 63)

    assert one_layer_error(Misread) > 1e-4


def test_a_recursion_without_its_square_is_caught():
    def first_order(lam, rates, start, *, alpha, sigma):
        w = two_layer_descent(lam, rates, start, alpha=alpha, sigma=sigma)
        s = alpha**2 * lam + sigma**2
        for step, rate in enumerate(rates.tolist()):
            w[step + 1] = w[step] * (1 - 8 * rate * (s * w[step] - alpha * lam))
        return w

    assert two_layer_errors(descent=first_order)[0] > 1e-4


def test_components_that_do_not_start_apart_are_caught():
    """P that is not a multiple of I: the recursion is of aligned starts only."""

    class Tilted(SymmetricLinearDenoiser):
        def forward(self, x_t, t):
            with torch.no_grad():
                self.factor[:, 0, 1] += 1e-4
            return super().forward(x_t, t)

    assert min(two_layer_errors(Tilted)) > 1e-6


# faults


def test_a_theory_without_the_mean_is_caught():
    class Centered(AffineLearning):
        def __init__(self, p, alpha, sigma):
            super().__init__(centered(p), alpha, sigma)

    # a rate that both bear: the mean is the stiffest direction
    with (
        planted(f"{HERE}.theory.AffineLearning", Centered),
        planted(f"{HERE}.learning_rates", lambda share, first, cap, end: learning_rates(share, first, 0.02, 1.0)),  # noqa: ARG005
    ):
        assert {"one-layer-flow"} == failures(EXPERIMENT, "one-layer")


@pytest.mark.parametrize("factor", [4 / 8, 2 / 8, 1.05], ids=["4", "2", "8.4"])
def test_another_factor_in_the_logistic_than_eight_is_caught(factor):
    def slower(lam, times, start, *, alpha, sigma):
        return two_layer_flow(lam, factor * times, start, alpha=alpha, sigma=sigma)

    with planted(f"{HERE}.theory.two_layer_flow", slower):
        assert failures(EXPERIMENT, "two-layers") == {"two-layer-flow"}


def test_steps_that_are_too_long_for_gradient_flow_are_caught():
    with planted(f"{HERE}.learning_rates", lambda share, first, cap, end: learning_rates(8 * share, first, cap, end)):
        assert failures(EXPERIMENT, "two-layers") == {"two-layer-flow"}


def test_noise_that_is_a_few_percent_too_large_is_caught_on_real_batches():
    def noisier(lam, times, start, *, alpha, sigma):
        return two_layer_flow(lam, times, start, alpha=alpha, sigma=1.1 * sigma)

    with planted(f"{HERE}.theory.two_layer_flow", noisier):
        assert failures(EXPERIMENT, "stochastic") == {"stochastic-two"}


def test_the_sign_that_the_source_prints_is_caught():
    """exp[- sum (W - I)] in place of exp[+ ...]."""

    def printed(*ends):
        levels, weights = gauss_legendre(*ends)
        return levels, -weights

    with planted(f"{HERE}.gauss_legendre", printed):
        assert {"generated-one", "generated-two"} <= failures(EXPERIMENT, "generated")


def test_a_generated_variance_with_half_the_rate_is_caught():
    def half(variance):
        return lambda lam, times, *rest, **ends: variance(lam, times / 2, *rest, **ends)

    slow = {"one": half(one_layer_generated_variance), "two": half(two_layer_generated_variance)}
    with planted(f"{HERE}.CLOSED", slow):
        assert failures(EXPERIMENT, "generated") == {"generated-one", "generated-two"}


def test_learning_that_is_equally_fast_for_every_component_has_no_exponent():
    """Whitened training: rates without lambda."""

    def whitened(kind, p):  # noqa: ARG001
        times = torch.cat([torch.zeros(1), torch.logspace(-2, 1.3, 60)]).double()
        total = SIGMA_0**2 + (p.eigenvalues - SIGMA_0**2) * (1 - torch.exp(-times[:, None]))
        curves = total * SIGMA_T**2 / (p.eigenvalues + SIGMA_T**2)
        return times, curves, curves

    with planted(f"{HERE}.train_levels", whitened):
        assert failures(EXPERIMENT, "generated") == {"inverse-one", "inverse-two"}


@pytest.mark.parametrize("steps", [3, 40])
def test_a_network_that_does_not_learn_every_component_is_caught(steps):
    with planted(f"{HERE}.STEPS", steps):
        assert failures(EXPERIMENT, "network") == {"network-order"}
