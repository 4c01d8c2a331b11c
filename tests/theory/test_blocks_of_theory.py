"""Work in blocks: the sizes of the blocks are those of the limit, and the numbers are those of the whole."""

from typing import Any

import pytest
import torch
from torch import Tensor

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Gaussian
from diffuscope.samplers import Euler
from diffuscope.schedules import VE
from diffuscope.theory import agreement, network_agreement
from diffuscope.theory.geometry import components_for, dimension, follow, principal_shares, trajectories
from diffuscope.theory.paths import Dynamics, conditioned, conditioned_paths
from diffuscope.theory.variance import (
    Affine,
    Ensemble,
    KernelFlow,
    LinearEnsemble,
    Population,
    RBFKernel,
    feature_moments,
    kernel_flow,
    linear_ensemble,
    train_linear,
)
from numbers_in_tests import double


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_kernels_are_evaluated_for_so_many_pairs_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five points, or fields of three points: blocks of two, and of one where even that is too many."""
    population = Population.of(double(-1.0, 1.0)[:, None], VE(), (0.5, 0.5), time_nodes=2, nodes=2)
    flow = KernelFlow(population, RBFKernel(2.0), samples=9, time=0.5)
    n = len(population.nodes.points)
    x = double(-2.0, -0.3, 0.1, 0.8, 3.0)[:, None]
    fields, whole = flow.draw(5, generator=torch.Generator().manual_seed(0)), flow.score(x, 0.5)
    starts = normal(5, 3, 1)
    together = fields(starts, 0.5)
    sizes: list[int] = []
    kernel = RBFKernel.__call__

    def recorded(self: RBFKernel, x: Tensor, t: Tensor, y: Tensor, u: Tensor) -> Tensor:
        sizes.append(len(x))
        return kernel(self, x, t, y, u)

    monkeypatch.setattr(RBFKernel, "__call__", recorded)
    for pairs, blocks, of_fields in ((2 * n, [2, 2, 1], [3] * 5), (1, [1] * 5, [3] * 5), (6 * n, [5], [6, 6, 3])):
        monkeypatch.setattr(kernel_flow, "PAIRS", pairs)
        sizes.clear()
        torch.testing.assert_close(flow.score(x, 0.5), whole, rtol=1e-12, atol=0)
        assert sizes == blocks
        sizes.clear()
        torch.testing.assert_close(fields(starts, 0.5), together, rtol=1e-12, atol=1e-14)
        assert sizes == of_fields


def test_linear_denoisers_are_evaluated_and_trained_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    line = Gaussian(double(0.5), torch.eye(1, dtype=torch.float64), double(2.0))
    sizes: list[tuple[int, ...]] = []
    features = Affine.__call__

    def recorded(self: Affine, x: Tensor, t: Tensor) -> Tensor:
        sizes.append(tuple(x.shape[:2]))
        return features(self, x, t)

    def trained() -> LinearEnsemble:
        generator = torch.Generator().manual_seed(0)
        return train_linear(line, VE(0.5, 2.0), Affine(1), samples=3, models=5, ridge=0.1, generator=generator)

    whole, x = trained(), normal(5, 7, 1)
    answers = whole.denoise(x, 1.0)
    monkeypatch.setattr(Affine, "__call__", recorded)
    for numbers, models, block, points in ((12, [2, 2, 1], 15, [3, 3, 1]), (1, [1] * 5, 1, [1] * 7)):
        monkeypatch.setattr(linear_ensemble, "TRAINING_NUMBERS", numbers)
        monkeypatch.setattr(linear_ensemble, "BLOCK", block)
        sizes.clear()
        torch.testing.assert_close(trained().weights, whole.weights, rtol=1e-10, atol=0)
        assert [size[0] for size in sizes] == models
        sizes.clear()
        torch.testing.assert_close(whole.denoise(x, 1.0), answers, rtol=1e-12, atol=0)
        assert [size[1] for size in sizes] == points


def test_moments_of_features_are_sums_over_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    population = Population.of(double(-1.0, 1.0)[:, None], VE(), (0.5, 1.0), time_nodes=2, nodes=2)
    whole = feature_moments.feature_moments(population, Affine(1), 0.1)
    for rows in (1, 2 * 3 + 1):  # single nodes, and three at once of two features
        monkeypatch.setattr(feature_moments, "ROWS", rows)
        found = feature_moments.feature_moments(population, Affine(1), 0.1)
        torch.testing.assert_close(found.misfit, whole.misfit, rtol=1e-10, atol=1e-14)
        assert found.effective_features == pytest.approx(whole.effective_features, rel=1e-10)
        parts = [len(part.x) for part, _, _ in feature_moments._with_features(population.slices, Affine(1))]
        assert max(parts) == max(1, rows // 2)
        assert sum(parts) == len(population.nodes.points)


def test_trajectories_are_followed_and_measured_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Gaussian(double(0.5, -1.0), torch.eye(2, dtype=torch.float64), double(2.0, 0.3))
    sizes: list[int] = []

    class Recorded(ExactDenoiser):
        def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:  # pyright: ignore
            sizes.append(len(x_t))
            return super().__call__(x_t, t)

    x, times = normal(5, 2), double(3.0, 2.0, 1.0)
    whole = follow(ExactDenoiser(data, VE()), Euler(), x, times)
    shares = principal_shares(whole.states)
    monkeypatch.setattr(trajectories, "BATCH", 2)
    monkeypatch.setattr(network_agreement, "ROWS", 2)
    recorded: Any = Recorded(data, VE())
    found = follow(recorded, Euler(), x, times)
    assert set(sizes) == {2, 1}
    torch.testing.assert_close(found.states, whole.states)
    sizes.clear()
    agreement(recorded, {"exact": data}, x, 1.0, mean=data.mean)
    assert sizes == [2, 2, 1]
    for chunk in (1, 3 * 2 * 2):  # one trajectory, and two, of 3 points of 2 numbers
        monkeypatch.setattr(dimension, "CHUNK", chunk)
        torch.testing.assert_close(principal_shares(whole.states), shares, rtol=1e-12, atol=1e-15)
    assert components_for(double(0.5, 0.25, 0.25)[None], 0.75).tolist() == [2]  # reached exactly


def test_paths_are_simulated_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    simulate = conditioned.euler_maruyama

    def recorded(dynamics: Dynamics, x: Tensor, times: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        sizes.append(len(x))
        return simulate(dynamics, x, times, generator)

    monkeypatch.setattr(conditioned, "euler_maruyama", recorded)
    for chunk, blocks in ((2 * 3 * 2, [2, 2, 1]), (1, [1] * 5), (10**6, [5])):
        monkeypatch.setattr(conditioned, "CHUNK", chunk)
        sizes.clear()
        found = conditioned_paths(
            Dynamics(lambda x: -x, 0.5), double(0.0, 0.0), double(0.0, 0.0), double(0.0, 0.5, 1.0), window=1e6,
            attempts=5, generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert sizes == blocks
        assert (len(found.states), found.attempts) == (5, 5)


def test_drawn_fields_of_an_ensemble_need_points_of_every_field() -> None:
    members = Ensemble([ExactDenoiser(Gaussian.isotropic(double(m, 0.0), 1.0), VE()) for m in (0.0, 1.0, 3.0)])
    fields = members.draw(4, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(fields.weights.sum(1), torch.ones(4).double())
    x = normal(4, 5, 2)
    each = torch.stack([members.scores(one, 0.7) for one in x])  # (fields, members, batch, d)
    torch.testing.assert_close(fields(x, 0.7), torch.einsum("fm,fmbd->fbd", fields.weights, each))
