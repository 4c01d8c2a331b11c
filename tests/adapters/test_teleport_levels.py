"""The jump for samplers that take a state and its noise levels."""

import importlib.util
import math

import pytest
import torch
from peer_networks import five_points

from diffuscope.adapters import k_diffusion, teleport_levels
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import Heun, sample
from diffuscope.schedules import VE
from diffuscope.times import karras_times

ISOTROPIC = Gaussian.isotropic(torch.full((4,), 0.4, dtype=torch.float64), 0.3)
MIXTURE = five_points()
LEVELS = torch.cat([karras_times(VE(), 80.0, 0.02, 17), torch.zeros(1, dtype=torch.float64)])


def start(rows: int = 32) -> torch.Tensor:
    return 80 * torch.randn(rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_the_state_is_the_end_of_the_flow_at_the_nearest_level():
    """Isotropic data in closed form: the distance from the mean shrinks as the noised standard deviation."""
    x, jump = start(), teleport_levels(start(), LEVELS, ISOTROPIC, noise_to_signal=5.0)
    nearest = int((LEVELS[:-1].log() - math.log(5.0)).abs().argmin())
    assert jump.steps_saved == nearest
    assert torch.equal(jump.sigmas, LEVELS[nearest:])
    gain = ((0.3 + LEVELS[nearest] ** 2) / (0.3 + 80.0**2)).sqrt()
    assert float((jump.x - (0.4 + gain * (x - 0.4))).abs().max()) < 1e-12
    single = teleport_levels(x.float(), LEVELS.float(), ISOTROPIC, noise_to_signal=5)
    assert single.x.dtype == single.sigmas.dtype == torch.float32


def test_the_tail_of_edm_levels_is_the_list_of_edm_levels_from_there():
    """`sigma_max=sigmas[0]` and the remaining number of steps give EDM the same levels."""
    jump = teleport_levels(start(), LEVELS, ISOTROPIC, noise_to_signal=5.0)
    rest = karras_times(VE(), float(jump.sigmas[0]), 0.02, len(jump.sigmas) - 2)
    assert float((rest - jump.sigmas[:-1]).abs().max()) < 1e-12


@pytest.mark.skipif(importlib.util.find_spec("k_diffusion") is None, reason="no k-diffusion")
def test_k_diffusion_ends_as_near_to_the_flow_in_fewer_steps():
    """sample_dpmpp_2m on the levels that remain, against the flow of the same exact model."""
    model = lambda x, sigma: MIXTURE.denoise(x, 1.0, sigma)  # noqa: E731
    flow = sample(Heun(), Exact(), start(), torch.cat([karras_times(VE(), 80.0, 0.002, 200), LEVELS[-1:]]))
    jump = teleport_levels(start(), LEVELS, MIXTURE.as_gaussian(), noise_to_signal=8.0)
    ends = [
        k_diffusion.sampling().sample_dpmpp_2m(model, x, sigmas, disable=True)
        for x, sigmas in ((start(), LEVELS), (jump.x, jump.sigmas))
    ]
    without, with_jump = ((end - flow).norm(dim=1) for end in ends)
    assert jump.steps_saved >= 6
    change = with_jump - without
    assert float(change.mean()) < 2 * float(change.std()) / len(change) ** 0.5


class Exact:
    schedule = VE()

    def __call__(self, x_t, t):
        return MIXTURE.denoise(x_t, 1.0, t)


@pytest.mark.parametrize(
    ("level", "sigmas", "line"),
    [
        (100.0, LEVELS, r"noise_to_signal: expected a level of sigmas, sigma/alpha in 0.02 .. 80, got 100"),
        (0.001, LEVELS, "got 0.001"),
        (math.nan, LEVELS, "got nan"),
        (5.0, LEVELS.flip(0), "sigmas: expected at least two decreasing noise levels >= 0, got"),
        (5.0, LEVELS[:1], "sigmas: expected at least two decreasing"),
        (5.0, LEVELS[:1].repeat(2), "sigmas: expected at least two decreasing"),
    ],
)
def test_what_is_no_level_of_the_list_is_one_line(level: float, sigmas: torch.Tensor, line: str):
    with pytest.raises(InputError, match=line) as caught:
        teleport_levels(start(), sigmas, ISOTROPIC, noise_to_signal=level)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match=r"x_t: expected shape \(batch, 4\), got \(2, 3\)"):
        teleport_levels(torch.zeros(2, 3), LEVELS, ISOTROPIC, noise_to_signal=5.0)
