r"""Transformations of images under which a copy is still a copy: mirror images, small shifts and rotations, brightness.

The distance from an image x to a training example y modulo a set of transformations T is

.. math::  \min_T |\,s(T x) - s(y)\,|, \qquad s(x) = \frac{x - \bar x}{|x - \bar x|},

where s removes brightness and contrast (it is the identity if "brightness" is not in the set). T runs over all products
of one version from each transformation, such as a mirror image, rotated by 5 degrees, one pixel lower.

Larger images are first averaged over blocks (`averaged`): which image is copied is seen there as well, and 250 versions
of a larger one would take hours. A pixel is then one of these.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from diffuscope.errors import InputError
from diffuscope.files import load_object

BRIGHTNESS = "brightness"
NAMES = ("mirror", "rotation", "shift", BRIGHTNESS)
ANGLES = (0.0, -5.0, -2.5, 2.5, 5.0)
LARGEST_SHIFT = 2  # pixels, and at most an eighth of the side
TAPS = (-1 / 16, 9 / 16, 9 / 16, -1 / 16)  # of the cubic halfway between two pixels
LEAST_SIDE = 4  # of an image, in pixels
LARGEST, SIDE = 4096, 32  # larger images are compared as averages of so many pixels along each side, at most
Images = Float[Tensor, "n channels height width"]
Versions = Float[Tensor, "n versions channels height width"]


@dataclass(frozen=True, kw_only=True)
class Transformation:
    """A finite set of maps, among them the identity, whose label is "". `versions` applies all of them at once.

    `probes` are the versions under which candidates are searched as well, because the invariant representation of
    `alignment` changes under them; `finer` is a transformation of smaller steps, to be tried after the best version.
    """

    name: str
    labels: tuple[str, ...] = ("",)
    versions: Callable[[Images], Versions] = field(default=lambda x: x[:, None], repr=False)
    probes: tuple[int, ...] = (0,)
    finer: "Transformation | None" = field(default=None, repr=False)


def transformations(names: Sequence[str], shape: Sequence[int]) -> list[Transformation]:
    """The transformations called `names`, for events of this shape; none for events that are not images.

    A name is one of NAMES ("brightness" is a matter of `standardized` and has no versions) or `module:function`, which
    maps a batch of images to a batch of the same shape; "none" alone is none. Raises InputError for another name, and
    for a function that does not do so.
    """
    names = [] if list(names) == ["none"] else names
    made = {"mirror": _mirror, "shift": _shift, "rotation": _rotation}
    for name in names:
        if name not in NAMES and ":" not in name:
            raise InputError(
                f"transformations: expected {', '.join(NAMES)}, module:function or, alone, none, got {name!r}"
            )
    if not is_image(shape):
        return []
    found = []
    for name in sorted(dict.fromkeys(names), key=lambda name: name == "shift"):  # the most versions come last, cheaply
        if name == BRIGHTNESS:
            found.append(Transformation(name=name))
        else:
            found.append(made[name](shape) if name in made else _custom(name))
    return found


def is_image(shape: Sequence[int]) -> bool:
    """Whether events of this shape, (channels, height, width), are gray or color images."""
    return len(shape) == 3 and shape[0] in (1, 3) and min(shape[1:]) >= LEAST_SIDE


def versions(images: Images, chosen: Sequence[Transformation]) -> Versions:
    """Every product of versions, in the order of `labels`."""
    result = images[:, None]
    for transformation in chosen:
        result = transformation.versions(result.flatten(0, 1)).flatten(0, 1).unflatten(0, (len(images), -1))
    return result


def labels(chosen: Sequence[Transformation]) -> list[str]:
    """What the products are called; "" is the identity."""
    return [", ".join(filter(None, parts)) for parts in product(*(t.labels for t in chosen))]


def averaged(images: Float[Tensor, "n *event"]) -> Float[Tensor, "n *smaller"]:
    """Images of more than LARGEST values averaged over blocks, to at most SIDE pixels along each side; others as they
    are.

    >>> averaged(torch.ones(2, 3, 64, 128)).shape, averaged(torch.ones(2, 3, 32, 32)).shape
    (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 32, 32]))
    """
    shape = averaged_shape(images.shape[1:])
    if shape == tuple(images.shape[1:]):
        return images
    return functional.adaptive_avg_pool2d(images, (shape[1], shape[2]))


def averaged_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """The shape of `averaged` images of this one."""
    if len(shape) != 3 or math.prod(shape) <= LARGEST:
        return tuple(shape)
    return (shape[0], *(min(SIDE, side) for side in shape[1:]))


def standardized(rows: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """Rows of mean 0 and norm 1; a constant row becomes 0."""
    centered = rows - rows.mean(1, keepdim=True)
    norm = centered.norm(dim=1, keepdim=True)
    # what is left of a constant row is rounding error
    constant = norm <= 1e-5 * rows.norm(dim=1, keepdim=True)
    centered /= norm
    centered[constant[:, 0]] = 0.0  # also where it was 0 / 0
    return centered


def all_shifts(images: Images, reach: int) -> Versions:
    """Moved down by reach, ..., -reach pixels, and for each of these right by as many; the border is repeated."""
    return _windows(images, reach).flatten(1, 2)


def shifted(images: Images, reach: int, version: Int[Tensor, " n"]) -> Images:
    """Of each image one of `all_shifts`, without the others."""
    across = 2 * reach + 1
    return _windows(images, reach)[torch.arange(len(images)), version // across, version % across]


def _windows(images: Images, reach: int) -> Float[Tensor, "n down right channels height width"]:
    height, width = images.shape[2:]
    padded = functional.pad(images, (reach,) * 4, mode="replicate")
    return padded.unfold(2, height, 1).unfold(3, width, 1).permute(0, 2, 3, 1, 4, 5)


def rotated(images: Images, degrees: float) -> Images:
    """Rotated about the center, interpolated by cubics; the border is repeated into what becomes free."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=images.dtype))
    aspect = images.shape[2] / images.shape[3]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros((), dtype=images.dtype)
    matrix = torch.stack([torch.stack([cos, -sin * aspect, zero]), torch.stack([sin / aspect, cos, zero])])
    grid = functional.affine_grid(matrix.expand(len(images), 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bicubic", padding_mode="border", align_corners=False)


def largest_shift(shape: Sequence[int]) -> int:
    """In pixels."""
    return min(LARGEST_SHIFT, min(shape[1:]) // 8)


def _mirror(shape: Sequence[int]) -> Transformation:
    del shape
    return Transformation(name="mirror", labels=("", "mirrored"), versions=lambda x: torch.stack([x, x.flip(3)], 1))


def _rotation(shape: Sequence[int]) -> Transformation:
    del shape
    names = ("", *(f"rotated by {degrees:g}°" for degrees in ANGLES[1:]))
    return Transformation(
        name="rotation",
        labels=names,
        versions=lambda x: torch.stack([x, *(rotated(x, degrees) for degrees in ANGLES[1:])], 1),
        probes=(0, 1, len(ANGLES) - 1),
    )


def _shift(shape: Sequence[int]) -> Transformation:
    reach = largest_shift(shape)

    def halves(x: Images) -> Versions:
        moved = [_half_shifted(x, 2, down) for down in (0, 1, -1)]
        return torch.stack([_half_shifted(y, 3, right) for y in moved for right in (0, 1, -1)], 1)

    steps = [(down, right) for down in (0.0, 0.5, -0.5) for right in (0.0, 0.5, -0.5)]
    finer = Transformation(name="half-pixel shift", labels=_shift_labels(steps), versions=halves)
    whole = [(down, right) for down in range(reach, -reach - 1, -1) for right in range(reach, -reach - 1, -1)]
    middle = whole.index((0, 0))
    return Transformation(
        name="shift",
        labels=_shift_labels(whole),
        versions=lambda x: all_shifts(x, reach),
        probes=(middle,),
        finer=finer,
    )


def _shift_labels(steps: Sequence[tuple[float | int, float | int]]) -> tuple[str, ...]:
    return tuple(f"shifted by ({down:g}, {right:g})" if down or right else "" for down, right in steps)


def _half_shifted(images: Images, axis: int, step: int) -> Images:
    """Moved by half a pixel along an axis, forward or backward or (0) not at all; interpolated by cubics."""
    if not step:
        return images
    before, after = (2, 1) if step > 0 else (1, 2)
    pad = (0, 0, before, after) if axis == 2 else (before, after, 0, 0)
    padded, size = functional.pad(images, pad, mode="replicate"), images.shape[axis]
    moved = padded.narrow(axis, 0, size) * TAPS[0]
    for k in (1, 2, 3):
        moved += padded.narrow(axis, k, size) * TAPS[k]
    return moved


def _custom(name: str) -> Transformation:
    function = load_object(name, "transformations")
    if not callable(function):
        raise InputError(f"transformations: {name} is a {type(function).__name__}, expected a function")

    def both(x: Images) -> Versions:
        with torch.no_grad():
            result = torch.as_tensor(function(x.clone()))
        if result.shape != x.shape or not bool(torch.isfinite(result).all()):
            raise InputError(
                f"transformations: {name} must map a batch to finite values of its shape {tuple(x.shape)}, "
                f"got {tuple(result.shape)}"
            )
        return torch.stack([x, result.to(x.dtype)], 1)

    return Transformation(name=name, labels=("", name), versions=both, probes=(0, 1))
