"""To be removed: the one published network whose checkpoints an experiment still reads through `load_denoiser`.

The networks themselves are `docs/examples/published_networks`.
"""

from .noise_cnn import NoiseCNN, noise_cnn, without_training_record

__all__ = ["NoiseCNN", "noise_cnn", "without_training_record"]
