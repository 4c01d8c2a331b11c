"""An audit in a latent space: data, held-out data and samples are encoded before anything else.

An encoder is an object with `encode(x)`, which maps a batch of examples, in the range of the data, to finite latents of
one shape; with `decode(z)` it also makes pictures of latents. A function is an encoder alone. Both are called with
batches, without gradients, modules in evaluation mode. Latents are kept on disk, under the code of the encoder and its
tensors.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.byte_examples import float_parts
from diffuscope.data import DataSet
from diffuscope.data.value_range import Range, rescaled
from diffuscope.errors import InputError
from diffuscope.files import load_object
from diffuscope.progress import progress_bar
from diffuscope.store import Arrays, Store

from .features import evaluating
from .fingerprint import digest, object_digest
from .originals import Originals

BATCH, PART = 64, 4096  # examples in one call, and in one file of the store
Examples = Float[Tensor, "n *event"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Encoder:
    """An object of the user's: `encode`, and `decode` where it has one."""

    name: str
    found: Any = field(repr=False)
    encode: Callable[[Any], Any] = field(repr=False)
    decode: Callable[[Any], Any] | None = field(repr=False)

    @property
    def code(self) -> str:
        """What identifies its code and its tensors."""
        return object_digest(self.name, self.found)


def load_encoder(name: str) -> Encoder:
    """The encoder `module:object`; InputError for a class, and for an object without `encode` that is no function."""
    found = load_object(name, "encode")
    if isinstance(found, type):
        raise InputError(f"encode: {name} is a class, expected an instance of it or a function")
    encode, decode = getattr(found, "encode", found), getattr(found, "decode", None)
    if not callable(encode) or (encode is found and decode is not None):
        raise InputError(f"encode: expected {name} to have encode(x), or to be a function, got {type(found).__name__}")
    if decode is not None and not callable(decode):
        raise InputError(f"encode: expected decode(z) of {name} to be a method, got {type(decode).__name__}")
    return Encoder(name=name, found=found, encode=encode, decode=decode)


@dataclass(frozen=True, kw_only=True, eq=False)
class Latents:
    """A data set and samples as latents, and what they are latents of."""

    data: DataSet
    samples: Examples | None = field(repr=False)
    pictures: DataSet
    sample_pictures: Float[Tensor, "n *picture"] | None = field(repr=False)
    encoder: Encoder

    def in_range(self, data: DataSet) -> tuple[Examples | None, Originals]:
        """The samples in the range of `data`, which are the latents in another range, and the originals of both."""
        ranges = self.data.data_range, data.data_range
        return None if self.samples is None else _mapped(self.samples, *ranges), Originals(
            train=self.pictures.train,
            heldout=self.pictures.heldout,
            samples=self.sample_pictures,
            decode=None if self.encoder.decode is None else partial(self._decoded, data.data_range),
        )

    def _decoded(self, data_range: Range, z: Float[Tensor, "n *latent"]) -> Float[Tensor, "n *picture"]:
        latents = _mapped(z, data_range, self.data.data_range)
        return _batched(self.encoder, "decode", latents, self.pictures.event_shape)


def encode_data(
    encoder: Encoder, data: DataSet, samples: Examples | None, out: Path | None, *, progress: bool = False
) -> Latents:
    """The latents of data and samples, which are in the range of the data; those that `out` keeps are not made again.

    The range of the latents is that of the data's. Raises InputError for tables, and for an encoder whose latents are
    not finite, all the same, or not of one shape.
    """
    if data.table is not None:
        raise InputError("encode: expected data that are no table, whose columns have distances of their own")
    store, code = Store(out, {"encoder": encoder.code}), encoder.code[:16]
    given = [data.train, data.heldout, *([] if samples is None else [samples])]
    shape: tuple[int, ...] | None = None
    made: list[Tensor] = []
    with progress_bar(desc="encode", unit="example", total=sum(map(len, given)), disable=not progress) as bar:
        for x in given:
            parts = []
            for part in x.split(PART):
                compute = partial(_arrays, encoder, part, shape)
                parts.append(torch.from_numpy(store.remember(f"latents-{code}-{digest(part)[:16]}", compute)["z"]))
                shape = tuple(parts[-1].shape[1:])
                bar.update(len(part))
            made.append(torch.cat(parts))
    low, high = _limits(made[:2])
    if not low < high:
        raise InputError(f"encode: expected latents that vary from {encoder.name}, got {low:g} everywhere")
    latent = replace(
        data,
        train=made[0],
        heldout=made[1],
        data_range=(low, high),
        kind="latents",
        units_known=False,
        provenance=f"{data.provenance}; latents of shape {tuple(made[0].shape[1:])} made by {encoder.name}",
    )
    return Latents(
        data=latent,
        samples=made[2] if samples is not None else None,
        pictures=data,
        sample_pictures=samples,
        encoder=encoder,
    )


def _mapped(z: Examples, old: Range, new: Range) -> Examples:
    return z if old == new else rescaled(z, old, new)  # rounding would tell copies from their originals


def _limits(parts: list[Tensor]) -> tuple[float, float]:
    return min(float(z.min()) for z in parts) + 0.0, max(float(z.max()) for z in parts) + 0.0  # no -0


def _arrays(encoder: Encoder, x: Examples, shape: tuple[int, ...] | None) -> Arrays:
    return {"z": _batched(encoder, "encode", x, shape).numpy()}


def _batched(encoder: Encoder, way: str, x: Examples, shape: tuple[int, ...] | None) -> Float[Tensor, "n *other"]:
    """encode(x) or decode(x) in batches, of the `shape` that is known; InputError for whatever is no batch of rows."""
    function, made = getattr(encoder, way), []
    what = f"encode: {way} of {encoder.name} must return"
    for part in float_parts(x, rows=BATCH):
        with torch.no_grad(), evaluating(encoder.found):
            z = function(part)
        if not isinstance(z, Tensor | np.ndarray):
            raise InputError(f"{what} a tensor or an array, got {type(z).__name__}")
        z = torch.as_tensor(z).detach().cpu()
        if z.ndim < 2 or len(z) != len(part) or 0 in z.shape:
            raise InputError(f"{what} {len(part)} rows for as many examples, got shape {tuple(z.shape)}")
        shape = shape or tuple(z.shape[1:])
        if tuple(z.shape[1:]) != shape:
            raise InputError(f"{what} examples of shape {shape}, got {tuple(z.shape[1:])}")
        if z.is_complex() or not bool(torch.isfinite(z).all()):
            raise InputError(f"{what} finite numbers, got {'complex ones' if z.is_complex() else 'NaN or infinity'}")
        made.append(z.float())
    return torch.cat(made)
