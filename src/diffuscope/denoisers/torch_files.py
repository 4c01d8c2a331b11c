r"""Files of `torch.save`, read by PyTorch's restricted loader: tensors and plain containers are built, nothing else.

Such a file is a pickle, a program whose instructions may call any function by its name. The restricted loader,
`torch.load(weights_only=True)`, knows the names that make tensors and stops at every other one. But checkpoints carry
settings beside their weights (argparse.Namespace, pathlib.Path, numbers of NumPy, OmegaConf), so that it would stop at
most of them. For the length of one call it is therefore lent these names with a stand-in of ours under each: `Unbuilt`,
which ignores what it is called with, or an empty dictionary for subclasses of dict. So neither code of the file nor
code that it names is run, and nothing is imported. A name of Python's own library that no settings need
(`posix.system`, `builtins.eval`) ends the reading before it begins.

What can a file do with names that it chose itself? In the loader (`torch._weights_only_unpickler`, PyTorch 2.6 to 2.13)
an object of a lent name is called, made, or given a state. The first two end in the `__new__` and `__init__` of a
stand-in, which ignore what they are given; the third in its `__setstate__`, which does too, or, in the place of a dict,
in attributes of an OrderedDict, as the loader allows for any. Functions that rebuild tensors take others as arguments
(`_rebuild_from_type_v2(f, ...)` calls f): the file has none but the loader's own and stand-ins. Attributes with the
names of methods are never called (`weights_file`). The names are lent for one call, after the file was searched for
them; a file that changes in between finds others not lent.

What remains is the loader's: a crafted file can ask for much memory (`bytearray(n)`), or nest deeper than the stack of
C, and so end the process before it is refused. It runs no code.

A whole model (`torch.save(model)`) is a pickle of its class, and comes as one `Unbuilt`: there is nothing to load.
"""

import re
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch

from diffuscope.errors import InputError
from diffuscope.memory import require_memory

NEEDED = (2, 6)  # before, the restricted loader could be got around (CVE-2025-32434)
LEGACY = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # how a file from before PyTorch 1.6 begins
SETTINGS = {
    "argparse", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions", "ipaddress", "numbers",
    "pathlib", "typing", "uuid", "zoneinfo",
}  # fmt: skip
SETTINGS_NAMES = {
    "builtins.bool", "builtins.bytes", "builtins.dict", "builtins.float", "builtins.frozenset", "builtins.getattr",
    "builtins.int", "builtins.list", "builtins.object", "builtins.range", "builtins.slice", "builtins.str",
    "builtins.tuple", "builtins.type", "copyreg._reconstructor", "functools.partial", "types.SimpleNamespace",
}  # fmt: skip
"""Names of Python's library in settings: harmless, as is every stand-in, and no reason to take a file for an attack."""


class Unbuilt:
    """In the place of an object that was not built; `name` is that of its class."""

    name: ClassVar[str] = ""

    def __new__(cls, *_: object, **__: object) -> "Unbuilt":
        return object.__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


class _UnbuiltDict:
    """A subclass of dict comes as a plain dictionary of its items."""

    def __new__(cls, *_: object, **__: object) -> Any:
        return OrderedDict()


def read_torch(path: Path, argument: str) -> object:
    """What `torch.save` wrote to `path`, on the CPU; objects that are no tensors or plain containers as `Unbuilt`.

    Tensors of a file since PyTorch 1.6 are mapped, not read. Raises InputError, naming `argument`, for a file that is
    damaged, is no such file, is a TorchScript archive, or names what only an attack needs.
    """
    version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if version < NEEDED:
        raise InputError(f"{argument}: {path.name} is a pickle, which PyTorch reads safely since 2.6; upgrade it")
    zipped = zipfile.is_zipfile(path)
    if zipped and path.suffix == ".safetensors":
        raise InputError(f"{argument}: {path.name} is a file of torch.save; expected it under a name ending in .pt")
    mapped = _require_whole(path, argument) if zipped else False
    stand_ins = [(_stand_in(name, path, argument), name) for name in (_names(path) if zipped else [])]
    try:
        with torch.serialization.safe_globals(stand_ins), warnings.catch_warnings():  # pyright: ignore[reportArgumentType]
            warnings.simplefilter("ignore")
            return torch.load(path, weights_only=True, map_location="cpu", mmap=mapped)
    except (MemoryError, InputError):
        raise
    except Exception as error:  # of a damaged file: of any kind
        raise _refusal(path, argument, str(error)) from error


def _names(path: Path) -> list[str]:
    """The functions and classes that the file names, beyond those that make tensors."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(path)))
    except Exception:  # another protocol, or no pickle: the loader says it
        return []


def _stand_in(name: str, path: Path, argument: str) -> Callable[..., Any]:
    today = _todays_name(name)
    library = today.split(".")[0]
    if library in sys.stdlib_module_names and library not in SETTINGS and today not in SETTINGS_NAMES:
        raise InputError(
            f"{argument}: {path.name} names {today}, which weights do not need and an attack does; it was not loaded"
        )
    if name.lower().endswith("dict"):
        return type("UnbuiltDict", (_UnbuiltDict,), {})
    return type("Unbuilt", (Unbuilt,), {"name": name})


def _todays_name(name: str) -> str:
    """A name of Python 2, which the pickles of torch.save have, as Python 3 calls it.

    >>> _todays_name("commands.Popen"), _todays_name("argparse.Namespace")
    ('subprocess.Popen', 'argparse.Namespace')
    """
    module, _, last = name.rpartition(".")
    module, last = NAME_MAPPING.get((module, last), (IMPORT_MAPPING.get(module, module), last))
    return f"{module}.{last}"


def _require_whole(path: Path, argument: str) -> bool:
    """Raises InputError for an archive that is damaged; whether its tensors can be mapped.

    The loader compares no checksums. torch.save can leave them out, and then all are wrong, that of its pickle too.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        require_memory(sum(e.file_size for e in entries if e.compress_type), argument, f"{path.name}, unpacked,")
        names = [entry.filename.split("/")[-1] for entry in entries]
        if "constants.pkl" in names or any("/code/" in entry.filename for entry in entries):
            raise InputError(
                f"{argument}: {path.name} is a TorchScript archive, which is a program; expected the weights alone: "
                "torch.save(torch.jit.load(file).state_dict(), 'weights.pt')"
            )
        wrong = {entry.filename for entry in entries if not _unchanged(archive, entry)}
    if wrong and not any(name.endswith("data.pkl") for name in wrong):
        raise InputError(f"{argument}: {path.name} is damaged: the checksum of {min(wrong)} in it is wrong")
    return not any(entry.compress_type for entry in entries)


def _unchanged(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as content:
            while content.read(1 << 20):
                pass
    except Exception:  # a wrong checksum, a wrong header
        return False
    return True


def _refusal(path: Path, argument: str, text: str) -> InputError:
    first = text.strip().split("\n")[0]
    save = "torch.save(model.state_dict(), 'weights.pt') where the model was made"
    if found := re.search(r"GLOBAL (\S+) was not an allowed|unsupported GLOBAL (\S+) whose", text):
        named = _todays_name(found[1] or found[2])
        return InputError(
            f"{argument}: {path.name} needs {named}, which is not loaded, or it is truncated; expected "
            f"tensors alone: {save}"
        )
    if found := re.search(r"Unsupported operand \d+|persistent_load id|Can only \w+|Trying to call", text):
        return InputError(
            f"{argument}: {path.name} is a pickle of more than tensors and settings, which PyTorch's restricted loader "
            f"does not read ({found[0]}); expected {save}"
        )
    return InputError(f"{argument}: {path.name} is truncated or damaged, or no file of torch.save ({first[:120]})")
