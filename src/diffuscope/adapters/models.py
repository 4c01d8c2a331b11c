"""A model from its name: a denoiser of diffuscope, or of another library.

>>> load_model("diffusers:my/pipeline")                                    # doctest: +SKIP
>>> load_model("edm:my_module:net?data_range=0,1")                         # doctest: +SKIP
>>> load_model("k_diffusion:my_module:wrapper?event_shape=3,32,32")        # doctest: +SKIP
>>> load_model("azula:my_module:denoiser?event_shape=3,32,32")             # doctest: +SKIP
>>> load_model("onnx:model.onnx?schedule=ve&predicts=data&difficulty=0.5") # doctest: +SKIP

Everything else is `diffuscope.denoisers.load_model`'s: a .safetensors file of diffuscope, or `module:object`.
"""

from pathlib import Path
from types import ModuleType

from diffuscope import denoisers
from diffuscope.denoisers import Denoiser
from diffuscope.errors import InputError

from . import azula_models, diffusers_folder, edm_models, k_diffusion_models, onnx_models
from .libraries import read_options
from .model_inputs import conditioned_by

_FILES: dict[str, ModuleType] = {"diffusers": diffusers_folder, "onnx": onnx_models}
_OBJECTS: dict[str, ModuleType] = {"edm": edm_models, "k_diffusion": k_diffusion_models, "azula": azula_models}


def load_model(spec: str | Path) -> Denoiser:
    """The denoiser called `spec`: LIBRARY:NAME?option=value&option=value, a .safetensors file, or module:object.

    `diffusers:FOLDER` and `onnx:FILE` are read; `edm:`, `k_diffusion:` and `azula:` are followed by the module:object
    that builds the model, and importing a module runs it. Options are those of `from_diffusers_folder`, `from_onnx`,
    `from_edm`, `from_k_diffusion` and `from_azula`, and `class=3`, to condition on a class, with
    `guidance=2` toward it.
    Raises InputError for a name of another form, an absent library, an unknown option, and what is no such model.
    """
    library, _, rest = str(spec).partition(":")
    name, _, text = rest.partition("?")
    adapter = _FILES.get(library) or (_OBJECTS.get(library) if ":" in name else None)
    if adapter is None or Path(spec).exists():
        return _own(spec, library)
    if not name:
        raise InputError(f"model: expected {library}:NAME, got {spec!r}")
    options = read_options(text, "model")
    conditioned = conditioned_by(options)
    try:
        denoiser = adapter.load(name, options)
    except InputError as error:  # of an argument of the adapter, which is an option here
        raise error if str(error).startswith("model:") else InputError(f"model: {error}") from error
    return conditioned(denoiser)


def _own(spec: str | Path, library: str) -> Denoiser:
    """A model that is named as diffuscope's own are."""
    try:
        return denoisers.load_model(spec)
    except InputError as error:
        if library in _OBJECTS and ":" in str(spec):
            raise InputError(f"{error}; a model of {library} is named {library}:module:object") from error
        raise
