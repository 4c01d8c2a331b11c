"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .closure import ClosureReport, closure_report
from .decompose import AveragedFields, Decomposition, decompose
from .effective import effective_white_sample, quenched_sample
from .ensemble import Ensemble, Jackknifed, split_variance
from .features import Affine, Axis, Bins, Constant, Features, Fourier, GaussianBumps, Products
from .field_runs import FieldRuns, matched_gaussian, run_fields
from .kernel_flow import Contributions, KernelFlow
from .kernels import FeatureKernel, Kernel, RBFKernel
from .linear_ensemble import LinearEnsemble, train_linear
from .linear_features import LinearFeatures, linear_features
from .member_ends import MemberEnds, member_ends
from .naive import Naive, interleaved_sample
from .noise import Amplitude, Quenched, ScoreFields, White
from .population import Population
from .proxy import ProxyCovariance, ProxyScore
from .semiclassical import Semiclassical, semiclassical_quenched, semiclassical_white

__all__ = [
    "Affine", "Amplitude", "AveragedFields", "Axis", "Bins", "ClosureReport", "Constant", "Contributions",
    "Decomposition", "Ensemble", "FeatureKernel", "Features", "FieldRuns", "Fourier", "GaussianBumps", "Jackknifed",
    "Kernel", "KernelFlow", "LinearEnsemble", "LinearFeatures", "MemberEnds", "Naive", "Population", "Products",
    "ProxyCovariance", "ProxyScore", "Quenched", "RBFKernel", "ScoreFields", "Semiclassical", "White", "closure_report",
    "decompose", "effective_white_sample", "interleaved_sample", "linear_features", "matched_gaussian", "member_ends",
    "quenched_sample", "run_fields", "semiclassical_quenched", "semiclassical_white", "split_variance", "train_linear",
]  # fmt: skip
