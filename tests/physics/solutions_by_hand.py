"""A small problem with a solution of stated moments, misfits and calibration."""

from typing import Any

import torch

from diffuscope.physics import PROBLEMS
from diffuscope.physics.prior_fields import Prior
from diffuscope.physics.sensors import Sensors
from diffuscope.physics.solution import Solution
from diffuscope.physics.solution_moments import LEVELS, Calibration, Moments
from numbers_in_tests import double

LINE = PROBLEMS["poisson-1d"](5)
SENSORS = Sensors(points=double(0.5)[:, None], channels=torch.tensor([1]), values=double(1.0), noise=double(0.1))
FLAT = Prior(name="p", words="p", fields=torch.ones(4, 2, 5, dtype=torch.float64))
SD = torch.tensor([[0.0, 1.0, 1.0, 1.0, 0.0], [0.0, 2.0, 4.0, 2.0, 0.0]], dtype=torch.float64)


def solution(below: int = 50, count: int = 99, coverage: float = 0.9, error: float = 0.01, **given: Any) -> Solution:
    """`below` of `count` simulated readings are less probable than these; two channels with the same coverage."""
    evidence = torch.cat([torch.full((below,), -1.0), torch.ones(count - below)]).double()
    k = LEVELS.index(0.9)
    shares, errors = torch.zeros(2, len(LEVELS)).double(), torch.zeros(2, len(LEVELS)).double()
    shares[:, k], errors[:, k] = coverage, error
    calibration = Calibration(truths=count, coverage=shares, error=errors, log_evidence=evidence, noticed=0.6)
    low, high = -SD, 3 * SD
    prepared: dict[str, Any] = {
        "moments": Moments(mean=SD, sd=SD, low=low, high=high), "prior_sd": 2 * SD, "calibration": calibration,
        "log_evidence": 0.0, "effective": 30.0, "misfit": double(0.5, 1.5), "residual": double(1e-9, 3e-9),
    }  # fmt: skip
    prepared |= {"problem": LINE, "sensors": SENSORS, "prior": FLAT, "truth": None, "seed": 0}
    prepared |= {"samples": torch.ones(2, 2, 5).double()}
    return Solution(**(prepared | given))
