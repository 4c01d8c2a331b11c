"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .effective import effective_white_sample, quenched_sample
from .ensemble import Ensemble, Jackknifed, split_variance
from .kernel_flow import Contributions, KernelFields, KernelFlow
from .kernels import FeatureKernel, Kernel, RBFKernel, TrainingInputs, inputs_at, inputs_over
from .member_ends import MemberEnds, member_ends
from .naive import Naive, gaussian_variance, interleaved_sample
from .noise import Amplitude, Quenched, ScoreFields, White
from .proxy import ProxyCovariance, ProxyScore
from .semiclassical import Semiclassical, semiclassical_quenched, semiclassical_white

__all__ = [
    "Amplitude", "Contributions", "Ensemble", "FeatureKernel", "Jackknifed", "Kernel", "KernelFields", "KernelFlow",
    "MemberEnds", "Naive", "ProxyCovariance", "ProxyScore", "Quenched", "RBFKernel", "ScoreFields", "Semiclassical",
    "TrainingInputs", "White", "effective_white_sample", "gaussian_variance", "inputs_at", "inputs_over",
    "interleaved_sample", "member_ends", "quenched_sample", "semiclassical_quenched", "semiclassical_white",
    "split_variance",
]  # fmt: skip
