"""The average of the weights against its closed forms, and the epoch permutations it is trained on."""

import pytest
import torch

from diffuscope.training.average import WARMUP_POWER, average_decay, update_average
from diffuscope.training.batches import EpochPermutations


def averages(weights: list[torch.Tensor], limit: float) -> list[torch.Tensor]:
    """The average after every step, from an initial weight that must be forgotten."""
    average, out = torch.full_like(weights[0], 1e6), []
    for step, weight in enumerate(weights, start=1):
        update_average([average], [weight], average_decay(step, limit))
        out.append(average.clone())
    return out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_average_of_constant_weights_is_that_constant_exactly(dtype, generator):
    constant = torch.randn(1000, generator=generator, dtype=dtype)
    for average in averages([constant] * 300, limit=0.97):
        assert torch.equal(average, constant)


def test_the_average_of_linear_weights_in_warm_up_is_the_power_law_mean():
    """theta_j = j under the weights (j^m - (j-1)^m) / k^m has mean k - sum_{j<k} (j/k)^m (summation by parts)."""
    weights = [torch.tensor([float(j)], dtype=torch.float64) for j in range(1, 201)]
    for k, average in enumerate(averages(weights, limit=0.999), start=1):
        closed = k - sum((j / k) ** WARMUP_POWER for j in range(1, k))
        assert float(average) == pytest.approx(closed, rel=1e-12)


def test_the_average_of_linear_weights_lags_by_the_memory_of_the_exponential():
    """theta_j = j: after the warm-up the lag tends to beta/(1 - beta), the rest falling as beta^n."""
    beta, steps = 0.95, 1500
    weights = [torch.tensor([float(j)], dtype=torch.float64) for j in range(1, steps + 1)]
    last = averages(weights, limit=beta)[-1]
    assert float(last) == pytest.approx(steps - beta / (1 - beta), abs=1e-9)


def test_the_average_follows_the_last_weights_where_the_limit_is_zero():
    weights = [torch.tensor([float(j)]) for j in range(1, 9)]
    assert [float(a) for a in averages(weights, limit=0.0)] == [float(w) for w in weights]


@pytest.mark.parametrize("size", [1, 4, 10, 23], ids="batch of {}".format)
def test_every_epoch_visits_every_example_once_at_any_batch_size(size, generator):
    batches = EpochPermutations.start(10, generator)
    stream = torch.cat([batches.next_batch(size, generator) for _ in range(230 // size)])[:220]
    epochs = stream[: len(stream) // 10 * 10].reshape(-1, 10)
    assert torch.equal(epochs.sort(1).values, torch.arange(10).expand(len(epochs), 10))
    assert len({tuple(epoch.tolist()) for epoch in epochs}) == len(epochs)  # each in an order of its own
