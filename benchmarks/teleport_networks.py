r"""Does the Gaussian jump help published MNIST networks at few evaluations? Five solvers, with and without it.

Every solver starts from the same noise at the network's highest level and spends the same number of evaluations (NFE,
the last denoise included) on model times equal in (sigma/alpha)^(1/7): from the highest level down, or, after the jump
with the mean and covariance of the 60,000 training images, from the level of the jump down (protocol B, `reallocate`;
multistep methods begin with the Gaussian's history, as `Teleported` does). NFE are odd, as Heun's are.

The distance is the Frechet distance to the 10,000 test images in the whitened hidden layer (32 features) of the audit's
classifier (`audit.classifier`, fitted to 10,000 training images). The samples come in BATCHES independent batches;
value and standard error, also of the *paired* difference, are by the jackknife over batches. The bias of the distance,
about the same constant in every cell, mostly cancels in the differences.

The level of the jump is not chosen by these distances. It is where a jump is due by the errors on clean test images:
the lowest of LEVELS at which the network does not denoise better than the Gaussian by more than MARGIN of its error.

    python benchmarks/teleport_networks.py [noise_unet flow_transformer noise_cnn] [--samples 1000] [--levels 2 5 10]

Needs MNIST and the published weights in the folder that DIFFUSCOPE_DATA names.
"""

import argparse
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from diffuscope.audit.classifier import ClassifierFeatures, fit_classifier
from diffuscope.data import DataSet, load_data
from diffuscope.denoisers import Denoiser, load_callable
from diffuscope.exact import Gaussian
from diffuscope.findings import Repeated, frechet_distance, jackknife
from diffuscope.samplers import (
    DDIM,
    DPMSolverPP2M,
    Heun,
    NoiseAdamsBashforth,
    Sampler,
    Teleported,
    UniPC,
    finish,
    model_times,
    times_at,
)

SOLVERS: dict[str, Sampler] = {
    "DDIM": DDIM(),
    "Heun": Heun(),
    "DPM-Solver++ 2M": DPMSolverPP2M(),
    "UniPC": UniPC(),
    "DEIS 3": NoiseAdamsBashforth(3),
}
BUDGETS, BATCHES = (5, 7, 9), 10
LEVELS = (0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 40.0)  # sigma/alpha, for data in [0, 1]
MARGIN, IMAGES = 0.05, 1000
LOWEST = 0.02  # sigma/alpha of the last denoise, for data in [0, 1]


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1] / "docs" / "examples"))
    parser = argparse.ArgumentParser(description=str(__doc__), formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", default=["noise_unet", "flow_transformer"])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument(
        "--levels", type=float, nargs="*", help="of the jump, for data in [0, 1]; by default the rule's"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.networks:
        network = load_callable(f"published_networks.{name}:denoiser")
        measured(name, network, arguments.samples, arguments.levels)


def measured(name: str, network: Denoiser, samples: int, levels: list[float] | None) -> None:
    """Print the errors by level, and the distances of every solver with and without the jump."""
    data = load_data("mnist").in_range(*network.data_range)  # type: ignore[attr-defined]
    width = data.data_range[1] - data.data_range[0]
    gaussian = Gaussian.fit(data.train.split(4096))
    rule = width * worse_above(name, network, gaussian, data, width)
    features = classifier(data)
    real = features(data.heldout)
    train = frechet_distance(features(data.train[:samples]), real)
    print(
        f"\n{name}: classifier {features.accuracy:.1%} right; {samples} training images are at "
        f"{train.value:.3f} ± {train.standard_error:.3f}"
    )
    draw = torch.Generator().manual_seed(1)
    noise = torch.randn(samples, *data.event_shape, generator=draw)
    print("| solver | NFE | jump to | without | with | difference | standard errors | s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for level in [rule] if levels is None else [width * level for level in levels]:
        better = dict.fromkeys(BUDGETS, 0)
        for solver, sampler in SOLVERS.items():
            for nfe in BUDGETS:
                start, steps = time.process_time(), (nfe - 1) // (sampler.nfe_per_step or 1)
                plain = features(generated(network, sampler, noise, steps, None, gaussian, LOWEST * width))
                jumped = features(generated(network, sampler, noise, steps, level, gaussian, LOWEST * width))
                without, with_jump, gain = distances(plain, jumped, real)
                better[nfe] += gain.significance > 2
                print(
                    f"| {solver} | {nfe} | {level:.3g} | {without.mean:.3f} ± {without.error:.3f} "
                    f"| {with_jump.mean:.3f} ± {with_jump.error:.3f} | {gain.mean:+.3f} "
                    f"| {gain.significance:+.1f} | {time.process_time() - start:.0f} |",
                    flush=True,
                )
        counts = ", ".join(f"{count} of {len(SOLVERS)} at NFE {nfe}" for nfe, count in better.items())
        print(f"{name}, jump to {level:.3g}: better beyond two standard errors for {counts}", flush=True)


def generated(
    network: Denoiser,
    sampler: Sampler,
    noise: Tensor,
    steps: int,
    level: float | None,
    gaussian: Gaussian,
    lowest: float,
) -> Tensor:
    """Samples in the network's range: `steps` steps of the sampler, below the jump if there is one, and a denoise."""
    times = model_times(network, steps, low=lowest)
    x_start = float(network.schedule.sigma(times[0])) * noise
    if level is None:
        return finish(network, sampler, x_start, times)
    below = model_times(network, steps, high=level, low=lowest)
    jump = Teleported(sampler, gaussian, float(network.schedule.noise_to_signal(below[0])))
    return finish(network, jump, x_start, torch.cat([times[:1], below]))


def distances(plain: Tensor, jumped: Tensor, real: Tensor) -> tuple[Repeated, Repeated, Repeated]:
    """Frechet distances without and with the jump, and by how much the jump is nearer; jackknife over batches."""
    parts = torch.arange(len(plain)).chunk(BATCHES)

    def both(kept: Tensor) -> tuple[float, float]:
        rows = torch.cat([parts[batch] for batch in kept.tolist()])
        return frechet_distance(plain[rows], real).value, frechet_distance(jumped[rows], real).value

    kept_sets: dict[tuple[int, ...], tuple[float, float]] = {}

    def value(kept: Tensor, column: int) -> Tensor:
        key = tuple(kept.tolist())
        if key not in kept_sets:
            kept_sets[key] = both(kept)
        a, b = kept_sets[key]
        return torch.tensor((a, b, a - b)[column], dtype=torch.float64)

    without, with_jump, gain = (jackknife(lambda kept, c=c: value(kept, c), len(parts)) for c in range(3))
    return without, with_jump, gain


def worse_above(name: str, network: Denoiser, gaussian: Gaussian, data: DataSet, width: float) -> float:
    """The level of the jump, for data in [0, 1]; prints errors per pixel of the network and of exact models."""
    x_0 = data.heldout[:IMAGES]
    noise = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(0))
    mean = (gaussian.mean - x_0).square().mean()
    print(f"\n{name}: error per pixel on {IMAGES} test images, range 1; the mean image {mean / width**2:.4f}")
    print("| sigma/alpha | network | Gaussian | network / Gaussian |")
    print("|--:|--:|--:|--:|")
    ratios = []
    for level in LEVELS:
        (t,) = times_at(network, torch.tensor([level * width], dtype=torch.float64))
        alpha, sigma = float(network.schedule.alpha(t)), float(network.schedule.sigma(t))
        x_t = alpha * x_0 + sigma * noise
        with torch.no_grad():
            own = torch.cat([network(rows, t) for rows in x_t.split(256)])
        errors = [float((D - x_0).square().mean()) for D in (own, gaussian.denoise(x_t, alpha, sigma))]
        ratios.append(errors[0] / errors[1])
        print(f"| {level:g} | {errors[0] / width**2:.4f} | {errors[1] / width**2:.4f} | {ratios[-1]:.3f} |", flush=True)
    above = [level for level, ratio in zip(LEVELS, ratios, strict=True) if ratio > 1 - MARGIN]
    print(f"the network is no better than the Gaussian (by {MARGIN:.0%}) at {above}; jump to {above[0]:g}")
    return above[0]


def classifier(data: DataSet) -> ClassifierFeatures:
    assert data.train_labels is not None
    assert data.heldout_labels is not None
    return fit_classifier(data.train, data.train_labels, data.heldout, data.heldout_labels)


if __name__ == "__main__":
    main()
