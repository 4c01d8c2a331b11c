"""Downloads from a server on the loopback: what is whole and right is kept, of anything else nothing is."""

import gzip
import hashlib
import io
import struct
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from diffuscope import cli
from diffuscope.data import PUBLISHED, DataFile, Published, fetch_data, load_data
from diffuscope.errors import InputError


class Handler(BaseHTTPRequestHandler):
    """Answers with `server.files`; a path of `server.broken` gets a third of what its header promises."""

    def do_GET(self):
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        content = self.server.files.get(self.path)  # type: ignore[attr-defined]
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        broken = self.path in self.server.broken  # type: ignore[attr-defined]
        self.wfile.write(content[: len(content) // 3] if broken else content)

    def log_message(self, format, *args):
        del format, args


class Server(ThreadingHTTPServer):
    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.broken: set[str] = set()
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/a"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server() as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data folder; the user's cache is an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("diffuscope.data.places.DEBIAN", tmp_path / "debian")
    return tmp_path / "data"


def entry(name: str, content: bytes) -> DataFile:
    return DataFile(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest())


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def digits(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:  # noqa: ARG001
    """A small MNIST in the table and on the server; its contents by file."""
    draw = np.random.default_rng(0)
    contents = {}
    for part, n in (("train", 6), ("t10k", 4)):
        contents[f"{part}-images-idx3-ubyte.gz"] = idx(draw.integers(0, 256, (n, 5, 4), dtype=np.uint8))
        contents[f"{part}-labels-idx1-ubyte.gz"] = idx(np.arange(n, dtype=np.uint8))
    small = replace(
        PUBLISHED["mnist"],
        files=tuple(entry(name, content) for name, content in contents.items()),
        addresses=(server.address,),
    )
    monkeypatch.setitem(PUBLISHED, "mnist", small)
    server.files |= {f"/a/{name}": gzip.compress(content) for name, content in contents.items()}
    return contents


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InputError) as raised:
        call()
    line = str(raised.value)
    assert "\n" not in line
    assert "expected" in line
    return line


def left(folder: Path) -> list[str]:
    """Every file and folder, hidden ones too."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_what_was_downloaded_is_read_by_its_name(digits, folder, server):
    fetched = fetch_data("mnist")
    assert (fetched.folder, fetched.address, fetched.unverified) == (folder / "mnist", server.address, ())
    assert left(folder) == ["mnist", *sorted(f"mnist/{name}" for name in digits)]
    data = load_data("mnist")
    images = np.frombuffer(digits["train-images-idx3-ubyte.gz"], np.uint8, offset=16)
    assert np.array_equal(data.train.numpy().ravel(), images.astype("f4"))
    assert len(data.heldout) == 4


def test_without_the_variable_it_goes_to_the_users_cache(digits, tmp_path, monkeypatch):  # noqa: ARG001
    monkeypatch.delenv("DIFFUSCOPE_DATA")
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / "cache" / name)
    assert fetch_data("mnist").folder == tmp_path / "cache" / "diffuscope" / "data" / "mnist"
    assert len(load_data("mnist").train) == 6


@pytest.mark.usefixtures("digits")
def test_a_second_download_asks_nobody(server):
    first = fetch_data("mnist").folder
    asked = len(server.asked)
    again = fetch_data("mnist")
    assert (again.folder, again.address) == (first, None)
    assert len(server.asked) == asked == 4


@pytest.mark.usefixtures("digits")
def test_a_data_set_that_lacks_a_file_is_listed_as_such_and_completed(folder, monkeypatch, capsys):
    fetch_data("mnist")
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    command(monkeypatch, "list")
    assert f"{folder / 'mnist'}, incomplete; diffuscope data fetch mnist\n" in capsys.readouterr().out
    assert fetch_data("mnist").address is not None
    assert len(left(folder)) == 5


def test_a_mirror_that_compressed_anew_verifies(digits, server):
    """Another level of compression, and the time in the header: other bytes, the same content."""
    for name, content in digits.items():
        anew = gzip.compress(content, compresslevel=1, mtime=12345)
        assert anew != server.files[f"/a/{name}"]
        server.files[f"/a/{name}"] = anew
    assert fetch_data("mnist").address == server.address


def test_another_content_is_refused_and_nothing_is_kept(digits, folder, server):
    """One bit of one label is another, in the last file; the three files before it were right."""
    name = "t10k-labels-idx1-ubyte.gz"
    content = bytearray(digits[name])
    content[-1] ^= 1
    server.files[f"/a/{name}"] = gzip.compress(bytes(content))
    line = refusal(lambda: fetch_data("mnist"))
    assert f"holds another {name}" in line
    assert hashlib.sha256(content).hexdigest() in line
    assert left(folder) == []


@pytest.mark.parametrize("change", [lambda content: content[:-1], lambda content: content + b"\0"])
def test_another_size_is_refused(digits, folder, server, change):
    name = "train-images-idx3-ubyte.gz"
    server.files[f"/a/{name}"] = gzip.compress(change(digits[name]))
    line = refusal(lambda: fetch_data("mnist"))
    assert f"{len(digits[name])} bytes of {name}" in line
    assert left(folder) == []


@pytest.mark.usefixtures("digits")
def test_a_download_that_breaks_off_leaves_nothing(folder, server):
    server.broken.add("/a/train-labels-idx1-ubyte.gz")
    assert "train-labels-idx1-ubyte.gz was interrupted" in refusal(lambda: fetch_data("mnist"))
    assert left(folder) == []


@pytest.mark.usefixtures("digits")
def test_a_file_cut_short_on_the_server_leaves_nothing(folder, server):
    whole = server.files["/a/train-images-idx3-ubyte.gz"]
    for cut in (whole[:-10], whole[: len(whole) // 2], b"", b"<html>Sign in</html>"):
        server.files["/a/train-images-idx3-ubyte.gz"] = cut
        line = refusal(lambda: fetch_data("mnist"))
        assert "train-images-idx3-ubyte.gz is truncated" in line or "holds 0 of the" in line
        assert left(folder) == []


@pytest.mark.usefixtures("digits")
def test_an_interrupted_download_leaves_nothing(folder, monkeypatch):
    import pooch

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pooch, "retrieve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch_data("mnist")
    assert left(folder) == []


@pytest.mark.usefixtures("digits")
def test_a_file_that_is_not_there(folder, server):
    del server.files["/a/t10k-images-idx3-ubyte.gz"]
    assert f"{server.address}/t10k-images-idx3-ubyte.gz answers 404" in refusal(lambda: fetch_data("mnist"))
    assert left(folder) == []


@pytest.mark.usefixtures("digits")
def test_the_next_address_is_asked_where_one_fails(server, monkeypatch):
    addresses = ("http://127.0.0.1:1/closed", f"{server.address}/nothing", server.address)
    monkeypatch.setitem(PUBLISHED, "mnist", replace(PUBLISHED["mnist"], addresses=addresses))
    assert fetch_data("mnist").address == server.address


@pytest.mark.usefixtures("digits")
def test_every_address_that_failed_is_named(server):
    line = refusal(lambda: fetch_data("mnist", address="http://127.0.0.1:1/closed"))
    assert "http://127.0.0.1:1/closed/train-images-idx3-ubyte.gz cannot be reached" in line
    assert server.asked == []
    for other in ("nowhere", "ftp://localhost", ""):
        assert refusal(lambda: fetch_data("mnist", address=other)).startswith("address: expected one that begins")  # noqa: B023
    assert "cannot be downloaded (InvalidURL)" in refusal(lambda: fetch_data("mnist", address="http://"))


@pytest.mark.usefixtures("digits")
def test_without_pooch_the_line_says_what_to_install(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)  # import pooch fails
    assert "pip install 'diffuscope[fetch]'" in refusal(lambda: fetch_data("mnist"))
    assert not folder.exists()


@pytest.mark.usefixtures("digits")
def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path / "file"))
    assert refusal(lambda: fetch_data("mnist")).startswith("DIFFUSCOPE_DATA: cannot write to")


@pytest.mark.parametrize("name", ["digits", "two-moons", "mnits", ""])
def test_a_name_that_cannot_be_downloaded(name):
    assert refusal(lambda: fetch_data(name)).startswith("name: expected one of mnist, fashion-mnist, cifar10")


# CIFAR-10: an archive

Members = list[tuple[str, bytes]]


def batches() -> Members:
    """Five training batches of two records and a test batch of three, each with its path in the archive."""
    draw = np.random.default_rng(1)
    names = [*((f"data_batch_{i}.bin", 2) for i in range(1, 6)), ("test_batch.bin", 3)]
    made = []
    for name, n in names:
        records = draw.integers(0, 256, (n, 3073), dtype=np.uint8)
        records[:, 0] %= 10
        made.append((f"cifar-10-batches-bin/{name}", records.tobytes()))
    return made


def archive(members: Members, *others: tarfile.TarInfo) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for other in others:
            tar.addfile(other)
    return buffer.getvalue()


@pytest.fixture
def cifar(server: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Published:  # noqa: ARG001
    """A small CIFAR-10 in the table and on the server."""
    files = tuple(entry(name.split("/")[1], content) for name, content in batches())
    files = (*files[:-1], replace(files[-1], verified=False))
    small = replace(PUBLISHED["cifar10"], files=files, addresses=(server.address,))
    monkeypatch.setitem(PUBLISHED, "cifar10", small)
    server.files["/a/cifar-10-binary.tar.gz"] = archive([*batches(), ("cifar-10-batches-bin/readme.html", b"hello")])
    return small


def test_the_batches_of_an_archive_are_unpacked_and_read(cifar, folder, server):
    fetched = fetch_data("cifar10")
    assert fetched.address == server.address
    assert left(folder) == [
        "cifar-10-batches-bin",
        *sorted(f"cifar-10-batches-bin/{file.name}" for file in cifar.files),
    ]
    data = load_data("cifar10")
    assert (len(data.train), len(data.heldout)) == (10, 3)
    first = np.frombuffer(batches()[0][1], np.uint8)
    assert np.array_equal(data.train[0].numpy().ravel(), first[1:3073].astype("f4"))
    assert fetch_data("cifar10").address is None


@pytest.mark.usefixtures("cifar")
@pytest.mark.parametrize("name", ["../evil", "cifar-10-batches-bin/../../evil", "/tmp/evil", "c:\\evil", "..\\evil"])
def test_an_archive_with_a_path_that_leads_outside_is_refused_whole(name, tmp_path, folder, server):
    server.files["/a/cifar-10-binary.tar.gz"] = archive([*batches(), (name, b"evil")])
    assert "which leads outside its folder" in refusal(lambda: fetch_data("cifar10"))
    assert left(folder) == []
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.usefixtures("cifar")
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_an_archive_with_a_link_or_a_device_is_refused_whole(kind, folder, server):
    link = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    link.type, link.linkname = kind, "/etc/passwd"
    server.files["/a/cifar-10-binary.tar.gz"] = archive(batches()[1:], link)
    assert "which is no plain file" in refusal(lambda: fetch_data("cifar10"))
    assert left(folder) == []


@pytest.mark.usefixtures("cifar")
def test_an_archive_that_lacks_a_batch_or_is_damaged(folder, server):
    path, whole = "/a/cifar-10-binary.tar.gz", server.files["/a/cifar-10-binary.tar.gz"]
    server.files[path] = archive(batches()[:-1])
    assert "lacks test_batch.bin" in refusal(lambda: fetch_data("cifar10"))
    for damaged in (whole[: len(whole) // 2], b"", b"<html></html>", gzip.compress(b"no archive")):
        server.files[path] = damaged
        line = refusal(lambda: fetch_data("cifar10"))
        assert "is truncated or no .tar.gz file" in line or "lacks data_batch_1.bin" in line
    changed = batches()
    changed[2] = (changed[2][0], bytes(len(changed[2][1])))
    server.files[path] = archive(changed)
    assert "holds another data_batch_3.bin" in refusal(lambda: fetch_data("cifar10"))
    assert left(folder) == []


def test_a_hash_that_is_unverified_is_reported_and_not_refused(cifar, server):
    (file,) = (file for file in cifar.files if not file.verified)
    other = batches()
    other[-1] = (other[-1][0], bytes(len(other[-1][1])))
    server.files["/a/cifar-10-binary.tar.gz"] = archive(other)
    assert fetch_data("cifar10").unverified == ((file, hashlib.sha256(other[-1][1]).hexdigest()),)


# the command


def command(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["diffuscope", "data", *arguments])
    cli.main()


@pytest.mark.usefixtures("digits")
def test_the_command_fetches_lists_and_does_not_fetch_twice(folder, server, monkeypatch, capsys):
    command(monkeypatch, "list")
    listed = capsys.readouterr().out
    assert "diffuscope data fetch mnist" in listed
    assert "unverified" in listed
    command(monkeypatch, "fetch", "mnist", "--address", f"{server.address}/")
    assert f"Data: {folder / 'mnist'}" in capsys.readouterr().out
    command(monkeypatch, "fetch", "mnist")
    assert capsys.readouterr().out == f"mnist is already in {folder / 'mnist'}; nothing was downloaded.\n"
    command(monkeypatch, "list")
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("mnist"))
    assert line.endswith(str(folder / "mnist"))


def test_the_command_prints_a_hash_that_is_unverified(cifar, server, monkeypatch, capsys):
    command(monkeypatch, "fetch", "cifar10")
    expected = cifar.files[-1].sha256
    told = capsys.readouterr().out
    assert f"Unverified: the SHA-256 of test_batch.bin is {expected}, as in the table" in told
    assert f"From {server.address}" in told


@pytest.mark.usefixtures("digits")
def test_a_mistake_is_one_line_and_exit_code_2(server, monkeypatch, capsys):
    server.files.clear()
    with pytest.raises(SystemExit) as ended:
        command(monkeypatch, "fetch", "mnist")
    assert ended.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_the_sizes_of_the_table_are_those_of_the_formats():
    """28 x 28 and 3 x 32 x 32 bytes an image, one a label; a header of 4 bytes and 4 for each axis."""
    sizes = {name: [file.size for file in published.files] for name, published in PUBLISHED.items()}
    four = [16 + 60_000 * 784, 8 + 60_000, 16 + 10_000 * 784, 8 + 10_000]
    assert sizes == {"mnist": four, "fashion-mnist": four, "cifar10": [10_000 * 3073] * 6}
    hashes = [file.sha256 for published in PUBLISHED.values() for file in published.files]
    assert all(len(sha256) == 64 for sha256 in hashes)
    assert len(set(hashes)) == len(hashes) == 14


def test_the_hashes_of_mnist_are_those_of_the_real_files(shared_data):
    for file in PUBLISHED["mnist"].files:
        content = gzip.decompress((shared_data / "mnist" / file.name).read_bytes())
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file.size, file.sha256)
