"""The schedule of flow matching on straight lines."""

from dataclasses import dataclass

import torch

from .schedule import Time, Times, UnitTime, as_time


@dataclass(frozen=True)
class RectifiedFlow(UnitTime):
    """Flow matching on straight lines (Liu et al. 2022): alpha = 1 - t, sigma = t, with t from data to noise.

    Raises InputError unless 0 <= epsilon < 1.

    >>> from diffuscope.schedules import RectifiedFlow
    >>> flow = RectifiedFlow()
    >>> float(flow.alpha(0.25)), float(flow.sigma(0.25))
    (0.75, 0.25)
    >>> round(float(flow.g_squared(0.25)), 6), round(float(flow.time_of_noise_to_signal(1 / 3)), 6)  # 2 t / (1 - t), t
    (0.666667, 0.25)
    """

    epsilon: float = 1e-3

    def alpha(self, t: Time) -> Times:
        return 1 - as_time(t)

    def sigma(self, t: Time) -> Times:
        return as_time(t)

    def alpha_dot(self, t: Time) -> Times:
        return -torch.ones_like(as_time(t))

    def sigma_dot(self, t: Time) -> Times:
        return torch.ones_like(as_time(t))

    def time_of_lambda(self, lam: Time) -> Times:
        return torch.sigmoid(-as_time(lam))
