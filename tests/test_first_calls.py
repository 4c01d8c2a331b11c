"""Wrong shapes are refused in the first calls of every test, of functions, methods and properties alike."""

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

import first_calls
from diffuscope.exact import Gaussian
from diffuscope.exact.distribution import over_events


def wrong() -> None:
    """A batch where one number per sample is expected."""
    over_events(torch.zeros(2, 3), torch.zeros(2, 3))


def test_wrong_shapes_are_refused_until_the_first_calls_are_over_and_again_in_the_next_test() -> None:
    with pytest.raises(TypeCheckError):
        wrong()
    for _ in range(first_calls.CALLS):
        over_events(torch.zeros(2), torch.zeros(2, 3))
    wrong()  # no longer checked; broadcasting accepts it
    first_calls.again()
    with pytest.raises(TypeCheckError):
        wrong()


def test_methods_and_properties_pass_their_later_calls_on_as_well() -> None:
    for _ in range(first_calls.CALLS):
        gaussian = Gaussian.isotropic(torch.zeros(2), 1.0)  # a class method
        assert gaussian.trace == gaussian.truncate(1).trace == 2.0
    names = {function.__qualname__ for function in first_calls.unchecked}
    assert {"Gaussian.isotropic", "Gaussian.trace", "Gaussian.truncate"} <= names


def test_an_answer_is_checked_with_the_letters_of_its_arguments() -> None:
    """Though the arguments are checked once: n is 2 by the argument, and 3 by the answer."""

    @jaxtyped(typechecker=first_calls.checked)
    def columns(x: Float[Tensor, "n d"], *, times: float) -> Float[Tensor, " n"]:
        return times * x.sum(0)

    assert columns(torch.ones(3, 3), times=2.0).tolist() == [6.0, 6.0, 6.0]
    with pytest.raises(TypeCheckError, match="return value"):
        columns(torch.ones(2, 3), times=2.0)
    with pytest.raises(TypeCheckError, match="parameters"):
        columns(torch.ones(2), times=2.0)
    with pytest.raises(TypeCheckError, match="parameters"):
        columns(torch.ones(2, 3), times="twice")  # pyright: ignore[reportArgumentType]
