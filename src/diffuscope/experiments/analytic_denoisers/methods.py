"""The methods of the comparison: every analytic denoiser of the library, and the shortcuts of published code."""

from dataclasses import dataclass

import torch
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.denoisers.analytic import (
    Smoothed,
    WienerMasks,
    boundary_equivariant_score,
    equivariant_score,
    local_score,
    masked_score,
    patch_composition,
    pca_local_score,
)
from diffuscope.exact import Empirical, Gaussian
from diffuscope.streams import torch_stream

from .peers import NearestOnly, PerBatch
from .protocol import Choice, Method, Subject

CHUNK = 4096  # images
SHORTCUTS = {"empirical, nearest": "empirical", "empirical, per batch": "empirical"}
SHORTCUTS |= {"local, per batch": "local", "PCA-local, per batch": "PCA-local"}


@dataclass(frozen=True)
class Sizes:
    """What the methods are run with: candidates to choose from, and how much the costly ones are given."""

    windows: tuple[int, ...]  # of a local patch, odd
    crops: tuple[int, ...]
    shares: tuple[float, ...]  # of the energy of a Wiener filter's row
    smoothings: tuple[float, ...]  # for data in [-1, 1]
    draws: int
    nearest: int
    batch: int
    costly_images: int  # training images of the equivariant scores
    costly_queries: int


def all_methods(sizes: Sizes) -> list[Method]:
    """The exact methods, then the shortcuts, in the order of the tables."""
    few = sizes.costly_queries
    half = max(size for size in sizes.windows if size <= max(sizes.crops))  # of windows that fit into an image

    def boundary(of: Subject, size: Choice) -> Denoiser:
        return boundary_equivariant_score(of.train[: sizes.costly_images], of.network.schedule, int(size))

    def equivariant(of: Subject, size: Choice) -> Denoiser:
        return equivariant_score(of.train[: sizes.costly_images], of.network.schedule, min(int(size), half))

    def smoothed(of: Subject, smoothing: Choice) -> Denoiser:
        generator = torch_stream(0, "analytic-denoisers", "smoothed")
        schedule, smoothing = of.network.schedule, smoothing * of.unit
        return Smoothed(of.train, schedule, smoothing=smoothing, draws=sizes.draws, generator=generator)

    def nearest(of: Subject, _: Choice) -> Denoiser:
        return NearestOnly(of.train, of.network.schedule, sizes.nearest)

    def batches(of: Subject) -> tuple[Tensor, ...]:
        return of.train[: len(of.train) // sizes.batch * sizes.batch].split(sizes.batch)

    def empirical_per_batch(of: Subject, _: Choice) -> Denoiser:
        return PerBatch([ExactDenoiser(Empirical(part), of.network.schedule) for part in batches(of)])

    def local_per_batch(of: Subject, size: Choice) -> Denoiser:
        return PerBatch([local_score(part, of.network.schedule, int(size)) for part in batches(of)])

    def pca_per_batch(of: Subject, share: Choice) -> Denoiser:
        masks = WienerMasks(gaussian_of(of), share)
        return PerBatch([masked_score(part, of.network.schedule, masks) for part in batches(of)])

    return [
        Method("mean", mean),
        Method("Wiener", wiener),
        Method("empirical", empirical),
        Method("smoothed", smoothed, sizes.smoothings),
        Method("local", local, sizes.windows),
        Method("boundary", boundary, images=few, like="local"),
        Method("equivariant", equivariant, images=few, like="local"),
        Method("composition", composition, sizes.crops),
        Method("PCA-local", pca_local, sizes.shares),
        Method("empirical, nearest", nearest),
        Method("empirical, per batch", empirical_per_batch),
        Method("local, per batch", local_per_batch, like="local"),
        Method("PCA-local, per batch", pca_per_batch, like="PCA-local"),
    ]


def gaussian_of(of: Subject) -> Gaussian:
    """Mean and covariance of the training images."""
    return Gaussian.fit(of.train.split(CHUNK))


def mean(of: Subject, _: Choice) -> Denoiser:
    """The mean of the data, whatever the image."""
    return ExactDenoiser(Gaussian.isotropic(of.train.mean(0, dtype=torch.float64), 0.0), of.network.schedule)


def wiener(of: Subject, _: Choice) -> Denoiser:
    """The denoiser of the Gaussian: the Wiener filter."""
    return ExactDenoiser(gaussian_of(of), of.network.schedule)


def empirical(of: Subject, _: Choice) -> Denoiser:
    """The posterior mean over the training images."""
    return ExactDenoiser(Empirical(of.train), of.network.schedule)


def local(of: Subject, size: Choice) -> Denoiser:
    """Windows at the same place."""
    return local_score(of.train, of.network.schedule, int(size))


def composition(of: Subject, size: Choice) -> Denoiser:
    """Crops at the same place, averaged where they overlap."""
    return patch_composition(of.train, of.network.schedule, int(size))


def pca_local(of: Subject, share: Choice) -> Denoiser:
    """Masks of the Wiener filter."""
    return pca_local_score(of.train, of.network.schedule, share=share)
