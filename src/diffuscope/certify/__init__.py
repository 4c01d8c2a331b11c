"""Certificates of samplers and likelihoods, measured on problems with exact solutions."""

from .affine import AffineMap, affine_map, weak_error
from .as_shipped import Shipped
from .as_shipped_certificate import AsShippedCertificate, certify_as_shipped
from .certificate import Certificate
from .certified import Certified, Verdict
from .convergence import strong_order, weak_order
from .flow_maps import certify_flow_map
from .guidance import certify_guidance
from .likelihood import LogDensity, certify_likelihood, likelihood_problems
from .likelihood_certificate import LikelihoodCertificate
from .limit import Limit, limit_of
from .listed import ListedCertificate
from .maintainers import check_likelihood, check_sampler, write_junit
from .order import MeasuredOrder, measured_order
from .problems import (
    OracleProblem,
    finite_data,
    flow,
    mixture,
    oracle_problems,
    ring,
    unequal_gaussian,
    wide_gaussian,
)
from .sampler_questions import Question, certify_sampler, questions
from .target import Run, Target, sampler_target, target_of

certify = certify_sampler

__all__ = [
    "AffineMap", "AsShippedCertificate", "Certificate", "Certified", "LikelihoodCertificate", "Limit",
    "ListedCertificate", "LogDensity", "MeasuredOrder", "OracleProblem", "Question", "Run", "Shipped", "Target",
    "Verdict", "affine_map", "certify", "certify_as_shipped", "certify_flow_map", "certify_guidance",
    "certify_likelihood", "certify_sampler", "check_likelihood", "check_sampler", "finite_data", "flow",
    "likelihood_problems", "limit_of", "measured_order", "mixture", "oracle_problems", "questions", "ring",
    "sampler_target", "strong_order", "target_of", "unequal_gaussian", "weak_error", "weak_order", "wide_gaussian",
    "write_junit",
]  # fmt: skip
