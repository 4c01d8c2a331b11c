"""A program of two processes: audits whose work they share, and the same audits, each made by one process alone.

Process r writes found{r}.json in the folder.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffuscope.audit import Settings, Subject, audit_model, audit_samples, questions, shared_neighbors
from diffuscope.audit.latents import Encoder, encode_data
from diffuscope.byte_examples import ByteExamples
from diffuscope.data import DataSet
from diffuscope.denoisers import ExactDenoiser
from diffuscope.distributed import alone, made_by_all, of_process_0, process_group, rank
from diffuscope.exact import two_moons
from diffuscope.schedules import VE

SMALL = Settings(levels=4, points=40, generated=150, trajectories=8, components=2, step_seeds=8,
                 features=("pixels",))  # fmt: skip
COUNT, SIDE = 150, 6
ASKED = ("memorized", "diversity", "generalizes")  # those that search


def drawn(n: int, seed: int) -> Tensor:
    """Smooth pictures as bytes, of which every tenth is a copy of the one before."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 1, 3, 3, generator=generator).repeat_interleave(2, 2).repeat_interleave(2, 3)
    pictures = (128 + 40 * coarse + 6 * torch.randn(n, 1, SIDE, SIDE, generator=generator)).round().clamp(0, 255)
    pictures[9::10] = pictures[8::10]
    return pictures.to(torch.uint8)


def pictures() -> tuple[DataSet, Tensor]:
    """Data held as bytes; samples, some of which are training examples."""
    values = torch.linspace(-1, 1, 256)
    train, heldout = (ByteExamples(drawn(COUNT, seed), values) for seed in (0, 1))
    places = torch.arange(2 * COUNT)
    data = DataSet("pictures", train, heldout, (-1.0, 1.0), "drawn", places[:COUNT], places[COUNT:], kind="images")
    samples = values[drawn(COUNT, 2).int()]
    samples[:10] = train[torch.arange(10)]
    return data, samples


def of_bytes(folder: Path) -> dict[str, Any]:
    data, samples = pictures()
    return audit_samples(samples, data, SMALL, out=folder).as_json()


def encode(x: Tensor) -> Tensor:
    """Means of four quarters."""
    return torch.nn.functional.avg_pool2d(x, SIDE // 2)


def of_latents(folder: Path) -> dict[str, Any]:
    data, samples = pictures()
    encoder = Encoder(name="shared_audits:encode", found=encode, encode=encode, decode=None)
    # a command encodes in process 0 alone: two that write the same file at once take it from each other
    latents = encode_data(encoder, data, samples, folder / f"latents-{rank()}")
    within, originals = latents.in_range(latents.data)
    assert within is not None
    return audit_samples(within, latents.data, SMALL, out=folder, originals=originals).as_json()


class OneStep:
    """Noise to the nearest of a few points, as a one-step model might."""

    schedule = VE(0.01, 50.0)
    one_step, event_shape = True, (2,)
    points = two_moons().sample(400, generator=torch.Generator().manual_seed(3)).float()

    def __call__(self, x_t: Tensor, t: Any) -> Tensor:
        del t
        chosen = (x_t.double().sum(1) * 1e4).long() % len(self.points)
        return self.points[chosen] + 0.001 * x_t / 50


def moons(model: Any) -> Subject:
    x = two_moons().sample(300, generator=torch.Generator().manual_seed(0)).float()
    return Subject(model, x[:150], x[150:])


def of_one_step(folder: Path) -> dict[str, Any]:
    return audit_model(moons(OneStep()), SMALL, out=folder).as_json()


def of_model(folder: Path) -> dict[str, Any]:
    model = ExactDenoiser(two_moons(), VE(0.01, 50.0))
    return audit_model(moons(model), SMALL, out=folder).as_json()


def counted(name: str, calls: list[int]) -> None:
    """Let `shared_neighbors` count its calls of a search that all processes share."""
    search = getattr(shared_neighbors, name)

    def counting(*args: Any) -> Any:
        calls.append(1)
        return search(*args)

    setattr(shared_neighbors, name, counting)


def line(act: Callable[[], object]) -> str:
    """The error that it ends with."""
    try:
        act()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "no error"


def crash(where: str) -> None:
    """An error of one process alone, which is not the user's."""
    if os.environ["RANK"] == where:
        raise KeyError("a mistake")


class Drawn(torch.nn.Module):
    """A model whose weights are not the same in all processes."""

    schedule = VE(0.01, 50.0)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(float(os.environ["RANK"])))

    def forward(self, x_t: Tensor, t: Any) -> Tensor:
        del t
        return x_t * (1 - 1e-6 * self.weight)


def main(folder: Path, cases: Sequence[Callable[[Path], dict[str, Any]]]) -> None:
    torch.set_num_threads(1)
    questions.QUESTIONS = [each for each in questions.QUESTIONS if each.name in ASKED]
    own, calls, found = os.environ["RANK"], list[int](), dict[str, Any]()
    shared_neighbors.FEW = 0  # every search is shared
    for name in ("sharded_neighbors", "sharded_other_neighbors"):
        counted(name, calls)
    with process_group():
        for case in cases[int(own) :: 2]:
            with alone():
                found[f"{case.__name__} alone"] = case(folder / "alone" / case.__name__)
        assert not calls
        for case in cases:
            made = case(folder / "shared" / case.__name__)
            found[case.__name__] = {"shared": made, "searches": len(calls)}
            calls.clear()
        seed, many = int(own), replace(SMALL, generated=20)
        found["seeds"] = line(lambda: audit_model(moons(ExactDenoiser(two_moons(), VE())), replace(many, seed=seed)))
        found["weights"] = line(lambda: audit_model(moons(Drawn()), many))
        found["crash of 0"] = line(lambda: of_process_0(lambda: crash("0")))
        found["crash of 1"] = line(lambda: made_by_all(lambda: crash("1")))
        (folder / f"found{own}.json").write_text(json.dumps(found))
