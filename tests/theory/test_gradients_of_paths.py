"""Paths of a drift that is being learned, between ends that ask for gradients: what is found carries none of them."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from diffuscope.theory.paths import (
    Dynamics,
    PathReport,
    conditioned_paths,
    curve_of_duration,
    curve_path,
    eyring_kramers,
    geometric_action,
    least_action,
    least_of_density,
    linear_bridge,
    most_likely_path,
    quasipotential,
    shoot,
    stiff_least_action,
    string,
    transition_rate,
)

RATE = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)  # a parameter of the drift
LEFT, RIGHT, TOP = (
    torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in ([-1.0, 0.0], [1.0, 0.2], [0.0, 0.0])
)
TIMES = torch.linspace(0, 1, 9, dtype=torch.float64, requires_grad=True)
FALLING = Dynamics(lambda x: -RATE * x, 0.5)


def well(x: Tensor) -> Tensor:
    return RATE * ((1 - x[:, 0] ** 2) ** 2 / 4 + x[:, 1] ** 2 / 2)


# no noise in the first direction, whose path must follow the drift
SILENT = Dynamics(lambda x: torch.stack([x[:, 1], -RATE * x[:, 0]], 1), torch.tensor([0.0, 0.5]))
UNEVEN = Dynamics(
    lambda x: -RATE * x, lambda x: RATE * (1 + x[:, :1, None].square()) * torch.eye(2, dtype=torch.float64)
)
BENT = LEFT + torch.linspace(0, 1, 9)[:, None] * (RIGHT - LEFT)
DOUBLE = Dynamics(lambda x: RATE * torch.stack([x[:, 0] - x[:, 0] ** 3, -x[:, 1]], 1), 0.5)
BOX = (-2.0, 0.4, -1.2, 1.2)


def tensors(found: object) -> Iterator[Tensor]:
    """All tensors in the fields of a dataclass, at any depth."""
    if isinstance(found, Tensor):
        yield found
    elif isinstance(found, tuple | list):
        for part in found:
            yield from tensors(part)
    elif dataclasses.is_dataclass(found) and not isinstance(found, Dynamics):
        for field in dataclasses.fields(found):
            yield from tensors(getattr(found, field.name))


@pytest.mark.parametrize(
    "find",
    [
        lambda: least_action(FALLING, LEFT, RIGHT, TIMES),
        lambda: least_action(FALLING, LEFT, RIGHT, TIMES, "OM"),
        lambda: least_action(FALLING, LEFT, RIGHT, TIMES, initial=LEFT + TIMES[None, :, None] * (RIGHT - LEFT)),
        lambda: shoot(FALLING, least_action(FALLING, LEFT, RIGHT, TIMES), segments=2),
        lambda: linear_bridge(FALLING, LEFT, RIGHT, TIMES),
        lambda: linear_bridge(FALLING, LEFT, RIGHT, TIMES).sample(3, torch.Generator().manual_seed(0)),
        lambda: conditioned_paths(
            FALLING, LEFT, TOP, TIMES, window=1.0, attempts=200, generator=torch.Generator().manual_seed(0)
        ),
        lambda: geometric_action(DOUBLE, LEFT, TOP, 20),
        lambda: curve_of_duration(DOUBLE, LEFT, TOP, 3.0, 20),
        lambda: string(DOUBLE, LEFT, TOP, 10),
        lambda: string(DOUBLE, LEFT, TOP, 10, initial=LEFT + torch.linspace(0, 1, 11)[:, None] * (TOP - LEFT)),
        lambda: quasipotential(DOUBLE, LEFT, BOX, 17),
        lambda: transition_rate(DOUBLE, LEFT, TOP),
        lambda: eyring_kramers(well, 0.5, LEFT, TOP),
        lambda: least_action(SILENT, LEFT, RIGHT, TIMES),
        lambda: least_of_density(lambda x, v, _: (v.square() + RATE * x.square()).sum(1) / 2, BENT[None], TIMES),
        lambda: geometric_action(FALLING, RIGHT, LEFT, 8, initial=BENT.flip(0)),
        lambda: curve_of_duration(UNEVEN, TOP, RIGHT, 1.0, 10),
        lambda: curve_path(UNEVEN, geometric_action(UNEVEN, TOP, RIGHT, 8)),
        lambda: stiff_least_action(FALLING, TOP, RIGHT, 1.0, 8),
        lambda: most_likely_path(FALLING, TOP, RIGHT, None, 9).path,
        lambda: PathReport("falling", most_likely_path(FALLING, TOP, RIGHT, 1.0, 9)).charts(),
    ],
    ids=[
        "FW",
        "OM",
        "initial",
        "shoot",
        "bridge",
        "bridge paths",
        "kept paths",
        "curve",
        "duration",
        "string",
        "string from",
        "grid",
        "rate",
        "closed form",
        "silent",
        "density",
        "curve from",
        "uneven",
        "curve in time",
        "stiff",
        "free duration",
        "charts",
    ],
)
def test_what_is_found_carries_no_gradient(find: Callable[[], object]) -> None:
    assert not any(part.requires_grad for part in tensors(find()))
    assert all(given.grad is None for given in (RATE, LEFT, RIGHT, TOP, TIMES))
