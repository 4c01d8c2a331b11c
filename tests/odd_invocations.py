"""Malformed and odd invocations of the command line, drawn at random: each ends in one line that names what was typed.

A *fault* is a few words that cannot be right: a value outside an option's type or range, a file that is damaged or of
another kind, a module that misbehaves, a word that is no option. An invocation is a command, what it needs, and one or
two faults (the second may hide the first). By option and by kind of fault, not by instance.
"""

import io
import json
import os
import random
import struct
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import h5py
import numpy as np
import safetensors.torch
import torch
from PIL import Image

from diffuscope.cli import COMMANDS, main
from diffuscope.denoisers import MLP, Preconditioned, save_denoiser
from diffuscope.schedules import VE

Words = tuple[str, ...]
INTEGERS = ("", " ", "x", "1.5", "1e3", "nan", "inf", "0x10", "--", "1 2", "⅓", "true", "-9" + "9" * 30, "9" * 30, "-1")
NUMBERS = ("", " ", "x", "nan", "inf", "-inf", "1e999", "1,5", "1 2", "--", "½")
PAIRS = (("0",), ("1", "0"), ("0", "0"), ("0", "nan"), ("-inf", "0"), ("0", "x"), ("0", "1", "2"), ("", ""), ())
OUT_OF_RANGE = {
    "significance": ("0", "1", "2", "-0.1"),
    "false_discovery": ("0", "1", "-1"),
    "skip_tolerance": ("0", "-1"),
    "delta": ("1", "2", "-1"),
    "device": ("", "gpu", "cuda:x", "cuda:999", "mps", "meta"),
    "features": (
        "pixel",
        "pixels pixels",
        "no_such:thing",
        ":",
        "a:",
        "odd_models:absent",
        "odd_models:number",
        "odd_models:Model",
        "patches",
        "classifier",
        "odd_models:raising",
        "odd_models:nothing",
    ),
}
OPTIONS = ("", "absent.pt", "vectors.npy", "model.safetensors", "file", ".", "x" * 300, "a?b", "a&b=c", "&prefix=ema",
           "model.safetensors&prefix=x", "model.safetensors&weights=x", "model.safetensors&class=1")  # fmt: skip
DRIFTS = ("", "x", ":x", "no_such:thing", "odd_models:absent", "odd_models:number", "odd_models:raising",
          "odd_models:nothing", "odd_models:halves", "odd_models:not_finite", "odd_models:leaving", "odd_import:x",
          "odd_exit:x", "odd_models:recursive", "math:pi", "\0")  # fmt: skip
POSITIONAL = {"target", "name", "drift", "problem"}
ZERO_IS_FINE = {"seed", "log_every", "audit_every", "key", "rank"}
FINE_FOR_TRAINING = {"data": {"narrow.npy", "other.npz"}, "heldout": {"constant.npy"}}
FINE_FOR_STATISTICS = {"few.npy", "narrow.npy", "other.npz"}
PATHS = ("{file}", "{file}/below", "{blocked}", "x" * 300, "\0", "", " ", "\udcff")
SPECS = ("", " ", "absent.npy", "no/such/folder", "x" * 5000, "größe.npz", "\0", "~nobody/x.npy", "\udcff.npy",
         "\x1b[31m", "a:b:c", "http://localhost/x.npy", "MNIST.npy", "NaN")  # fmt: skip
TARGETS = ("", "x", ":x", "diffuscope:", "diffuscope:Nope", "azula:Nope", "diffuscope:UniPC?order=x", "odd_models:none",
           "diffuscope:Heun?x=1", "diffuscope:Heun?x", "no_such:thing", "odd_models:absent", "a b:c", "../x:y", "heun",
           "diffuscope:UniPC?predictor_order=99", "odd_import:x", "odd_exit:x")  # fmt: skip
UNKNOWN = (
    "--levles",
    "--",
    "---",
    "-z",
    "--no-such",
    "--größe",
    "--" + "a" * 5000,
    "--x=1",
    "stray",
    "--data_rnge",
    "-1",
)

MODULE = """
import sys
import numpy as np
import torch
from diffuscope.schedules import VE

class Model:
    event_shape, data_range = (8,), (-5.0, 5.0)
    schedule = VE()
    def __init__(self, answer): self.answer = answer
    def __call__(self, x_t, t): return self.answer(x_t)

def raising(x): raise ValueError("in\\nthe user's code")
def recursive(x): return recursive(x)
def leaving(x): sys.exit(0)
def build_raises(): raise KeyError("weights")

raises, recurses, leaves = Model(raising), Model(recursive), Model(leaving)
answers_none, answers_tuple = Model(lambda x: None), Model(lambda x: (x, x))
answers_numpy, answers_double = Model(lambda x: x.numpy()), Model(lambda x: x.double())
answers_shape, answers_nan = Model(lambda x: x[:, :3]), Model(lambda x: x * float("nan"))
answers_list, divides = Model(lambda x: x.tolist()), Model(lambda x: 1 // 0)
none, number, text = None, 3, "model"
shapeless, ranged = Model(lambda x: x), Model(lambda x: x)
shapeless.event_shape, ranged.data_range = 8, (1.0, -1.0)
unscheduled = Model(lambda x: x)
def nothing(x): return None
def halves(x): return x[: len(x) // 2]
def not_finite(x): return x / 0
def same(x): return 0 * x
class Weighed(torch.nn.Module):
    event_shape, data_range, schedule = (8,), (-5.0, 5.0), VE()
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(8, 8)
    def forward(self, x_t, t): return self.layer(x_t)
class OnlyDecodes:
    def decode(self, z): return z
only_decodes = OnlyDecodes()
unscheduled.schedule = "VE"
"""
OBJECTS = ("raises", "recurses", "leaves", "answers_none", "answers_tuple", "answers_numpy", "answers_double",
           "answers_shape", "answers_nan", "answers_list", "divides", "none", "number", "text", "shapeless", "ranged",
           "unscheduled", "build_raises", "absent", "Model")  # fmt: skip
ENCODERS = ("raising", "leaving", "nothing", "halves", "not_finite", "same", "only_decodes", "number", "none", "absent",
            "Model")  # fmt: skip


WEIGHTS = {"audit": 6, "train": 3, "sample": 4, "data": 1}  # how often a command is typed; 2 for the others


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """Words of a command line, and the typed words of which its one line must name one."""

    words: Words
    names: Words


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What an invocation ended with: exit code (None: it raised or went on), and what it wrote to stderr."""

    code: object
    raised: str
    errors: str


def invocations(folder: Path, count: int, seed: int) -> Iterator[Invocation]:
    """`count` invocations with files in `folder`, which is the current one."""
    places, rng = make_files(folder), random.Random(seed)
    faults = {name: list(faults_of(name, places)) for name in COMMANDS}
    for _ in range(count):
        command = rng.choices([*COMMANDS], weights=[WEIGHTS.get(name, 2) for name in COMMANDS])[0]
        chosen = rng.sample(faults[command], rng.choice((1, 1, 2)))
        given = {fault[0].partition("=")[0] for fault in chosen}
        needed = [part for part in needs(command, places) if part[0] not in given]
        if any(not fault[0].startswith("-") for fault in chosen):
            needed = [part for part in needed if part[0].startswith("-")]  # positional
        parts = [*needed, *chosen]
        rng.shuffle(parts)
        # an option without its value comes last, where no other word can be taken for the value
        parts.sort(key=lambda part: len(part) == 1 and part[0].startswith("--") and "=" not in part[0])
        if command == "paths":  # options that take any number of words would take the positional one behind them
            parts.sort(key=lambda part: part[0].startswith("-"))
        typed = [part for part in parts if part in chosen or not part[0].startswith("--")]
        names = tuple(name for part in typed for name in named_by(part))
        yield Invocation(words=(command, *(word for part in parts for word in part)), names=names)
    yield from (
        Invocation(words=words, names=words or ("expected one of",))
        for words in ((), ("",), ("odd",), ("adit",), ("--levels", "5"), ("-x",), ("AUDIT",), ("\0",), ("audit\udcff",))
    )


def needs(command: str, places: dict[str, Path]) -> list[Words]:
    """What the command needs to be right."""
    out, model, vectors = ("--out", str(places["out"])), ("--model", str(places["model"])), str(places["vectors"])
    return {
        "audit": [("--data", vectors), model, out],
        "train": [("--data", vectors), ("--train-steps", "1"), ("--log-every", "0"), out],
        "sample": [model, ("--n", "2"), ("--nfe", "3"), out],
        "certify": [("diffuscope:Heun",), out],
        "reproduce": [("heat-1d",), out],
        "data": [],
        "canaries": [("--data", vectors), ("--number", "20"), out],
        "statistics": [("--data", vectors), ("--out", str(places["out"] / "x.safetensors"))],
        "grade": [("--cases", "gaussian"), ("--methods", "exact"), ("--problems", "1"), ("--draws", "8"), out],
        "paths": [
            ("odd_models:same",),
            ("--diffusion", "1"),
            ("--start", "0"),
            ("--end", "1"),
            ("--nodes", "9"),
            ("--duration", "1"),
            out,
        ],
        "solve": [("poisson-1d",), ("--fields", "50"), ("--nodes", "11"), ("--samples", "2"), out],
    }[command]


def faults_of(command: str, places: dict[str, Path]) -> Iterator[Words]:
    """All faults of one command."""
    if command == "data":
        yield from ((word,) for word in ("lst", "lists", "fetch", "--name", ""))
        yield from (("fetch", name) for name in ("digits", "imagenet", "", "MNIST", "x" * 400, "../x"))
        yield from (("fetch", "mnist", "--address", url) for url in ("", "ftp://x", "file:" + "///x", "x", "/"))
        return
    for name, kind in typed_options(COMMANDS[command]):
        option = f"--{name.replace('_', '-')}"
        for value in bad_values(name, kind, places):
            if command in ("train", "canaries") and value and Path(value[0]).name in FINE_FOR_TRAINING.get(name, ()):
                continue
            if name == "junit" and value == (str(places["file"]),):  # a file that can be written anew
                continue
            if command == "paths" and name in ("start", "end") and value == ("-1",):
                continue
            if command == "statistics" and name == "data" and value and Path(value[0]).name in FINE_FOR_STATISTICS:
                continue
            if name in POSITIONAL:
                yield value or ("--nothing",)
            else:
                yield (option, *value)
                if len(value) == 1 and len(option) > 4:
                    yield (f"{option}={value[0]}",)
        if name not in POSITIONAL and kind is not bool:
            yield (option[:-2] + "q", "5")
            yield (option.upper(), "5")
    yield from ((word,) for word in UNKNOWN)


def typed_options(command: Any) -> Iterator[tuple[str, Any]]:
    """The options of a command and their types, those of its groups among them."""
    hints = get_type_hints(command)
    for field in fields(command):
        if is_dataclass(hints[field.name]):
            yield from typed_options(hints[field.name])
        else:
            yield field.name, hints[field.name]


def bad_values(name: str, kind: Any, places: dict[str, Path]) -> Iterator[Words]:
    """Values that the option cannot have."""
    kinds = [each for each in get_args(kind) if each is not type(None)]
    if type(None) in get_args(kind):
        kind = kinds[0]
    if name in OUT_OF_RANGE:
        yield from (tuple(value.split(" ")) for value in OUT_OF_RANGE[name])
    if kind is bool:
        yield from (("yes",), ("5",))
    elif kind is int:
        yield from ((value,) for value in INTEGERS)
        yield () if name in ZERO_IS_FINE else ("0",)
    elif kind is float:
        yield from ((value,) for value in NUMBERS)
        yield ()
    elif kind is Path:
        yield from ((value.format(**places),) for value in PATHS)
        yield ()
    elif get_origin(kind) is Literal:
        words = ("", "x", str(get_args(kind)[0]).swapcase(), "None", "heun ")
        yield from ((value,) for value in words)
    elif kind == tuple[float, float]:
        yield from PAIRS
    elif get_origin(kind) is tuple:
        yield from (("x",), ("",), ("-1",), ("7", "nan"))
    elif name in ("data", "heldout", "samples", "second_data", "canaries", "owners"):
        yield from ((str(file),) for file in sorted(places["bad"].iterdir()))
        yield from ((value,) for value in SPECS)
    elif name in ("model", "second_model"):
        yield from ((str(file),) for file in sorted(places["models"].iterdir()))
        yield from ((f"odd_models:{each}",) for each in OBJECTS)
        weights = [*places["models"].iterdir(), *places["bad"].iterdir(), *OPTIONS]
        yield from ((f"odd_models:Weighed?weights={file}",) for file in sorted(map(str, weights)))
        yield from (
            (value,) for value in (*SPECS, "odd_import:x", "odd_syntax:x", "odd_exit:x", "math:sqrt", "sys:path")
        )
    elif name == "encode":
        yield from ((f"odd_models:{each}",) for each in ENCODERS)
        yield from (
            (value,) for value in ("", "x", ":", "no_such:thing", "odd_import:x", "odd_exit:x", "math:pi", "\0")
        )
    elif name == "drift":
        yield from ((value,) for value in DRIFTS)
    elif name == "prior":
        yield from ((value,) for value in ("burgers_neuraloperator", *DRIFTS))
    elif name == "problem":
        yield from ((value,) for value in ("", "no-such", "POISSON-1D", "poisson", "x" * 400))
    elif name == "target":
        yield from ((value,) for value in TARGETS)
    elif name == "name":
        yield from ((value,) for value in ("", "no-such", "HEAT-1D", "../x", "x" * 400))


def named_by(fault: Words) -> Words:
    """The words of a fault of which a line must show one, as they are shown."""
    words = [part for word in fault for part in (word, *word.split("=", 1))]
    parts = [part[:40] for word in words for part in (word, Path(word[:99]).name, word.split(":")[0]) if part.strip()]
    return (*dict.fromkeys(parts), "''", "NAME: ", "TARGET: ", "DRIFT: ", "PROBLEM: ")


def ending(words: Words) -> Ending:
    """Run the command in this process; the errors end with warnings, which a process prints and pytest keeps."""
    errors, output = io.StringIO(), io.StringIO()
    code, raised = None, ""
    with redirect_stderr(errors), redirect_stdout(output), warnings.catch_warnings(record=True) as warned:
        try:
            main(list(words))
        except SystemExit as ended:
            code = ended.code
        except BaseException as error:
            raised = f"{type(error).__name__}: {error}"
    return Ending(code=code, raised=raised, errors="\n".join([errors.getvalue(), *(str(w.message) for w in warned)]))


def mistake(invocation: Invocation, found: Ending) -> str | None:
    """What is wrong with an ending; None if it is one line that names what was typed, with exit code 2."""
    lines = [line for line in found.errors.splitlines() if line.strip() and not line.startswith("Warning: ")]
    if found.raised:
        return f"traceback: {found.raised}"
    if found.code != 2:
        return f"exit code {found.code}"
    if len(lines) != 1 or not lines[0].startswith("diffuscope: "):
        return f"{len(lines)} lines"
    if len(lines[0]) > 700:
        return f"{len(lines[0])} characters"
    if not any(name in lines[0] or repr(name)[1:-1] in lines[0] for name in invocation.names):
        return "names nothing that was typed"
    return None


# The files


def make_files(folder: Path) -> dict[str, Path]:
    """Good files, bad ones of every kind, and modules, in `folder`."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60, 8)).clip(-4.9, 4.9).astype(np.float32)
    rows[0, 0], rows[1, 0] = -5, 5
    np.save(folder / "vectors.npy", rows)
    denoiser = Preconditioned(MLP((8,), width=8, depth=1), VE(), 1.0, event_shape=(8,), data_range=(-5.0, 5.0))
    save_denoiser(denoiser, folder / "model.safetensors")
    (folder / "file").write_text("text")
    for name in (
        "report.html",
        "samples.npz",
        "model.safetensors",
        "certificate.json",
        "canaries.npz",
        "heat-1d/result.json",
    ):
        (folder / "blocked" / name).mkdir(parents=True)
    (folder / "odd_models.py").write_text(MODULE)
    (folder / "odd_import.py").write_text("raise RuntimeError('while importing')")
    (folder / "odd_syntax.py").write_text("def f(:\n")
    (folder / "odd_exit.py").write_text("raise SystemExit(0)")
    (folder / "bad").mkdir()
    (folder / "models").mkdir()
    make_bad_arrays(folder / "bad", rows)
    make_bad_folders(folder / "bad")
    make_bad_models(folder / "models", (folder / "model.safetensors").read_bytes())
    names = ("out", "file", "blocked", "bad", "models")
    return {name: folder / name for name in names} | {
        "vectors": folder / "vectors.npy",
        "model": folder / "model.safetensors",
    }


def make_bad_arrays(bad: Path, rows: np.ndarray) -> None:
    """Arrays that no data set can be."""
    whole = npy(rows)
    contents = {
        "empty.npy": b"",
        "cut.npy": whole[:-40],
        "cut-header.npy": whole[:30],
        "text.npy": b"a,b\n1,2\n",
        "magic.npy": b"\x93NUMPY" + bytes(range(200)),
        "version.npy": b"\x93NUMPY\x09\x09" + whole[8:],
        "huge.npy": header((10**12,)),
        "huge-rows.npy": header((10**6, 10**6)) + whole,
        "overflow.npy": header((2**62, 2**62)),
        "negative.npy": header((-5, 8)) + whole,
        "unclosed.npy": whole.replace(b"}", b" "),
        "pickle.npy": b"\x80\x04K\x01.",
        "empty.npz": b"",
        "cut.npz": npz(x=rows)[:-60],
        "text.npz": b"PK but text",
        "flipped.npz": npz(x=rows).replace(rows.tobytes()[:64], bytes(64)),
        "ambiguous.npz": npz(a=rows, b=rows),
        "two.npz": npz(x=rows, images=rows),
        "labels.npz": npz(x=rows, y=np.arange(3)),
        "float-labels.npz": npz(x=rows, y=np.arange(60.0)),
        "none.npz": npz(),
        "huge.npz": zipped({"x.npy": header((10**12,))}),
        "no-array.npz": zipped({"x": b"text", "notes.txt": b"text"}),
        "object.npz": zipped({"x.npy": npy(np.array([{}, 1], dtype=object))}),
        "other.npz": npz(x=rows[:, :5]),
        "cut.h5": b"\x89HDF\r\n\x1a\n" + bytes(50),
        "text.h5": b"text",
        "empty.hdf5": b"",
        "weights.pt": b"\x80\x02}.",
        "data.csv": b"1,2\n",
        "noext": b"text",
        "picture.png": b"\x89PNG",
        "data_batch_1.bin": bytes(100),
        "größe.npy": b"",
    }
    arrays = {
        "object.npy": np.array([{}, 1], dtype=object),
        "nan.npy": np.where(rows > 4.9, np.nan, rows),
        "infinite.npy": np.where(rows > 4.9, np.inf, rows),
        "one-row.npy": rows[:1],
        "no-rows.npy": rows[:0],
        "scalar.npy": np.float32(1),
        "one-axis.npy": rows[0],
        "five-axes.npy": np.zeros((30, 1, 2, 2, 2), np.float32),
        "two-channels.npy": np.zeros((30, 2, 5, 5), np.float32),
        "complex.npy": rows.astype(complex),
        "words.npy": np.array([["a", "b"]] * 30),
        "booleans.npy": rows > 0,
        "dates.npy": np.zeros((30, 4), "datetime64[s]"),
        "records.npy": np.zeros(30, dtype=[("a", "f4")]),
        "doubles.npy": rows.astype(float) * 1e300,
        "integers.npy": (rows * 10).astype(np.int16),
        "constant.npy": np.ones((60, 8), np.float32),
        "few.npy": rows[:3],
        "narrow.npy": rows[:, :5],
    }
    for name, content in contents.items():
        (bad / name).write_bytes(content)
    for name, array in arrays.items():
        (bad / name).write_bytes(npy(array))
    with h5py.File(bad / "huge.h5", "w") as file:
        file.create_dataset("x", shape=(10**9, 1000), dtype="f4", chunks=(1000, 1000))
    with h5py.File(bad / "words.h5", "w") as file:
        file["x"] = ["a", "b"]
    with h5py.File(bad / "groups.h5", "w") as file:
        file.create_group("x")


def make_bad_folders(bad: Path) -> None:
    """Folders, links and a pipe."""
    gray = Image.fromarray(np.zeros((6, 6), np.uint8))
    for name in ("empty", "notes", "sizes", "cut", "clear", "claims", "single", "batches", "folder.npy", "text"):
        (bad / name).mkdir()
    (bad / "notes" / "readme.txt").write_text("no image")
    (bad / "text" / "a.png").write_text("text")
    gray.save(bad / "single" / "a.png")
    gray.save(bad / "sizes" / "a.png")
    gray.resize((5, 6)).save(bad / "sizes" / "b.png")
    Image.fromarray(np.zeros((6, 6, 4), np.uint8)).save(bad / "clear" / "a.png")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(whole, "PNG")
    for name in ("a.png", "b.png"):
        (bad / "cut" / name).write_bytes(whole.getvalue()[:200])
        (bad / "claims" / name).write_bytes(
            whole.getvalue()[:16] + struct.pack(">II", 2**31 - 1, 2**31 - 1) + bytes(40)
        )
    (bad / "batches" / "data_batch_1.bin").write_bytes(bytes(99))
    (bad / "loop.npy").symlink_to(bad / "loop.npy")
    (bad / "gone.npy").symlink_to(bad / "nothing")
    os.mkfifo(bad / "pipe.npy")
    (bad / os.fsdecode(b"caf\xe9.npy")).write_bytes(b"")


def make_bad_models(models: Path, whole: bytes) -> None:
    """Files that hold no model."""
    size = struct.unpack("<Q", whole[:8])[0]
    described = json.loads(whole[8 : 8 + size])["__metadata__"]
    tensors = safetensors.torch.load(whole)
    first = next(iter(tensors))
    contents = {
        "empty.safetensors": b"",
        "cut.safetensors": whole[:-20],
        "head.safetensors": whole[:4],
        "long.safetensors": struct.pack("<Q", 2**60) + whole[8:],
        "text.safetensors": b"text" * 20,
        "bare.safetensors": safetensors.torch.save(tensors),
        "other.safetensors": safetensors.torch.save(tensors, described | {"denoiser": "{"}),
        "list.safetensors": safetensors.torch.save(tensors, described | {"denoiser": "[]"}),
        "lacking.safetensors": safetensors.torch.save({k: v for k, v in tensors.items() if k != first}, described),
        "nan.safetensors": safetensors.torch.save({k: v * torch.nan for k, v in tensors.items()}, described),
        "shapes.safetensors": safetensors.torch.save(tensors | {first: torch.zeros(2)}, described),
        "model.npz": npz(x=np.zeros(3)),
        "model.pt": b"\x80\x02}.",
        "model.bin": whole,
        "noext": whole,
    }
    for name, content in contents.items():
        (models / name).write_bytes(content)
    (models / "folder.safetensors").mkdir()
    (models / "loop.safetensors").symlink_to(models / "loop.safetensors")


def npy(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    """The bytes of a .npz file."""
    content = io.BytesIO()
    np.savez(content, **arrays)  # pyright: ignore[reportArgumentType]
    return content.getvalue()


def header(shape: tuple[int, ...]) -> bytes:
    """The header of a .npy file that claims float32 numbers of this shape."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape!r}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def zipped(members: dict[str, bytes]) -> bytes:
    """The bytes of a zip archive."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, each in members.items():
            archive.writestr(name, each)
    return content.getvalue()
