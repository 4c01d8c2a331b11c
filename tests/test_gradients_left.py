"""A leaf that the library makes and leaves behind is noticed, whichever way it leaves."""

import pytest
import torch
from jaxtyping import Float
from torch import Tensor

import first_calls

Rows = Float[Tensor, "n d"]
FUNCTIONS = """
import torch

def kept_in_the_argument(x: Rows) -> Rows:
    leaf = x.double().requires_grad_()
    return torch.autograd.grad(leaf.square().sum(), leaf)[0]

def kept_in_an_item(x: list[Rows]) -> float:
    x[0].requires_grad_()
    return 0.0

def kept_in_the_answer(x: Rows) -> tuple[Rows, Rows]:
    leaf = x.detach().requires_grad_()
    value = leaf.square()
    return torch.autograd.grad(value.sum(), leaf)[0], value

def _private(x: Rows) -> Rows:
    return x.detach().requires_grad_()

def kept_nowhere(x: Rows) -> Rows:
    leaf = _private(x)
    return torch.autograd.grad(leaf.square().sum(), leaf)[0]

def square(x: Rows) -> Rows:
    return x.square()
"""
LIBRARY = {"__name__": "diffuscope.faulty", "Rows": Rows}
exec(FUNCTIONS, LIBRARY)


def watched(name: str):
    """A function of the text above, as the tests call those of the library."""
    return first_calls.watched(LIBRARY[name], typechecker=first_calls.checked)


def points() -> Tensor:
    return torch.tensor([[1.0, 2.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("kept_in_the_argument", points(), "kept_in_the_argument: an argument requires gradients"),
        ("kept_in_an_item", [points()], "kept_in_an_item: an argument requires gradients"),
        ("kept_in_the_answer", points(), "kept_in_the_answer: the answer carries the graph of a leaf"),
    ],
)
def test_a_leaf_that_is_left_is_named(name, argument, message):
    with pytest.raises(AssertionError, match=message):
        watched(name)(argument)


def test_a_leaf_that_stays_within_is_accepted_and_so_are_private_helpers_and_the_callers_own_leaves():
    assert watched("kept_nowhere")(points()).tolist() == [[2.0, 4.0]]
    assert watched("_private")(points()).requires_grad
    assert watched("square")(points().requires_grad_()).requires_grad


def test_the_graph_of_a_leaf_that_a_caller_in_the_library_made_is_the_callers():
    leaf = watched("_private")(points())
    assert watched("square")(leaf).requires_grad


def test_a_number_read_from_a_graph_is_an_error_in_every_test_and_not_in_the_first_alone():
    for _ in range(2):
        with pytest.raises(UserWarning, match="requires_grad=True to a scalar"):
            float(torch.ones((), requires_grad=True))
