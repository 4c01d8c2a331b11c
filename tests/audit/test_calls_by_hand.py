"""The calls of a network: which argument is the time, what becomes of the others, and what it returns."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from results_of_samples import copies

from diffuscope.audit.exact_matches import exact_matches
from diffuscope.audit.network_calls import CalledNetwork, _output, _time_of, called_network
from diffuscope.denoisers import OfClass
from diffuscope.schedules import VE

X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
OTHER = torch.tensor([[5.0, 6.0], [7.0, 8.0], [9.0, 0.0]])


def called(args, kwargs, place):
    """What the network is given at three other points."""
    given = []

    def network(*args, **kwargs):
        given.extend([args, kwargs])
        return (2 * args[0], "more")

    made = CalledNetwork(network, (X, *args), kwargs, place, X, "network")
    assert torch.equal(made(OTHER, 2.6), 2 * OTHER)
    return made, given


def test_the_time_has_its_place_shape_and_kind_at_other_points():
    made, (args, _) = called((torch.tensor([0.5, 0.5]),), {}, 1)
    assert (made.time, made.counts) == (0.5, False)
    assert torch.equal(args[1], torch.full((3,), 2.6))
    _, (args, _) = called((torch.tensor([[4], [4]]),), {}, 1)
    assert torch.equal(args[1], torch.tensor([[3]] * 3))  # rounded
    made, (args, _) = called((torch.tensor(7),), {}, 1)
    assert (made.time, made.counts) == (7.0, True)
    assert torch.equal(args[1], torch.tensor(3))
    _, (args, _) = called((torch.tensor([7.5]),), {}, 1)
    assert torch.equal(args[1], torch.tensor([2.6]))  # one for all
    _, (args, _) = called((0.5,), {}, 1)
    assert args[1] == pytest.approx(2.6)
    _, (args, _) = called((4,), {}, 1)
    assert (args[1], type(args[1])) == (3, int)
    made, (args, kwargs) = called((), {"sigma": torch.tensor(0.25, dtype=torch.float64)}, "sigma")
    assert (made.time, len(args)) == (0.25, 1)
    assert kwargs == {"sigma": torch.tensor(2.6, dtype=torch.float64)}


def test_other_arguments_are_repeated_for_other_points_or_left_as_they_are():
    label, scalar, table = torch.tensor([[4.0, 5.0], [6.0, 7.0]]), torch.tensor(9.0), torch.arange(5)
    _, (args, kwargs) = called((0.5, label, scalar, table, "word"), {"y": torch.tensor([3, 8]), "n": 2}, 1)
    assert args[2].tolist() == [[4.0, 5.0]] * 3
    assert args[3] is scalar
    assert args[4] is table
    assert (args[5], kwargs["n"]) == ("word", 2)
    assert kwargs["y"].tolist() == [3, 3, 3]


@pytest.mark.parametrize(
    ("args", "kwargs", "place"),
    [
        ((X, 0.5), {}, 1),
        ((X, "word", 3), {}, 2),
        ((X, True, 0.5), {}, 2),
        ((X, torch.tensor([True, False]), torch.tensor([0.1, 0.1])), {}, 2),
        ((X, torch.arange(5), torch.tensor([4])), {}, 2),
        ((X,), {"y": None, "t": torch.tensor(0.3)}, "t"),
        ((X, torch.arange(3)), {}, None),
        ((X + 1, 0.5), {}, None),
        ((X[:1], 0.5), {}, None),
        (("word", 0.5), {}, None),
        ((), {"t": 0.5}, None),
        ((X.double(), 0.5), {}, 1),
    ],
)
def test_the_time_is_the_first_number_beside_the_points(args, kwargs, place):
    assert _time_of(args, kwargs, X) == place


def test_an_output_may_be_wrapped():
    assert _output(X) is X
    assert _output((X, 1)) is X
    assert _output(SimpleNamespace(sample=X)) is X
    assert _output(SimpleNamespace(sample=(X, 2))) is X
    assert _output(()) == ()
    assert _output("word") == "word"


class Conditional:
    """Of a class and a time; what begins with an underscore, a class and the clock are no networks."""

    schedule, classes, event_shape, data_range = VE(), 9, (2,), (-9.0, 9.0)
    kind = dict

    def __init__(self):
        self._hidden = lambda x, t: 0 * x + t
        self.clock = lambda x, t: 0 * x + t
        self.scale = lambda x: x
        self.network = lambda x, t, y: 3 * x + 0 * t + 0 * y.reshape(-1, 1)

    def __call__(self, x_t, t, y=None):
        self._hidden(x_t, t)
        self.clock(x_t, t)
        return self.network(self.scale(x_t), 10 * t, y)


def test_the_network_of_a_class_is_that_of_its_conditional_denoiser():
    found = called_network(OfClass(Conditional(), 4), X, 0.5)
    assert found is not None
    assert (found.name, found.time_at, found.time) == ("network", 1, 5.0)
    assert torch.equal(found.output, 3 * X)
    assert torch.equal(found(OTHER, 0.1), 3 * OTHER)


def test_equal_examples_are_within_a_millionth_of_the_next_distance():
    distance = np.array([1e-6, 1.05e-6, 4.0, 0.0, 1.0, 7.0])
    found = exact_matches(copies(distance=distance, next_distance=np.ones(6)))
    assert found.samples == (2, 6)
