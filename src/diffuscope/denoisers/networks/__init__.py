"""Small networks that train in minutes on two cores."""

from diffuscope.denoisers.networks.embedding import LabelEmbedding
from diffuscope.denoisers.networks.mlp import MLP
from diffuscope.denoisers.networks.unet import UNet

__all__ = ["MLP", "LabelEmbedding", "UNet"]
