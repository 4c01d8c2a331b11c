"""Wrong shapes are refused in the first calls of every test, of functions, methods and properties alike."""

from dataclasses import dataclass

import pytest
import torch
from jaxtyping import Float, TypeCheckError, jaxtyped
from torch import Tensor

import first_calls
from diffuscope.exact import Gaussian
from diffuscope.exact.distribution import over_events


@first_calls.watched(typechecker=first_calls.checked)
@dataclass(frozen=True)
class Estimated:
    """Two vectors of the same length."""

    mean: Float[torch.Tensor, " n"]
    error: Float[torch.Tensor, " n"]


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


def called_with(what: object) -> bool:
    """Whether a function inside another, checked like the library's, accepts `what` as one number per sample."""

    @first_calls.watched(typechecker=first_calls.checked)
    def inner(x: Float[torch.Tensor, " batch"]) -> Float[torch.Tensor, " batch"]:
        return x

    return inner(what) is what


def test_methods_and_properties_pass_their_later_calls_on_as_well() -> None:
    for _ in range(first_calls.CALLS):
        gaussian = Gaussian.isotropic(torch.zeros(2), 1.0)  # a class method
        assert gaussian.trace == gaussian.truncate(1).trace == 2.0
    over = {code.co_qualname for code, n in first_calls.calls.items() if n >= first_calls.CALLS}
    assert {"Gaussian.isotropic", "Gaussian.trace", "Gaussian.truncate"} <= over


def test_a_function_inside_another_is_counted_over_all_calls_of_the_outer_one() -> None:
    with pytest.raises(TypeCheckError):
        called_with(torch.zeros(2, 3))
    for _ in range(first_calls.CALLS):
        assert called_with(torch.zeros(2))
    assert called_with(torch.zeros(2, 3))
    first_calls.again()
    with pytest.raises(TypeCheckError):
        called_with(torch.zeros(2, 3))


def test_what_a_dataclass_is_made_of_is_checked() -> None:
    with pytest.raises(TypeCheckError):
        Estimated(torch.zeros(2), torch.zeros(3))
    assert Estimated(torch.zeros(2), torch.zeros(2)).mean.shape == (2,)


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
    first_calls.again()
    with pytest.raises(TypeCheckError, match="parameters"):
        columns(torch.ones(2, 3), times="twice")  # pyright: ignore[reportArgumentType]
