"""Drifts as users write them: in place, in float32, as modules, wrong by rows; and what is no diffusion or domain."""

import pytest
import torch

from diffuscope.errors import InputError
from diffuscope.theory.paths import Dynamics, least_action

HERE, THERE = torch.tensor([1.0, 0.5]).double(), torch.tensor([-1.0, 2.0]).double()
TIMES = torch.linspace(0, 1, 11, dtype=torch.float64)


def pulled(x: torch.Tensor) -> torch.Tensor:
    return -x * torch.tensor([2.0, 1.0], dtype=torch.float64)


def in_place(x: torch.Tensor) -> torch.Tensor:
    x[:, 0] *= 2
    x.neg_()
    return x


def late(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    t *= 0
    return pulled(x) + t[:, None]


@pytest.mark.parametrize("drift", [in_place, late])
def test_a_drift_that_overwrites_its_input_is_that_of_one_that_does_not(drift) -> None:
    found, exact = (least_action(Dynamics(each, 0.5), HERE, THERE, TIMES) for each in (drift, pulled))
    assert torch.equal(found.states, exact.states)
    assert float(found.action) == float(exact.action)


def test_a_module_in_float32_is_copied_into_float64_and_left_as_it_was() -> None:
    layer = torch.nn.Linear(2, 2)
    with torch.no_grad():
        layer.weight.copy_(-torch.diag(torch.tensor([2.0, 1.0])))
        layer.bias.zero_()
    found = least_action(Dynamics(layer, 0.5), HERE, THERE, TIMES)
    torch.testing.assert_close(found.action, least_action(Dynamics(pulled, 0.5), HERE, THERE, TIMES).action)
    assert layer.weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("drift", "message"),
    [
        (lambda x: (-x).float(), "drift: expected float64 back, as the states are, got float32"),
        (lambda x: (-x).to(torch.complex128), "drift: expected float64 back, as the states are, got complex128"),
        (lambda x: x @ -torch.eye(2), "drift: expected a function of float64 states, and a part of it"),
        (lambda x: -x + x.mean(0), "drift: expected a function of each row alone"),
        (lambda x: -x * x.sum(), "drift: expected a function of each row alone"),
        (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2)), "drift: expected a function of each row"),
    ],
)
def test_a_drift_of_another_precision_or_of_all_rows_together_is_refused(drift, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        least_action(Dynamics(drift, 0.5), HERE, THERE, TIMES)


@pytest.mark.parametrize(
    ("diffusion", "domain", "message"),
    [
        (torch.eye(2).to(torch.complex64), None, "diffusion: expected a number, .* got a torch.complex64"),
        (1.0, (3.0, -3.0), r"domain: expected a box \(low, high\) with low < high"),
        (1.0, (float("nan"), 3.0), r"domain: expected a box \(low, high\) with low < high"),
    ],
)
def test_what_is_no_diffusion_or_domain_is_refused(diffusion, domain, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}"):
        Dynamics(pulled, diffusion, domain)


def test_a_domain_that_answers_for_all_states_at_once_is_refused() -> None:
    with pytest.raises(InputError, match=r"^domain: expected one bool per state back"):
        least_action(Dynamics(pulled, 1.0, lambda x: (x < 9).all()), HERE, THERE, TIMES)


def test_no_numbers_are_no_state() -> None:
    with pytest.raises(InputError, match=r"^start: expected a tensor of real numbers, .* got \(0,\)"):
        least_action(Dynamics(pulled, 1.0), HERE[:0], HERE[:0], TIMES)
