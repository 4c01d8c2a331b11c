"""Downloads of named data sets: the only use of the network in the library, and only on request.

Files are downloaded into a scratch folder beside their destination, checked by size and SHA-256 of their content, and
moved there only when all of them are complete: an interrupted or wrong download leaves nothing behind. Files of an
archive are read by the names in the registry; an archive with a link, or a path that leads outside, is refused.
"""

import gzip
import hashlib
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from types import ModuleType

from diffuscope.errors import InputError

from .extras import not_installed
from .places import complete, data_folder
from .registry import PUBLISHED, DataFile, Published

TIMEOUT = 30  # seconds without an answer
BLOCK = 2**20

_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError)


@dataclass(frozen=True)
class Fetched:
    """The folder of a data set, and the address that it was downloaded from: None if it was there already.

    `unverified` are the files whose hash in the registry is unverified, each with the SHA-256 of the download.

    >>> from pathlib import Path
    >>> from diffuscope.data import PUBLISHED, fetch_data
    >>> import os
    >>> from unittest.mock import patch
    >>> Path("data/mnist").mkdir(parents=True, exist_ok=True)
    >>> for file in PUBLISHED["mnist"].files:
    ...     Path("data/mnist", file.name).touch()
    >>> with patch.dict(os.environ, DIFFUSCOPE_DATA="data"):
    ...     print(fetch_data("mnist").address)  # it is there already
    None
    """

    folder: Path
    address: str | None = None
    unverified: tuple[tuple[DataFile, str], ...] = ()


class _RefusedError(Exception):
    """The reason why one address is refused."""


def fetch_data(name: str, *, address: str | None = None, progress: bool = False) -> Fetched:
    """Download the data set called `name` into the first folder that is searched for it, unless it is present.

    `address`, a folder on the web, replaces those in the registry. Raises InputError for a name that cannot be
    downloaded, without pooch, if the folder cannot be written, and if no address has the expected content.

    >>> from diffuscope.data import fetch_data
    >>> fetch_data("imagenet")
    Traceback (most recent call last):
    diffuscope.errors.InputError: name: expected one of mnist, fashion-mnist, cifar10, which can be ..., got 'imagenet'
    """
    if name not in PUBLISHED:
        raise InputError(f"name: expected one of {', '.join(PUBLISHED)}, which can be downloaded, got {name!r}")
    if address is not None and not address.startswith(("http://", "https://")):
        raise InputError(f"address: expected one that begins with http:// or https://, got {address!r}")
    published = PUBLISHED[name]
    present = complete(name)
    if present is not None:
        return Fetched(present)
    pooch = _pooch()
    folder, refusals = data_folder() / published.folder, []
    for base in [address] if address is not None else published.addresses:
        with _scratch(folder) as scratch:
            try:
                hashes = _downloaded(pooch, published, base, scratch, progress)
            except _RefusedError as refused:
                refusals.append(str(refused))
                continue
            _keep(scratch, folder, published)
        unverified = tuple((file, hashes[file.name]) for file in published.files if not file.verified)
        return Fetched(folder, base, unverified)
    raise InputError(
        f"name: {name} could not be downloaded: {'; '.join(refusals)}; expected an address that serves it, "
        "as --address URL"
    )


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError:
        raise not_installed("name", "downloading", "pooch", "fetch") from None
    pooch.get_logger().setLevel("WARNING")
    return pooch


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, on the same disk."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-", ignore_cleanup_errors=True)
    except OSError as error:
        raise _unwritable(folder.parent, error) from None
    with scratch as path:
        yield Path(path)


def _keep(scratch: Path, folder: Path, published: Published) -> None:
    """Move the files, all of them complete, to their destination."""
    try:
        folder.mkdir(exist_ok=True)
        for file in published.files:
            (scratch / file.name).replace(folder / file.name)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _unwritable(folder: Path, error: OSError) -> InputError:
    return InputError(
        f"DIFFUSCOPE_DATA: cannot write to {folder} ({error.strerror or error}); expected the name of a writable folder"
    )


def _downloaded(pooch: ModuleType, published: Published, base: str, scratch: Path, progress: bool) -> dict[str, str]:
    """Download the files into `scratch`, and return their hashes; _RefusedError if they differ from the registry."""
    if published.archive is not None:
        url = f"{base.rstrip('/')}/{published.archive}"
        archive = _download(pooch, url, scratch / published.archive, progress)
        return _unpacked(archive, published, url, scratch)
    hashes = {}
    for file in published.files:
        url = f"{base.rstrip('/')}/{file.name}"
        path = _download(pooch, url, scratch / file.name, progress)
        try:
            with gzip.open(path) as content:
                hashes[file.name] = _checked(content.read, file, url)
        except _DAMAGE:
            raise _RefusedError(f"{url} is truncated or no .gz file") from None
    return hashes


def _download(pooch: ModuleType, url: str, path: Path, progress: bool) -> Path:
    import requests

    # identity: otherwise a server may decompress the files on the way
    downloader = pooch.HTTPDownloader(
        progressbar=progress, chunk_size=2**16, timeout=TIMEOUT, headers={"Accept-Encoding": "identity"}
    )
    try:
        pooch.retrieve(url, known_hash=None, fname=path.name, path=path.parent, downloader=downloader)
    except requests.HTTPError as error:
        raise _RefusedError(f"{url} answers {getattr(error.response, 'status_code', 'an error')}") from None
    except requests.Timeout:
        raise _RefusedError(f"{url} does not answer within {TIMEOUT} s") from None
    except requests.exceptions.ChunkedEncodingError:
        raise _RefusedError(f"{url} was interrupted") from None
    except requests.ConnectionError:
        raise _RefusedError(f"{url} cannot be reached") from None
    except requests.RequestException as error:
        raise _RefusedError(f"{url} cannot be downloaded ({type(error).__name__})") from None
    except OSError as error:
        raise _unwritable(path.parent.parent, error) from None
    return path


def _checked(
    content: Callable[[int], bytes], file: DataFile, url: str, copy: Callable[[bytes], object] | None = None
) -> str:
    """The SHA-256 of what `content(n)` reads, checked against the registry; `copy` is called with every block."""
    digest, size = hashlib.sha256(), 0
    while block := content(BLOCK):
        size += len(block)
        if size > file.size:
            raise _RefusedError(f"{url} holds more than the {file.size} bytes of {file.name}")
        digest.update(block)
        if copy is not None:
            copy(block)
    if size < file.size:
        raise _RefusedError(f"{url} holds {size} of the {file.size} bytes of {file.name}")
    found = digest.hexdigest()
    if file.verified and found != file.sha256:
        raise _RefusedError(
            f"{url} holds another {file.name}: the SHA-256 of its content is {found}, not {file.sha256}"
        )
    return found


def _unpacked(archive: Path, published: Published, url: str, scratch: Path) -> dict[str, str]:
    """Extract the registry's files under their names there, never to a path from the archive; return their hashes."""
    wanted, hashes = {f"{published.folder}/{file.name}": file for file in published.files}, {}
    try:
        with tarfile.open(archive, "r:gz") as members:
            for member in members:
                _require_inside(member, url)
                file, content = wanted.get(member.name), members.extractfile(member)
                if file is None or content is None:
                    continue
                with content, (scratch / file.name).open("wb") as copy:
                    hashes[file.name] = _checked(content.read, file, url, copy.write)
    except _DAMAGE:
        raise _RefusedError(f"{url} is truncated or no .tar.gz file") from None
    missing = [file.name for file in published.files if file.name not in hashes]
    if missing:
        raise _RefusedError(f"{url} lacks {missing[0]}")
    return hashes


def _require_inside(member: tarfile.TarInfo, url: str) -> None:
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name or ":" in member.name:
        raise _RefusedError(f"{url} holds {member.name!r}, which leads outside its folder")
    if not (member.isreg() or member.isdir()):
        raise _RefusedError(f"{url} holds {member.name!r}, which is no plain file")
