"""A stored stage is read back only for the same code, model, data and settings."""

import itertools
import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from audit_subjects import QUICK, digits
from diffuscope import source
from diffuscope.audit import Subject
from diffuscope.audit.fingerprint import fingerprint
from diffuscope.denoisers import tensors_within
from diffuscope.schedules import VE


class Shrinking:
    """D = weight x at every level, but `offset` more within a narrow band of times."""

    schedule = VE()

    def __init__(self, weight=0.5, band=None):
        self.weight, self.band = weight, band

    def __call__(self, x_t, t):
        inside = self.band is not None and self.band[0] < float(t) < self.band[1]
        return self.weight * x_t + (1e-3 if inside else 0.0)


@pytest.fixture(scope="module")
def x():
    return digits(0)


def key(x, denoiser):
    return fingerprint(Subject(denoiser, x[:40], x[40:80]), QUICK, None)


def test_a_model_that_differs_at_any_one_level_is_another_model(x):
    first = key(x, Shrinking())
    assert key(x, Shrinking()) == first
    # nine bands between the audit's lowest and highest level, each of which holds some of its times
    ratios = torch.logspace(math.log10(0.05), math.log10(30), 10, dtype=torch.float64)
    times = VE().time_of_noise_to_signal(ratios).tolist()
    for band in itertools.pairwise(times):
        assert key(x, Shrinking(band=band))["answers"] != first["answers"], band


class Wrapped:
    """A network within an object; `unused` never changes an answer."""

    schedule = VE()

    def __init__(self, network, unused=None):
        self.parts = {"network": [network]}
        self.unused = unused

    def __call__(self, x_t, t):
        del t
        return x_t * float(self.parts["network"][0].weight.sum()) * 0.0


def test_every_parameter_and_buffer_of_a_wrapped_network_is_in_the_key(x):
    """These models answer alike, so that only their tensors can tell them apart."""

    def model(change=nn.Module.eval):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            network = nn.Linear(2, 2)
        network.register_buffer("steps", torch.zeros(3, dtype=torch.int64), persistent=False)
        with torch.no_grad():
            change(network)
        return Wrapped(network)

    first = key(x, model())
    assert key(x, model()) == first
    for change in (lambda n: n.weight[0, 0].add_(1e-6), lambda n: n.bias[1].add_(1.0), lambda n: n.steps[2].add_(1)):
        other = key(x, model(change))
        assert other["answers"] == first["answers"]
        assert other["weights"] != first["weights"]
    assert key(x, Wrapped(model().parts["network"][0], unused=np.ones(3)))["weights"] != first["weights"]


GLOBAL_NETWORK = nn.Linear(2, 2).bfloat16()


def test_networks_are_found_behind_functions_methods_and_cycles():
    network = nn.Linear(3, 1)
    expected = {id(parameter) for parameter in network.parameters()}

    def closure(x_t, t):
        return network(x_t), t

    class Slotted:
        __slots__ = ("network", "own")

    slotted, cyclic = Slotted(), Wrapped(network)
    slotted.network, slotted.own = network, slotted
    cyclic.unused = cyclic
    for model in (
        closure,
        partial(closure, t=0),
        Wrapped(network).__call__,
        slotted,
        cyclic,
        [(closure,)],
        {1: network},
    ):
        assert expected == {id(tensor) for tensor in tensors_within(model)}

    def uses_a_global(x_t, t):
        return GLOBAL_NETWORK(x_t), t

    assert {id(p) for p in GLOBAL_NETWORK.parameters()} == {id(tensor) for tensor in tensors_within(uses_a_global)}


def test_a_change_of_the_code_is_in_the_key_and_one_of_the_command_line_is_not():
    """The files that the questions import, directly or not."""
    from diffuscope.audit.fingerprint import CODE

    names = {path.relative_to(source.ROOT).as_posix() for path in source.imported_files(CODE)}
    assert {"audit/session.py", "audit/level_measures.py", "samplers/ode.py", "denoisers/contract.py"} <= names
    assert not {name for name in names if name.startswith(("cli/", "experiments/", "training/"))}
