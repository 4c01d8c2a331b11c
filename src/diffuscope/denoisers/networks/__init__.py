"""Small networks that train in minutes on two cores."""

from .embedding import LabelEmbedding
from .linear import LevelTable, LinearDenoiser, SymmetricLinearDenoiser
from .mlp import MLP
from .seeding import seeded
from .unet import UNet

__all__ = ["MLP", "LabelEmbedding", "LevelTable", "LinearDenoiser", "SymmetricLinearDenoiser", "UNet", "seeded"]
