"""Analytic denoisers and checks of a model carry no graph: neither of the data, nor of the model, nor of the states."""

from collections.abc import Callable

import pytest
import torch
from conftest import tensors_of
from torch import Tensor

from diffuscope.denoisers import Batch, BatchTime, ExactDenoiser, require_fits_model
from diffuscope.denoisers.analytic import (
    Smoothed,
    local_score,
    masked_score,
    patch_composition,
    patch_sizes,
    pca_local_score,
)
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, VP
from numbers_in_tests import seeded

SIDE = 3


def images(n: int, seed: int) -> Tensor:
    return torch.randn(n, SIDE, SIDE, dtype=torch.float64, generator=seeded(seed))


MAKE: dict[str, Callable[[Tensor], Callable[..., Tensor]]] = {
    "patches": lambda data: local_score(data, VP(), 1),
    "crops": lambda data: patch_composition(data, VP(), 2),
    "masks": lambda data: masked_score(data, VP(), data[0].reshape(-1, 1).square().expand(-1, 9)),
    "pca": lambda data: pca_local_score(data, VP(), share=0.7),
    "smoothed": lambda data: Smoothed(data, VP(), smoothing=0.2, draws=3, generator=seeded(2)),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_an_analytic_answer_carries_no_graph_of_the_data_nor_without_gradients_of_the_state(make):
    data, x_t = images(6, 0), images(2, 1)
    plain, learned = make(data)(x_t, 0.4), make(data.clone().requires_grad_())
    assert torch.equal(learned(x_t, 0.4), plain)
    assert not learned(x_t, 0.4).requires_grad
    with torch.no_grad():
        of_leaf = learned(x_t.clone().requires_grad_(), 0.4)
    assert not of_leaf.requires_grad
    assert torch.equal(of_leaf, plain)


@pytest.mark.parametrize("kind", ["patches", "crops", "masks", "pca"])
def test_the_graph_of_an_answer_that_has_no_gradient_holds_the_state_and_no_intermediate_result(kind):
    answer = MAKE[kind](images(6, 0))(images(2, 1).requires_grad_(), 0.4)
    assert answer.grad_fn is not None
    leaves = [type(function).__name__ for function, _ in answer.grad_fn.next_functions if function is not None]
    assert leaves == ["AccumulateGrad"]


def test_masks_may_depend_on_a_parameter_and_the_answer_does_not_carry_it():
    scale = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    answer = masked_score(images(6, 0), VP(), lambda _: scale * torch.ones(9, 9, dtype=torch.float64))(
        images(2, 1), 0.4
    )
    assert not answer.requires_grad


class Learning:
    """The exact denoiser of a Gaussian, times a parameter, which remembers whether a graph would be kept."""

    def __init__(self, gaussian: Gaussian) -> None:
        self.schedule, self.exact = VE(), ExactDenoiser(gaussian, VE())
        self.weight = torch.ones((), dtype=torch.float64, requires_grad=True)
        self.recorded: list[bool] = []

    def __call__(self, x_t: Batch, t: BatchTime) -> Batch:
        answer = self.weight * self.exact(x_t, t)
        self.recorded.append(answer.requires_grad)
        return answer


def test_statistics_and_sizes_are_compared_with_a_model_without_its_graph():
    model = Learning(Gaussian.isotropic(torch.zeros(SIDE, SIDE), 1.0))
    require_fits_model(Gaussian.isotropic(torch.zeros(SIDE, SIDE), 1.0), model)
    found = patch_sizes(model, images(6, 0), images(4, 1), [0.5], [1, 3], kind=local_score, generator=seeded(2))
    assert not any(tensor.requires_grad for tensor in tensors_of(found))
    assert model.recorded
    assert not any(model.recorded)
