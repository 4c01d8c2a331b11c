"""diffuscope: ground truth for diffusion models.

>>> import diffuscope
>>> moons = diffuscope.ExactDenoiser(diffuscope.two_moons(), diffuscope.VE())
>>> diffuscope.generate(moons, 100, event_shape=(2,)).shape
torch.Size([100, 2])

A name here is a subpackage, or what most people need of one; each is imported when it is first read.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what a type checker sees of the names below
    from diffuscope.audit import audit_model
    from diffuscope.certify import certify_likelihood, certify_sampler
    from diffuscope.data import load_data
    from diffuscope.denoisers import Denoiser, ExactDenoiser, load_model
    from diffuscope.errors import InputError
    from diffuscope.exact import Empirical, Gaussian, GaussianMixture, two_moons
    from diffuscope.experiments import reproduce
    from diffuscope.samplers import DDIM, DPMSolverPP2M, Heun, generate, teleport
    from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow
    from diffuscope.training import train_denoiser

__version__ = "0.1.0"

_SUBPACKAGES = (
    "adapters",
    "audit",
    "certify",
    "data",
    "denoisers",
    "densities",
    "exact",
    "experiments",
    "findings",
    "report",
    "samplers",
    "schedules",
    "theory",
    "times",
    "training",
)
_HOMES = {
    "audit_model": "audit",
    "certify_likelihood": "certify",
    "certify_sampler": "certify",
    "Denoiser": "denoisers",
    "ExactDenoiser": "denoisers",
    "load_model": "denoisers",
    "load_data": "data",
    "Empirical": "exact",
    "Gaussian": "exact",
    "GaussianMixture": "exact",
    "two_moons": "exact",
    "reproduce": "experiments",
    "DDIM": "samplers",
    "DPMSolverPP2M": "samplers",
    "Heun": "samplers",
    "generate": "samplers",
    "teleport": "samplers",
    "Cosine": "schedules",
    "RectifiedFlow": "schedules",
    "VE": "schedules",
    "VP": "schedules",
    "InputError": "errors",
    "train_denoiser": "training",
}
__all__ = ["__version__", *_SUBPACKAGES, *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
