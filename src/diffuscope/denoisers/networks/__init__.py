"""Small networks that train in minutes on two cores."""

from diffuscope.denoisers.networks.embedding import LabelEmbedding
from diffuscope.denoisers.networks.linear import LevelTable, LinearDenoiser, SymmetricLinearDenoiser
from diffuscope.denoisers.networks.mlp import MLP
from diffuscope.denoisers.networks.seeded import seeded
from diffuscope.denoisers.networks.unet import UNet

__all__ = ["MLP", "LabelEmbedding", "LevelTable", "LinearDenoiser", "SymmetricLinearDenoiser", "UNet", "seeded"]
