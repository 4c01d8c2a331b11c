r"""Consistency models of diffusers, maps to the end of a trajectory that declare `one_step = True`.

.. math::
    \text{CMStochasticIterativeScheduler: } & f = c_{skip} x + c_{out} F(c_{in} x, 250 \log\sigma), \quad
    c_{skip} = \frac{s^2}{(\sigma - \sigma_{min})^2 + s^2}, \quad
    c_{out} = (\sigma - \sigma_{min})\, s\, c_{in}, \quad c_{in} = \frac{1}{\sqrt{\sigma^2 + s^2}} \\
    \text{LCMScheduler: } & f = c_{skip} x + c_{out} D, \quad c_{skip} = \frac{1/4}{r^2 + 1/4}, \quad
    c_{out} = \frac{r}{\sqrt{r^2 + 1/4}}, \quad r = 10\, k,

with s = sigma_data, D what the network's prediction says of x_0 at step k = 0 .. T - 1 of the table, and 10 the
scheduler's timestep_scaling. Both are the identity at their lowest level. Clipping is the pipeline's.

Sources: Song et al. 2023 (arXiv:2303.01469), appendix C; Luo et al. 2023 (arXiv:2310.04378).
"""

from typing import Any

from torch import Tensor, nn

from diffuscope.denoisers import Batch, BatchTime, Classes, Network, classes_of, over_events
from diffuscope.denoisers.predictors import network_output
from diffuscope.schedules import VE, as_time

SCHEDULERS = ("CMStochasticIterativeScheduler", "LCMScheduler")
SIGMA_DATA = 0.5  # of latent consistency models, fixed there


class ConsistencyMap(nn.Module):
    """f(x, sigma) of a CMStochasticIterativeScheduler's network, over the levels sigma_min .. sigma_max."""

    one_step = True

    def __init__(
        self,
        network: Network,
        schedule: VE,
        sigma_data: float,
        *,
        event_shape: tuple[int, ...],
        data_range: tuple[float, float],
        clock: None = None,  # noqa: ARG002, as other predictors are made
    ) -> None:
        super().__init__()
        self.network, self.schedule, self.sigma_data = network, schedule, sigma_data
        self.event_shape, self.data_range = tuple(event_shape), data_range

    @property
    def classes(self) -> int:
        """The number of classes of the network."""
        return classes_of(self.network)

    def forward(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        sigma, s = self.schedule.sigma(as_time(t)), self.sigma_data
        above, scale = sigma - float(self.schedule.sigma(self.schedule.t_min)), sigma.hypot(as_time(s))
        inner = over_events(1 / scale, x_t) * x_t
        output = network_output(self.network, inner, 250 * sigma.log(), self.event_shape, y)
        return over_events(s**2 / (above**2 + s**2), x_t) * x_t + over_events(above * s / scale, x_t) * output


class LatentConsistencyMap(nn.Module):
    """f(x, k) of an LCMScheduler's network, whose prediction `denoised` turns into x_0."""

    one_step = True

    def __init__(self, denoised: Any, timestep_scaling: float) -> None:
        super().__init__()
        self.denoised, self.timestep_scaling = denoised, timestep_scaling
        self.schedule, self.clock = denoised.schedule, denoised.clock
        self.event_shape, self.data_range = denoised.event_shape, denoised.data_range

    @property
    def classes(self) -> int:
        """The number of classes of the network."""
        return self.denoised.classes

    def forward(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        r: Tensor = self.timestep_scaling * self.clock.label(t).double()
        c_skip, c_out = SIGMA_DATA**2 / (r**2 + SIGMA_DATA**2), r / (r**2 + SIGMA_DATA**2).sqrt()
        return over_events(c_out, x_t) * self.denoised(x_t, t, y) + over_events(c_skip, x_t) * x_t
