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
    from diffuscope.adapters import load_model
    from diffuscope.audit import SampleMetrics, audit_model, audit_samples
    from diffuscope.certify import certify_likelihood, certify_sampler
    from diffuscope.citations import citation
    from diffuscope.data import data_statistics, load_data
    from diffuscope.denoisers import Denoiser, ExactDenoiser
    from diffuscope.errors import InputError
    from diffuscope.exact import Empirical, Gaussian, GaussianMixture, two_moons
    from diffuscope.experiments import reproduce
    from diffuscope.samplers import DDIM, DPMSolverPP2M, Heun, generate, teleport
    from diffuscope.schedules import VE, VP, Cosine, RectifiedFlow
    from diffuscope.training import train_denoiser

__version__ = "0.1.0"

_HOMES = {
    "adapters": ("load_model",),
    "audit": ("SampleMetrics", "audit_model", "audit_samples"),
    "certify": ("certify_likelihood", "certify_sampler"),
    "citations": ("citation",),
    "data": ("data_statistics", "load_data"),
    "denoisers": ("Denoiser", "ExactDenoiser"),
    "errors": ("InputError",),
    "exact": ("Empirical", "Gaussian", "GaussianMixture", "two_moons"),
    "experiments": ("reproduce",),
    "samplers": ("DDIM", "DPMSolverPP2M", "Heun", "generate", "teleport"),
    "schedules": ("VE", "VP", "Cosine", "RectifiedFlow"),
    "training": ("train_denoiser",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}
_FILES = {"citations", "errors"}
_SUBPACKAGES = ("densities", "findings", "monitor", "physics", "report", "theory", "times", *(set(_HOMES) - _FILES))
__all__ = [
    "DDIM", "VE", "VP", "Cosine", "DPMSolverPP2M", "Denoiser", "Empirical", "ExactDenoiser", "Gaussian",
    "GaussianMixture", "Heun", "InputError", "RectifiedFlow", "SampleMetrics", "__version__", "audit_model",
    "audit_samples", "certify_likelihood", "certify_sampler", "citation", "data_statistics", "generate", "load_data",
    "load_model", "reproduce", "teleport", "train_denoiser", "two_moons",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _SUBPACKAGES:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted((*__all__, *_SUBPACKAGES))
