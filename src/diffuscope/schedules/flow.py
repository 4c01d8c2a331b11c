"""The schedule of flow matching on straight lines."""

from dataclasses import dataclass

import torch

from .schedule import Schedule, Time, Times, as_time


@dataclass(frozen=True)
class RectifiedFlow(Schedule):
    """Flow matching on straight lines (Liu et al. 2022): alpha = 1 - t, sigma = t, t from data to noise."""

    epsilon: float = 1e-3

    @property
    def t_min(self) -> float:
        return self.epsilon

    @property
    def t_max(self) -> float:
        return 1.0

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
