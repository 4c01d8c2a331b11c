"""The schedule of flow matching on straight lines."""

from dataclasses import dataclass

import torch

from .schedule import Time, Times, UnitTime, as_time


@dataclass(frozen=True)
class RectifiedFlow(UnitTime):
    """Flow matching on straight lines (Liu et al. 2022): alpha = 1 - t, sigma = t, with t from data to noise."""

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
