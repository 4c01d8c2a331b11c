"""A saved diffusers pipeline, `diffusers:FOLDER`: its network and its scheduler, from safetensors, without a network.

Read are `model_index.json`, the folder of the network (`unet` or `transformer`) and that of the scheduler. Nothing is
fetched, no code of the folder is run and no pickle is loaded: classes are those of the installed diffusers, weights are
safetensors, and every weight must be in them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffuscope.errors import InputError
from diffuscope.files import is_there

from .diffusers import quietly
from .diffusers_models import from_diffusers
from .libraries import Options, library
from .model_inputs import USUAL_RANGE, Range, Shape, settings_of

NETWORKS = ("unet", "transformer")
ENCODERS = {"vae", "vqvae", "vqgan", "movq"}


def load(name: str, options: Options) -> Any:
    """The denoiser of the folder `name` with `options` of `from_diffusers_folder`."""
    return from_diffusers_folder(name, **settings_of(from_diffusers_folder, options, f"diffusers:{name}"))


def from_diffusers_folder(
    folder: str | Path,
    *,
    event_shape: Shape = None,
    data_range: Range | str = "auto",
    null_class: int | None = None,
    condition: Mapping[str, Any] | None = None,
) -> Any:
    """The denoiser of the pipeline that `save_pretrained` wrote to `folder`; arguments as those of `from_diffusers`.

    The data range is [-1, 1] in pixel space. A pipeline with an autoencoder is a denoiser of latents, without a range.
    Raises InputError for anything that is no such folder, and for pickles.

    >>> from diffuscope.adapters import from_diffusers_folder
    >>> from_diffusers_folder("nowhere")
    Traceback (most recent call last):
    diffuscope.errors.InputError: model: no folder nowhere; expected a pipeline's local folder (nothing is downloaded)
    """
    folder = Path(folder)
    index = _index(folder)
    diffusers = library("diffusers", "diffusers", "model")
    network = next((part for part in NETWORKS if part in index), None)
    if network is None or "scheduler" not in index:
        raise InputError(
            f"model: {folder.name} has no unet or transformer with a scheduler; its model_index.json names "
            f"{', '.join(index) or 'nothing'}"
        )
    if "text_encoder" in index and condition is None:
        raise InputError(
            f"model: the network of {folder.name} takes text embeddings; expected from_diffusers_folder(folder, "
            "condition={'encoder_hidden_states': ...}) in Python"
        )
    made = _network(diffusers, folder, network, index[network])
    scheduler = _loaded(_class(diffusers, folder, "scheduler", index["scheduler"]), folder, "scheduler")
    if data_range == "auto":
        data_range = None if ENCODERS & index.keys() else USUAL_RANGE
    return from_diffusers(
        made,
        scheduler,
        event_shape=event_shape,
        data_range=data_range,  # type: ignore[arg-type]
        null_class=null_class,
        condition=condition,
    )


def _index(folder: Path) -> dict[str, Any]:
    """The components of a pipeline, by its model_index.json."""
    path = folder / "model_index.json"
    if not (is_there(folder) and folder.is_dir()):
        raise InputError(f"model: no folder {folder}; expected a pipeline's local folder (nothing is downloaded)")
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"model: {folder} has no model_index.json; expected a saved diffusers pipeline") from error
    except ValueError as error:
        raise InputError(f"model: {path} is no JSON ({error})") from error
    if not isinstance(index, dict):
        raise InputError(f"model: {path} describes no pipeline")
    return {key: value for key, value in index.items() if isinstance(value, list) and None not in value}


def _class(diffusers: Any, folder: Path, part: str, named: list[Any]) -> Any:
    """The class of a component, if it is one of the installed diffusers."""
    found = getattr(diffusers, str(named[-1]), None) if named[0] == "diffusers" else None
    if found is None or not hasattr(found, "from_pretrained"):
        raise InputError(
            f"model: the {part} of {folder.name} is {'.'.join(map(str, named))}, which the installed diffusers "
            f"{diffusers.__version__} does not have; build it in Python and use from_diffusers"
        )
    return found


def _network(diffusers: Any, folder: Path, part: str, named: list[Any]) -> Any:
    """The network, with every weight read from safetensors, in evaluation mode."""
    names = sorted(path.name for path in (folder / part).glob("*"))
    weights = [name for name in names if name.endswith(".safetensors")]
    if not weights:
        pickles = [name for name in names if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
        has = f"only the pickle {pickles[0]}, which can run code" if pickles else "no weights"
        raise InputError(f"model: {folder.name}/{part} has {has}; expected diffusion_pytorch_model.safetensors")
    plain = [name for name in weights if name.count(".") == 1 or "-of-" in name.split(".")[0]]
    variant = {} if plain else {"variant": weights[0].split(".")[1]}
    made, info = _loaded(
        _class(diffusers, folder, part, named),
        folder,
        part,
        use_safetensors=True,
        output_loading_info=True,
        low_cpu_mem_usage=False,
        **variant,
    )
    if missing := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        raise InputError(f"model: the weights of {folder.name}/{part} do not fit its config: {missing[0]!r}")
    return made.eval()


def _loaded(kind: Any, folder: Path, part: str, **settings: Any) -> Any:
    try:
        with quietly():
            return kind.from_pretrained(folder / part, local_files_only=True, **settings)
    except Exception as error:  # what the library raises for damaged files is of many kinds
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"model: {folder.name}/{part} cannot be loaded: {reason}") from error
