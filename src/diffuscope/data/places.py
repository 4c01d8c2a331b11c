"""Where named data sets lie: the folders that are searched, and what a data set looks like in them.

A name is looked for in the folder that the environment variable DIFFUSCOPE_DATA names, if it is set; in the user's
cache folder, where `diffuscope data fetch` puts what it downloads unless DIFFUSCOPE_DATA is set; and MNIST and its kin
also in `/usr/share/datasets`, where Debian's packages put them.
"""

import os
from pathlib import Path

import platformdirs

from diffuscope.errors import InputError

from .cifar import FOLDER, is_array_folder, is_batch_folder
from .registry import PUBLISHED

DEBIAN = Path("/usr/share/datasets")


def cache_folder() -> Path:
    """The user's cache folder for data sets; on Linux `~/.cache/diffuscope/data`.

    >>> from diffuscope.data import cache_folder
    >>> cache_folder().name
    'data'
    """
    return platformdirs.user_cache_path("diffuscope") / "data"


def data_folder() -> Path:
    """The folder that is searched first and that downloads go to: DIFFUSCOPE_DATA, or the user's cache folder.

    >>> from diffuscope.data import data_folder
    >>> import os
    >>> from unittest.mock import patch
    >>> with patch.dict(os.environ, DIFFUSCOPE_DATA="my-data"):  # as in the shell
    ...     print(data_folder())
    my-data
    """
    return _searched()[0]


def found(name: str) -> Path | None:
    """The first folder with files of the data set called `name`, whole or not; None if there is none.

    >>> from pathlib import Path
    >>> from diffuscope.data import found
    >>> import os
    >>> from unittest.mock import patch
    >>> Path("my-data/mnist").mkdir(parents=True, exist_ok=True)
    >>> Path("my-data/mnist/train-labels-idx1-ubyte.gz").touch()
    >>> with patch.dict(os.environ, DIFFUSCOPE_DATA="my-data"):
    ...     print(found("mnist").as_posix())
    my-data/mnist
    """
    return next((folder for folder in _candidates(name) if _holds(name, folder)), None)


def complete(name: str) -> Path | None:
    """The first folder that holds every file of the data set called `name`; None if there is none.

    >>> from pathlib import Path
    >>> from diffuscope.data import PUBLISHED, complete
    >>> import os
    >>> from unittest.mock import patch
    >>> Path("all-data/mnist").mkdir(parents=True, exist_ok=True)
    >>> for file in PUBLISHED["mnist"].files:
    ...     Path("all-data/mnist", file.name).touch()
    >>> with patch.dict(os.environ, DIFFUSCOPE_DATA="all-data"):
    ...     print(complete("mnist").as_posix())
    all-data/mnist
    """
    names = [file.name for file in PUBLISHED[name].files]
    for folder in _candidates(name):
        if is_array_folder(folder) or all((folder / each).is_file() for each in names):
            return folder
    return None


def require_found(name: str, argument: str) -> Path:
    """As `found`; raises InputError with the folders that were searched and how to get the data."""
    folder = found(name)
    if folder is None:
        *others, last = map(str, _candidates(name))
        looked = f"{', '.join(others)} and {last}" if others else last
        raise InputError(
            f"{argument}: {name} was looked for in {looked}; expected it there, by `diffuscope data fetch {name}`, "
            "or in the folder that DIFFUSCOPE_DATA names"
        )
    return folder


def _searched() -> list[Path]:
    named = os.environ.get("DIFFUSCOPE_DATA")
    return [*([Path(named).expanduser()] if named else []), cache_folder()]


def _candidates(name: str) -> list[Path]:
    if name == "cifar10":
        return [parent / folder for parent in _searched() for folder in (FOLDER, name)]
    return [parent / name for parent in (*_searched(), DEBIAN)]


def _holds(name: str, folder: Path) -> bool:
    if name == "cifar10":
        return is_batch_folder(folder) or is_array_folder(folder)
    return any((folder / file.name).is_file() for file in PUBLISHED[name].files)


def require_file(name: str, argument: str, folders: tuple[str, ...] = ("",)) -> Path:
    """The first file called `name` in these subfolders of the folders that are searched; InputError if none has it."""
    places = [parent / folder / name for parent in _searched() for folder in folders]
    for path in places:
        if path.is_file():
            return path
    raise InputError(
        f"{argument}: {name} was looked for as {', '.join(map(str, places))}; expected it there, or in the folder that "
        "DIFFUSCOPE_DATA names"
    )
