r"""Examples of 8-bit values, held as bytes and seen as float32, so that they need never lie in memory as floats.

A byte b stands for the value :math:`v_b` of a table of 256 values, the same for all entries: example i is

.. math::  x_i = v[\,\text{bytes}_{r(i)}\,],

where r is the identity or an index, so that a random part of a memory-mapped file is a list of its rows. `ByteExamples`
is a float32 tensor of shape (n, \*event) to all code. What only chooses or arranges examples (slices of the first axis,
`split`, views of the event, an index with much to choose) stays lazy. Every other operation gets float32 values made
for the purpose, if they take at most LARGEST bytes, and raises an error that names it otherwise; `float_parts` takes
the examples part by part. Nothing writes into them.
"""

import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64, UInt8
from torch import Tensor
from torch.utils._pytree import tree_map

from diffuscope.errors import InputError
from diffuscope.memory import chunk_size, ranges

LARGEST = 256 * 2**20  # bytes that the values of one argument of an operation may take as float32
PART = 32 * 2**20  # bytes of float32 values in a part
_LOOKED_UP = 2**20  # values that are looked up at once, through a 32-bit index

aten: Any = torch.ops.aten


class ByteExamples(Tensor):
    """A float32 tensor (n, \\*event) whose entries are bytes, looked up in a table of 256 values when they are used.

    `bytes` are (stored, \\*event), perhaps memory-mapped, in any strides; `index` lists the examples among them, all of
    them by default. Raises InputError for an index out of range.

    >>> import torch
    >>> pictures = torch.tensor([[0, 255], [51, 102]], dtype=torch.uint8)
    >>> x = ByteExamples(pictures, torch.arange(256) / 255)
    >>> x.shape, x.dtype, x[1].tolist()
    (torch.Size([2, 2]), torch.float32, [0.20000000298023224, 0.4000000059604645])
    """

    _stored: Tensor
    _index: Tensor | None
    values: Tensor  # type: ignore[reportIncompatibleMethodOverride]

    def __new__(
        cls,
        bytes: UInt8[Tensor, "stored *event"],
        values: Float32[Tensor, "256"],
        index: Int64[Tensor, " n"] | None = None,
    ) -> "ByteExamples":
        if index is not None and len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(bytes):
            raise InputError(
                f"index: expected places from 0 to {len(bytes) - 1}, got {int(index.min())} .. {int(index.max())}"
            )
        return cls._made(bytes, values, index, tuple(bytes.shape[1:]))

    @classmethod
    def _made(cls, stored: Tensor, values: Tensor, index: Tensor | None, event: tuple[int, ...]) -> "ByteExamples":
        size = (len(stored) if index is None else len(index), *event)
        x = Tensor._make_wrapper_subclass(cls, size, dtype=torch.float32, device=stored.device)  # type: ignore
        x._stored, x.values, x._index = stored, values.detach(), index
        return x

    # results of operations on it are plain tensors, except those below
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        named = [(each, kwargs[each.name]) for each in func._schema.arguments if each.name in kwargs]
        for argument, value in (*zip(func._schema.arguments, args, strict=False), *named):
            if isinstance(value, ByteExamples) and argument.alias_info is not None and argument.alias_info.is_write:
                raise _unwritable(str(func))
        lazy = _LAZY.get(func.overloadpacket)
        if lazy is not None and isinstance(args[0], ByteExamples):
            result = lazy(*args, **kwargs)
            if result is not NotImplemented:
                return result

        def plain(value: Any) -> Any:
            return value._for_operation(str(func)) if isinstance(value, ByteExamples) else value

        return func(*tree_map(plain, args), **tree_map(plain, kwargs))

    @property
    def bytes(self) -> UInt8[Tensor, "n *event"]:
        """The bytes of these examples: a view of what is stored, or, where they are listed by an index, a copy.

        A large copy is refused as floats are; `x[start:stop].bytes` takes a part of any of them.
        """
        if self._index is not None:
            return self._gathered("bytes")
        if self._stored.shape == self.shape:
            return self._stored
        return self._stored.view(self.shape) if self._stored.is_contiguous() else self._gathered("bytes")

    @property
    def scale(self) -> float:
        """s in values[b] = o + s b; InputError where the values are not affine in the byte, up to rounding."""
        return self._affine()[0]

    @property
    def offset(self) -> float:
        """o in values[b] = o + s b; InputError where the values are not affine in the byte, up to rounding."""
        return self._affine()[1]

    def mapped(self, function: Callable[[Tensor], Tensor]) -> "ByteExamples":
        """The same bytes with other values: `function`, elementwise, of the table."""
        return self._made(self._stored, function(self.values.clone()), self._index, tuple(self.shape[1:]))

    def rows(self, index: Int64[Tensor, " rows"]) -> "ByteExamples":
        """The examples at these places, as bytes and not as floats, however few they are."""
        places = torch.where(index < 0, index + len(self), index)
        chosen = places.to(self._stored.device) if self._index is None else self._index[places]
        return self._made(self._stored, self.values, chosen, tuple(self.shape[1:]))

    def floats(self) -> Float32[Tensor, "n *event"]:
        """All values as a plain float32 tensor, of whatever size."""
        flat = self._rows_of_bytes().reshape(-1)
        result = torch.empty(flat.shape, dtype=torch.float32, device=flat.device)
        for start in range(0, len(flat), _LOOKED_UP):
            part = slice(start, start + _LOOKED_UP)
            torch.index_select(self.values, 0, flat[part].int(), out=result[part])
        return result.reshape(self.shape)

    def byte_parts(self, *, rows: int | None = None) -> Iterator[UInt8[Tensor, "part *event"]]:
        """The bytes, as many examples at a time as `float_parts` takes of their values."""
        for start, stop in _ranges(self, rows):
            yield self[start:stop].bytes  # type: ignore

    def _affine(self) -> tuple[float, float, float]:
        """s, o and the largest |o + s b - values[b]|."""
        table = self.values.double()
        scale, offset = float(table[255] - table[0]) / 255, float(table[0])
        line = offset + scale * torch.arange(256, dtype=torch.float64, device=table.device)
        off = float((line - table).abs().max())
        if not off <= 4 * torch.finfo(torch.float32).eps * float(table.abs().max()):
            raise InputError(f"values: expected them affine in the byte, got a table that differs by {off:.3g}")
        return scale, offset, off

    def _rows_of_bytes(self) -> Tensor:
        return self._stored if self._index is None else self._stored[self._index]

    def _gathered(self, operation: str) -> Tensor:
        _require_small(self, operation, 1)
        return self._rows_of_bytes().reshape(self.shape)

    def _for_operation(self, operation: str) -> Tensor:
        _require_small(self, operation, 4)
        return self.floats()

    def __iter__(self) -> Iterator[Tensor]:  # type: ignore
        return (self[i] for i in range(len(self)))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise _unwritable("assignment")

    def numpy(self, *, force: bool = False) -> np.ndarray:  # noqa: ARG002
        return self._for_operation("numpy").cpu().numpy()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.numpy() if dtype is None else self.numpy().astype(dtype)

    def tolist(self) -> list[Any]:
        return self._for_operation("tolist").tolist()

    def __deepcopy__(self, memo: dict[int, Any]) -> "ByteExamples":
        return self  # nothing writes into it

    def __reduce_ex__(self, protocol: Any) -> Any:
        return ByteExamples, (self._rows_of_bytes().reshape(self.shape).clone(), self.values)

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"ByteExamples({tuple(self.shape)}, {float(self.values[0]):g} .. {float(self.values[255]):g})"


def as_floats(x: Float[Tensor, "n *event"]) -> Float[Tensor, "n *event"]:
    """`x` itself, or its plain float32 values if it is held as bytes; InputError for more than LARGEST of these."""
    return x._for_operation("as_floats") if isinstance(x, ByteExamples) else x


def all_floats(x: Float[Tensor, "n *event"]) -> Float[Tensor, "n *event"]:
    """`x` itself, or its plain float32 values, of whatever size, if held as bytes: for what is known to be few."""
    return x.floats() if isinstance(x, ByteExamples) else x


def float_parts(x: Float[Tensor, "n *event"], *, rows: int | None = None) -> Iterator[Float[Tensor, "part *event"]]:
    """The examples as plain tensors, a part of at most PART bytes, or of `rows` examples if these are fewer, at a time.

    >>> [len(part) for part in float_parts(torch.zeros(5, 2), rows=2)]
    [2, 2, 1]
    """
    for start, stop in _ranges(x, rows):
        yield all_floats(x[start:stop])


def floats_at(x: Float[Tensor, "n *event"], places: Int64[Tensor, " m"]) -> Float[Tensor, "m *event"]:
    """The examples at these places as a plain tensor, however many: for those that are needed as floats."""
    return x.rows(places).floats() if isinstance(x, ByteExamples) else x[places]


def _ranges(x: Tensor, rows: int | None) -> Iterator[tuple[int, int]]:
    bounded = chunk_size(PART, each=4 * math.prod(x.shape[1:]))
    step = bounded if rows is None else min(rows, bounded)
    return ranges(len(x), step) if len(x) else iter([(0, 0)])


def _require_small(x: ByteExamples, operation: str, each: int) -> None:
    needed = each * x.numel()
    if needed > LARGEST:
        shape = " x ".join(f"{size:,}" for size in x.shape)
        kind = "float32" if each == 4 else "bytes"
        raise InputError(
            f"{operation}: {shape} values held as bytes would take {needed / 1e9:.3g} GB as {kind}; expected at most "
            f"{LARGEST / 1e9:.3g} GB, or the examples part by part"
        )


def _unwritable(operation: str) -> InputError:
    return InputError(f"{operation}: examples held as bytes cannot be written into; expected their .clone()")


def _small(x: ByteExamples) -> bool:
    return 4 * x.numel() <= LARGEST


def _with(x: ByteExamples, stored: Tensor, index: Tensor | None) -> ByteExamples:
    return x._made(stored, x.values, index, tuple(x.shape[1:]))


def _same(x: ByteExamples, *_: Any, **__: Any) -> ByteExamples:
    return _with(x, x._stored, x._index)


def _sliced(x: ByteExamples, dim: int = 0, start: int | None = None, stop: int | None = None, step: int = 1) -> Any:
    if dim % x.dim():
        whole = (start or 0) == 0 and (stop is None or stop >= x.shape[dim]) and step == 1
        return _same(x) if whole else NotImplemented
    rows = slice(start, stop, step)
    return _with(x, x._stored[rows], None) if x._index is None else _with(x, x._stored, x._index[rows])


def _split_sizes(x: ByteExamples, sizes: list[int], dim: int = 0) -> Any:
    if dim % x.dim():
        return NotImplemented
    ends = np.cumsum([0, *sizes]).tolist()
    return [_sliced(x, 0, start, stop) for start, stop in pairwise(ends)]


def _split(x: ByteExamples, size: int, dim: int = 0) -> Any:
    n = len(x)
    return _split_sizes(x, [stop - start for start, stop in ranges(n, size)] or [0], dim)


def _viewed(x: ByteExamples, size: Any, *_: Any) -> Any:
    shape = list(size)
    if -1 in shape:
        shape[shape.index(-1)] = x.numel() // max(1, -math.prod(shape))
    if not shape or shape[0] != len(x) or math.prod(shape) != x.numel():
        return NotImplemented
    return x._made(x._stored, x.values, x._index, tuple(shape[1:]))


def _selected(x: ByteExamples, dim: int, place: int) -> Any:
    if dim % x.dim():
        return NotImplemented
    start = place % len(x)
    return _sliced(x, 0, start, start + 1)._for_operation("select")[0]


def _chosen(x: ByteExamples, places: Tensor) -> Tensor:
    rows = x.rows(places)
    return rows.floats() if _small(rows) else rows


def _indexed(x: ByteExamples, indices: list[Tensor | None]) -> Any:
    first = indices[0]
    if first is None or any(other is not None for other in indices[1:]):
        return NotImplemented
    if first.dim() != 1:
        made = NotImplemented if first.dtype == torch.bool else _chosen(x, first.long().flatten())
        return made if made is NotImplemented else made.reshape(*first.shape, *x.shape[1:])
    return _chosen(x, first.nonzero()[:, 0] if first.dtype == torch.bool else first.long())


def _index_selected(x: ByteExamples, dim: int, places: Tensor) -> Any:
    return NotImplemented if dim % x.dim() else _chosen(x, places.long())


def _entries(x: ByteExamples, dim: int, places: Tensor, *_: Any, **__: Any) -> Any:
    """Of rows, the entry j of another example for every j."""
    if x.dim() != 2 or dim % 2 or 4 * places.numel() > LARGEST:
        return NotImplemented
    rows = places if x._index is None else x._index[places]
    columns = torch.unravel_index(torch.arange(places.shape[1], device=places.device), x._stored.shape[1:])
    return x.values[x._stored[(rows, *columns)].int()]


def _copied(x: ByteExamples, **_: Any) -> Any:
    return NotImplemented if _small(x) else _same(x)


def _moved(x: ByteExamples, *, dtype: Any = None, device: Any = None, **_: Any) -> Any:
    if _small(x) or dtype not in (None, torch.float32):
        return NotImplemented
    stored = x._gathered("to")
    return x._made(stored.to(device), x.values.to(device), None, tuple(x.shape[1:]))


def _equal(x: ByteExamples, other: Tensor) -> bool:
    if x.shape != other.shape:
        return False
    parts = zip(float_parts(x), float_parts(other), strict=True)
    return all(torch.equal(one, two) for one, two in parts)


def _new(name: str) -> Callable[..., Any]:
    def made(x: ByteExamples, *args: Any, **kwargs: Any) -> Tensor:
        return getattr(aten, name)(torch.empty(0, device=x.device), *args, **kwargs)

    return made


_LAZY: dict[Any, Callable[..., Any]] = {
    aten.detach: _same,
    aten.alias: _same,
    aten.lift_fresh: _same,
    aten.slice: _sliced,
    aten.split: _split,
    aten.split_with_sizes: _split_sizes,
    aten.view: _viewed,
    aten._unsafe_view: _viewed,
    aten._reshape_alias: _viewed,
    aten.select: _selected,
    aten.index: _indexed,
    aten.index_select: _index_selected,
    aten.gather: _entries,
    aten.clone: _copied,
    aten._to_copy: _moved,
    aten.equal: _equal,
    **{getattr(aten, name): _new(name) for name in ("new_empty", "new_zeros", "new_ones", "new_full")},
}
