"""How good a posterior sampler is, where the posterior is known."""

from .case import Case, Score, resampled
from .finite_set import darcy_cases, finite_case
from .gaussian import gaussian_case, poisson_cases
from .methods import METHODS, Entry, Method
from .page import grading_json, grading_page
from .run import FAMILIES, Row, Settings, grade
from .scores import Grader, Pooled, pooled

__all__ = [
    "FAMILIES", "METHODS", "Case", "Entry", "Grader", "Method", "Pooled", "Row", "Score", "Settings", "darcy_cases",
    "finite_case", "gaussian_case", "grade", "grading_json", "grading_page", "poisson_cases", "pooled", "resampled",
]  # fmt: skip
