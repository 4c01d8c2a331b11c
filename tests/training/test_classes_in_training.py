"""Training with classes: conditional and unconditional denoiser are learned together, and mistakes are one line."""

import math
from dataclasses import replace

import pytest
import torch
from training_models import SmallDenoiser, vectors

from diffuscope.denoisers import MLP, ExactDenoiser, OfClass, Preconditioned
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.schedules import VE
from diffuscope.training import AveragedTarget, LogUniformNoise, NoiseFreeTarget, TrainingSettings, fit, train
from diffuscope.training.run import TrainingRun

pytestmark = pytest.mark.usefixtures("one_thread")

MEANS = torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=torch.float64)
VARIANCE = 0.05
LABELS = torch.arange(50) % 2


def denoiser() -> Preconditioned:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = MLP((2,), width=48, depth=2, classes=2)
    return Preconditioned(network, VE(), 0.8, event_shape=(2,), data_range=(-2.0, 2.0))


def run(labels: torch.Tensor | None = LABELS, **settings) -> TrainingRun:
    return TrainingRun(denoiser(), vectors(50, 2), TrainingSettings(batch_size=16, **settings), labels)


def rows_that_learn(started: TrainingRun) -> list[bool]:
    """Which rows of the embedding three steps move; the first moves only the last layer, which begins at zero."""
    rows = started.denoiser.get_submodule("network.embedding").get_parameter("of_class")
    before = rows.detach().clone()
    for _ in range(3):
        started.advance()
    return (rows != before).any(1).tolist()


def test_a_trained_denoiser_answers_for_each_class_and_for_none_as_the_exact_ones_do(generator):
    """Two Gaussian classes: each answer is ten times nearer to its own exact denoiser than the exact others are."""
    y = torch.randint(0, 2, (4000,), generator=generator)
    data = MEANS[y] + math.sqrt(VARIANCE) * torch.randn(4000, 2, dtype=torch.float64, generator=generator)
    noise = LogUniformNoise(0.5, 2.0)
    settings = TrainingSettings(steps=250, batch_size=128, learning_rate=3e-3, noise=noise, class_dropout=0.3)
    trained = fit(denoiser(), data.float(), settings, labels=y)
    mixture = GaussianMixture.isotropic(torch.full((2,), 0.5).double(), MEANS, torch.full((2,), VARIANCE).double())
    none = ExactDenoiser(mixture, VE())
    of_class = [ExactDenoiser(Gaussian.isotropic(mean, VARIANCE), VE()) for mean in MEANS]
    x_t = data[:2000] + torch.randn(2000, 2, dtype=torch.float64, generator=generator)
    with torch.no_grad():
        found = [OfClass(trained, 0)(x_t, 1.0), OfClass(trained, 1)(x_t, 1.0), trained(x_t, 1.0)]
    exact = [of_class[0](x_t, 1.0), of_class[1](x_t, 1.0), none(x_t, 1.0)]
    for i, answer in enumerate(found):
        nearest_other = min(float((exact[i] - exact[j]).square().mean()) for j in range(3) if j != i)
        assert float((answer - exact[i]).square().mean()) < 0.1 * nearest_other


@pytest.mark.parametrize(("share", "learned"), [(0.0, [True, True, False]), (1.0, [False, False, True])])
def test_the_dropout_decides_which_rows_of_the_embedding_learn(share, learned):
    assert rows_that_learn(run(class_dropout=share)) == learned


def test_the_share_without_a_class_is_binomial():
    started = run(class_dropout=0.3)
    dropped = torch.stack([started._classes(torch.arange(50)) for _ in range(200)]) == 2  # pyright: ignore[reportArgumentType, reportCallIssue]
    assert abs(float(dropped.double().mean()) - 0.3) < 4 * math.sqrt(0.3 * 0.7 / 10_000)


def test_an_example_that_has_no_class_is_asked_without():
    assert rows_that_learn(run(labels=torch.full((50,), 2), class_dropout=0.0)) == [False, False, True]


def test_two_runs_with_classes_are_equal_bit_for_bit_on_two_threads():
    """The gradient of an embedding is a sum over the batch, which several threads must not take in any order."""
    weights = []
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for _ in range(3):
            with torch.random.fork_rng():
                torch.manual_seed(0)
                network = MLP((2,), depth=1, classes=2)
            model = Preconditioned(network, VE(), 0.8, event_shape=(2,), data_range=(-2.0, 2.0))
            settings = TrainingSettings(steps=6, batch_size=256)
            for _ in train(model, vectors(50, 2), settings, labels=LABELS, checkpoint=None):
                pass
            weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2])


def test_other_labels_are_another_run(tmp_path):
    settings = TrainingSettings(steps=3, batch_size=16)
    fit(denoiser(), vectors(50, 2), settings, labels=LABELS, checkpoint=tmp_path / "run.safetensors")
    with pytest.raises(InputError, match=r"was written with labels\.sha256 = "):
        train(denoiser(), vectors(50, 2), settings, labels=1 - LABELS, checkpoint=tmp_path / "run.safetensors")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, "labels: expected one per example for a denoiser of 2 classes, got none"),
        (LABELS[:-1], "labels: expected one per example, 50, got 49"),
        (LABELS + 2, r"labels: expected classes 0 \.\. 1, or 2 for an example without, got 2 \.\. 3"),
        (LABELS.double(), r"labels: expected a vector of integers, got torch.float64 of shape \(50,\)"),
        (LABELS[:, None], r"labels: expected a vector of integers, got torch.int64 of shape \(50, 1\)"),
        (LABELS - 1, r"labels: expected classes 0 \.\. 1, or 2 for an example without, got -1 \.\. 0"),
    ],
)
def test_labels_that_do_not_fit_are_one_line(labels, message):
    with pytest.raises(InputError, match=message):
        run(labels=labels)


def test_labels_without_classes_and_targets_of_all_classes_are_one_line():
    with pytest.raises(InputError, match="labels: expected none, as the denoiser has no classes"):
        train(SmallDenoiser(3), vectors(), TrainingSettings(), labels=LABELS, checkpoint=None)
    for objective in (NoiseFreeTarget(), AveragedTarget(4)):
        settings = replace(TrainingSettings(), objective=objective)
        with pytest.raises(InputError, match=f"labels: expected none with {type(objective).__name__}, whose target"):
            train(denoiser(), vectors(50, 2), settings, labels=LABELS, checkpoint=None)
