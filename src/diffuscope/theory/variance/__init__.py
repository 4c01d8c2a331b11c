"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .closure import ClosureReport, Cumulant, Distance, closure_report, cumulants
from .decompose import AveragedFields, Decomposition, decompose
from .effective import Steps, effective_white_sample, quenched_sample
from .ensemble import Ensemble, Jackknifed, split_variance
from .feature_moments import FeatureMoments, feature_moments
from .features import Affine, Axis, Bins, Constant, Features, Fourier, GaussianBumps, Products
from .field_runs import FieldRuns, matched_gaussian, run_fields
from .kernel_flow import Contributions, KernelFields, KernelFlow
from .kernels import FeatureKernel, Kernel, RBFKernel
from .linear_ensemble import LinearEnsemble, ridge_regression, train_linear
from .linear_features import LinearFeatures, linear_features
from .member_ends import MemberEnds, member_ends
from .naive import Naive, gaussian_variance, interleaved_sample
from .noise import Amplitude, Quenched, ScoreFields, White
from .population import Population, Slice
from .proxy import ProxyCovariance, ProxyScore
from .semiclassical import Semiclassical, semiclassical_quenched, semiclassical_white

__all__ = [
    "Affine", "Amplitude", "AveragedFields", "Axis", "Bins", "ClosureReport", "Constant", "Contributions", "Cumulant",
    "Decomposition", "Distance", "Ensemble", "FeatureKernel", "FeatureMoments", "Features", "FieldRuns", "Fourier",
    "GaussianBumps", "Jackknifed", "Kernel", "KernelFields", "KernelFlow", "LinearEnsemble", "LinearFeatures",
    "MemberEnds", "Naive", "Population", "Products", "ProxyCovariance", "ProxyScore", "Quenched", "RBFKernel",
    "ScoreFields", "Semiclassical", "Slice", "Steps", "White", "closure_report", "cumulants",
    "decompose", "effective_white_sample", "feature_moments", "gaussian_variance", "interleaved_sample", "linear_features", "matched_gaussian", "member_ends", "quenched_sample", "ridge_regression",
    "run_fields", "semiclassical_quenched", "semiclassical_white", "split_variance", "train_linear",
]  # fmt: skip
