"""Certificates of samplers and likelihoods, measured on problems with exact solutions."""

from .affine import AffineMap, affine_map, weak_error
from .certificate import Certificate
from .certified import Certified, Verdict
from .convergence import strong_order, weak_order
from .likelihood import LogDensity, certify_likelihood, likelihood_problems
from .likelihood_certificate import LikelihoodCertificate
from .order import MeasuredOrder, measured_order
from .problems import OracleProblem, finite_data, flow, mixture, oracle_problems, ring, unequal_gaussian
from .sampler_questions import Question, certify_sampler, questions
from .target import Run, Target, sampler_target

__all__ = [
    "AffineMap", "Certificate", "Certified", "LikelihoodCertificate", "LogDensity", "MeasuredOrder", "OracleProblem", "Question",
    "Run", "Target", "Verdict", "affine_map", "certify_likelihood", "certify_sampler", "finite_data", "flow",
    "likelihood_problems", "measured_order", "mixture", "oracle_problems", "questions", "ring", "sampler_target",
    "strong_order", "unequal_gaussian", "weak_error", "weak_order",
]  # fmt: skip
