"""Generalization through variance: the noise of a learned score, and the samples that it makes."""

from .kernel_flow import Contributions, KernelFields, KernelFlow
from .kernels import FeatureKernel, Kernel, RBFKernel, TrainingInputs, inputs_at, inputs_over
from .noise import Amplitude, Quenched, ScoreFields, White

__all__ = [
    "Amplitude", "Contributions", "FeatureKernel", "Kernel", "KernelFields", "KernelFlow", "Quenched", "RBFKernel",
    "ScoreFields", "TrainingInputs", "White", "inputs_at", "inputs_over",
]  # fmt: skip
