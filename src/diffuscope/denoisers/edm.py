r"""EDM preconditioning (Karras et al. 2022, table 1) for any schedule, alpha = 0 included.

With data of mean m and standard deviation s per coordinate, and u = x_t - alpha m,

.. math::
    D = m + c_{skip}\, u + c_{out}\, F(c_{in}\, u;\, c_{noise}), \qquad
    c_{skip} = \frac{\alpha s^2}{\alpha^2 s^2 + \sigma^2}, \quad
    c_{out} = \frac{\sigma s}{\sqrt{\alpha^2 s^2 + \sigma^2}}, \quad
    c_{in} = \frac{1}{\sqrt{\alpha^2 s^2 + \sigma^2}}, \quad
    c_{noise} = \tfrac14 \log\frac{\sigma}{\alpha} = -\tfrac{\lambda}{4} .

Input and target of F have unit variance at every t, c_skip minimizes c_out, and F = 0 gives the exact denoiser of
N(m, s^2 I). alpha = 1 and m = 0 give the table of the paper. Networks of this form that were given another label than
c_noise have a `clock`.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from diffuscope.errors import InputError
from diffuscope.schedules import Schedule

from .clocks import Clock, ScheduleTime
from .contract import Batch, BatchTime, over_events
from .predictors import Classes, Network, classes_of, network_output

LARGEST_LAMBDA = 10.0
"""lambda is clamped to [-10, 10] (sigma/alpha from 4.5e-5 to 2.2e4), so that the label is finite at alpha = 0."""


@dataclass(frozen=True, eq=False)
class Preconditioning:
    """The four coefficients at given times, in float64.

    >>> from diffuscope import VE
    >>> from diffuscope.denoisers import preconditioning
    >>> c = preconditioning(VE(), 4.0, sigma_data=3.0)
    >>> round(float(c.c_skip), 6), round(float(c.c_out), 6), round(float(c.c_in), 6)  # s^2 / 25, 4 s / 5, 1 / 5
    (0.36, 2.4, 0.2)
    """

    c_skip: Float[Tensor, "*times"]
    c_out: Float[Tensor, "*times"]
    c_in: Float[Tensor, "*times"]
    c_noise: Float[Tensor, "*times"]


def preconditioning(schedule: Schedule, t: BatchTime, sigma_data: float) -> Preconditioning:
    """The coefficients for data of standard deviation `sigma_data` at time `t`; finite for sigma > 0 or alpha > 0.

    >>> import math
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import preconditioning
    >>> c = preconditioning(RectifiedFlow(), 0.75, sigma_data=4.0)  # alpha s = 1, sigma = 3/4, hence 1 / c_in = 5/4
    >>> round(float(c.c_skip), 6), round(float(c.c_out), 6), math.isclose(c.c_noise, math.log(3) / 4)
    (2.56, 2.4, True)
    """
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    scale = (alpha * sigma_data).hypot(sigma)
    label = -schedule.lam(t).clamp(-LARGEST_LAMBDA, LARGEST_LAMBDA) / 4
    return Preconditioning(alpha * sigma_data**2 / scale**2, sigma * sigma_data / scale, 1 / scale, label)


class Preconditioned(nn.Module):
    """A network F with label c_noise in EDM preconditioning; see the top of this file. With a `clock` its labels.

    Raises InputError unless `sigma_data` > 0.

    >>> import math, torch
    >>> from diffuscope import RectifiedFlow
    >>> from diffuscope.denoisers import Preconditioned
    >>> network = lambda x, label: x + label[:, None]
    >>> model = Preconditioned(network, RectifiedFlow(), 4.0, event_shape=(1,), data_range=(-9.0, 9.0), data_mean=2.0)
    >>> denoised = model(torch.tensor([[5.5]]), 0.75)  # u = 5.5 - 0.25 * 2 = 5, c_noise = log(3) / 4
    >>> round(float(denoised) - 2.4 * math.log(3) / 4, 4)  # 2 + 2.56 * 5 + 2.4 * 0.8 * 5
    24.4
    """

    def __init__(
        self,
        network: Network,
        schedule: Schedule,
        sigma_data: float,
        *,
        event_shape: tuple[int, ...],
        data_range: tuple[float, float],
        data_mean: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        if not sigma_data > 0:
            raise InputError(f"sigma_data: expected the standard deviation of the data, > 0, got {sigma_data}")
        self.network, self.schedule = network, schedule
        self.sigma_data, self.data_mean = sigma_data, data_mean
        self.event_shape, self.data_range = tuple(event_shape), data_range
        self.labels, self.clock = clock, clock or ScheduleTime()  # defined at all times

    @property
    def classes(self) -> int:
        """The number of classes of the network."""
        return classes_of(self.network)

    def forward(self, x_t: Batch, t: BatchTime, y: Classes = None) -> Batch:
        c = preconditioning(self.schedule, t, self.sigma_data)
        centered = x_t - over_events(self.schedule.alpha(t), x_t) * self.data_mean
        label = c.c_noise if self.labels is None else self.labels.label(t)
        output = network_output(self.network, over_events(c.c_in, x_t) * centered, label, self.event_shape, y)
        return self.data_mean + over_events(c.c_skip, x_t) * centered + over_events(c.c_out, x_t) * output
