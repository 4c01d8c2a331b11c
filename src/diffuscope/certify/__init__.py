"""Oracle problems with exact solutions, and what a sampler or a likelihood must do on them."""

from diffuscope.certify.affine import AffineMap, affine_map, weak_error
from diffuscope.certify.certificate import Certificate, Question, certify, questions
from diffuscope.certify.convergence import strong_order, weak_order
from diffuscope.certify.likelihood import LogDensity, certify_likelihood, likelihood_problems
from diffuscope.certify.order import MeasuredOrder, measured_order
from diffuscope.certify.own import own_target
from diffuscope.certify.problems import (
    OracleProblem,
    finite_data,
    flow,
    mixture,
    oracle_problems,
    ring,
    unequal_gaussian,
)
from diffuscope.certify.target import Run, Target

__all__ = [
    "AffineMap",
    "Certificate",
    "LogDensity",
    "MeasuredOrder",
    "OracleProblem",
    "Question",
    "Run",
    "Target",
    "affine_map",
    "certify",
    "certify_likelihood",
    "finite_data",
    "flow",
    "likelihood_problems",
    "measured_order",
    "mixture",
    "oracle_problems",
    "own_target",
    "questions",
    "ring",
    "strong_order",
    "unequal_gaussian",
    "weak_error",
    "weak_order",
]
