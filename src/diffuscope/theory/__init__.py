"""What theory says of training: the exact learning curves of linear denoisers and what they generate."""

from diffuscope.theory.affine_learning import AffineLearning, AffineMap
from diffuscope.theory.emergence import PowerLaw, emergence_times, fit_power_law
from diffuscope.theory.generated_variance import (
    learned_variance,
    one_layer_generated_variance,
    two_layer_generated_variance,
)
from diffuscope.theory.learning_curves import (
    one_layer_descent,
    one_layer_flow,
    optimal_weights,
    two_layer_descent,
    two_layer_flow,
)
from diffuscope.theory.moment_batch import moment_batch

__all__ = [
    "AffineLearning",
    "AffineMap",
    "PowerLaw",
    "emergence_times",
    "fit_power_law",
    "learned_variance",
    "moment_batch",
    "one_layer_descent",
    "one_layer_flow",
    "one_layer_generated_variance",
    "optimal_weights",
    "two_layer_descent",
    "two_layer_flow",
    "two_layer_generated_variance",
]
