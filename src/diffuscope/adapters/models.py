"""A model from its name: a denoiser of diffuscope, or of another library.

>>> load_model("diffusers:my/pipeline")                                    # doctest: +SKIP
>>> load_model("edm:my_module:net?data_range=0,1")                         # doctest: +SKIP
>>> load_model("k_diffusion:my_module:wrapper?event_shape=3,32,32")        # doctest: +SKIP
>>> load_model("azula:my_module:denoiser?event_shape=3,32,32")             # doctest: +SKIP
>>> load_model("onnx:model.onnx?schedule=ve&predicts=data&difficulty=0.5") # doctest: +SKIP

Everything else is `diffuscope.denoisers.load_model`'s: a .safetensors file of diffuscope, or `module:object`. The
weights of what a `module:object` builds may be in a file of their own; any model with classes may be asked of one:

>>> load_model("my_module:denoiser", weights="net.ckpt", weights_prefix="ema") # doctest: +SKIP
>>> load_model("edm:my_module:Net?weights=net.pt")                             # doctest: +SKIP
>>> load_model("model.safetensors?class=3&guidance=2")                         # doctest: +SKIP
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from diffuscope import denoisers
from diffuscope.denoisers import Denoiser, given_weights
from diffuscope.errors import InputError
from diffuscope.files import is_there

from . import azula_models, diffusers_folder, edm_models, k_diffusion_models, onnx_models
from .libraries import read_options
from .model_inputs import conditioned_by

_FILES: dict[str, ModuleType] = {"diffusers": diffusers_folder, "onnx": onnx_models}
_OBJECTS: dict[str, ModuleType] = {"edm": edm_models, "k_diffusion": k_diffusion_models, "azula": azula_models}


def load_model(spec: str | Path, *, weights: str | Path | None = None, weights_prefix: str | None = None) -> Denoiser:
    """The denoiser called `spec`: LIBRARY:NAME?option=value&option=value, a .safetensors file, or module:object.

    `diffusers:FOLDER` and `onnx:FILE` are read; `edm:`, `k_diffusion:` and `azula:` are followed by the module:object
    that builds the model, and importing a module runs it. Options are those of `from_diffusers_folder`, `from_onnx`,
    `from_edm`, `from_k_diffusion` and `from_azula`, and for every model `class=3`, to condition on a class, with
    `guidance=2` toward it. `weights` and `weights_prefix`, or `weights=FILE&prefix=P` among the options, are the
    weights of what a module:object builds.

    Raises InputError for a name of another form, an absent library, an unknown option, what is no such model, and for
    weights that do not fit.

    >>> from pathlib import Path
    >>> import torch
    >>> from diffuscope.adapters import load_model
    >>> from diffuscope.denoisers import save_denoiser
    >>> from diffuscope.training import new_denoiser
    >>> data = torch.tensor([[1.0, 5.0], [5.0, 1.0]])  # mean 3, variance 16 / 3
    >>> save_denoiser(new_denoiser(data, (1.0, 5.0), seed=0), Path("untrained.safetensors"))
    >>> denoised = load_model("untrained.safetensors")(torch.tensor([[7.0, 4.0]]), torch.tensor([2.0]))
    >>> [round(value, 4) for value in denoised[0].tolist()]  # 3 + (x_t - 3) (16/3) / (16/3 + 2^2)
    [5.2857, 3.5714]
    """
    library, _, rest = str(spec).partition(":")
    name, _, text = rest.partition("?")
    adapter = _FILES.get(library) or (_OBJECTS.get(library) if ":" in name else None)
    if adapter is None or is_there(spec):
        return _own(spec, library, weights, weights_prefix)
    if not name:
        raise InputError(f"model: expected {library}:NAME, got {spec!r}")
    with _named_with(weights):
        given, text = given_weights(text, weights, weights_prefix)
        if given is not None and library in _FILES:
            what = "an ONNX file" if library == "onnx" else "the folder of a pipeline"
            raise InputError(f"weights: belong to module:object, which builds a network; {what} holds its own")
    options = read_options(text, "model")
    conditioned = conditioned_by(options)
    with _named_with(weights, every=True):  # an argument of the adapter is an option here
        denoiser = adapter.load(name, options) if given is None else adapter.load(name, options, given)
    return conditioned(denoiser)


def _own(spec: str | Path, library: str, weights: str | Path | None, weights_prefix: str | None) -> Denoiser:
    """A model that is named as diffuscope's own are."""
    spec, conditioned = _without_class(spec)
    try:
        with _named_with(weights):
            denoiser = denoisers.load_model(spec, weights=weights, weights_prefix=weights_prefix)
    except InputError as error:
        if library in _OBJECTS and ":" in str(spec):
            raise InputError(f"{error}; a model of {library} is named {library}:module:object") from error
        raise
    return conditioned(denoiser)


def _without_class(spec: str | Path) -> tuple[str | Path, Callable[[Denoiser], Denoiser]]:
    """The name without `class` and `guidance`, and what they make of the model; a file may have them in its name."""
    name, mark, text = str(spec).partition("?")
    parts = [] if is_there(spec) else text.split("&")
    own = [part for part in parts if part.partition("=")[0] in ("class", "guidance")]
    conditioned = conditioned_by(read_options("&".join(own), "model"))
    if not own:
        return spec, conditioned
    rest = "&".join(part for part in parts if part not in own)
    return f"{name}{mark if rest else ''}{rest}", conditioned


@contextmanager
def _named_with(weights: str | Path | None, *, every: bool = False) -> Iterator[None]:
    """An InputError about weights that are options of the name is one about "model"; so is `every` other one."""
    try:
        yield
    except InputError as error:
        about = str(error).partition(":")[0]
        of_weights = about in ("weights", "weights_prefix")
        if about == "model" or (of_weights and weights is not None) or not (of_weights or every):
            raise
        raise InputError(f"model: {error}") from error
