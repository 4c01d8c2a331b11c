"""Theory: exact learning curves of linear denoisers and what these generate; `geometry`, of generation."""

from .affine_learning import AffineLearning, AffineMap
from .emergence import PowerLaw, emergence_times, fit_power_law
from .exact_batches import moment_batch
from .generated_variance import learned_variance, one_layer_generated_variance, two_layer_generated_variance
from .learning_curves import one_layer_descent, one_layer_flow, optimal_weights, two_layer_descent, two_layer_flow

__all__ = [
    "AffineLearning", "AffineMap", "PowerLaw", "emergence_times", "fit_power_law", "learned_variance", "moment_batch",
    "one_layer_descent", "one_layer_flow", "one_layer_generated_variance", "optimal_weights", "two_layer_descent",
    "two_layer_flow", "two_layer_generated_variance",
]  # fmt: skip
