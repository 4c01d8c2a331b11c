"""Theory: learning curves of linear denoisers, how networks compare with analytic ones; `geometry`, of generation."""

from .affine_learning import AffineLearning, AffineMap
from .candidates import analytic_candidates, mixture_map, mixtures_of
from .emergence import PowerLaw, emergence_times, fit_power_law
from .exact_batches import moment_batch
from .generated_variance import learned_variance, one_layer_generated_variance, two_layer_generated_variance
from .learning_curves import one_layer_descent, one_layer_flow, optimal_weights, two_layer_descent, two_layer_flow
from .memorization_onset import checkpoints, copied, copies_surely, onset
from .network_agreement import Agreement, agreement, compared
from .onset_forecast import NoForecast, OnsetForecast, forecast_onset
from .trajectory_distances import TrajectoryGaps, trajectory_gaps

__all__ = [
    "AffineLearning", "AffineMap", "Agreement", "NoForecast", "OnsetForecast", "PowerLaw", "TrajectoryGaps",
    "agreement", "analytic_candidates", "checkpoints", "compared", "copied", "copies_surely", "emergence_times",
    "fit_power_law", "forecast_onset", "learned_variance", "mixture_map", "mixtures_of", "moment_batch",
    "one_layer_descent", "one_layer_flow", "one_layer_generated_variance", "onset", "optimal_weights",
    "trajectory_gaps", "two_layer_descent", "two_layer_flow", "two_layer_generated_variance",
]  # fmt: skip
