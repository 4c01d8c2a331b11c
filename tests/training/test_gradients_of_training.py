"""What a run keeps beside its weights (averages, distances, copies) carries no graph; one would grow at every step."""

import torch
from conftest import tensors_of
from torch import Tensor, nn
from training_models import LinearDenoiser, SmallDenoiser, vectors

from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical
from diffuscope.schedules import VE
from diffuscope.training import DataPosterior, Optimum, TrainingSettings, averaged
from diffuscope.training.average import update_average
from diffuscope.training.run import TrainingRun

SETTINGS = TrainingSettings(steps=3, batch_size=4, warmup_steps=1, seed=3)


def test_the_average_of_weights_is_a_number_before_and_after_every_step():
    run = TrainingRun(SmallDenoiser(3), vectors(8), SETTINGS)
    assert not any(tensor.requires_grad for tensor in run.average.values())
    run.advance()
    assert not any(tensor.requires_grad for tensor in run.average.values())
    average, weight = torch.zeros(2), nn.Parameter(torch.tensor([1.0, 3.0]))
    update_average([average], [weight], 0.5)
    assert average.tolist() == [0.5, 1.5]
    assert average.is_leaf
    assert not average.requires_grad


def test_a_copy_with_the_average_of_weights_can_be_trained_on():
    average = {name: nn.Parameter(0.5 * p) for name, p in SmallDenoiser(3).named_parameters()}
    copied = averaged(SmallDenoiser(3), average)
    assert all(p.is_leaf and p.requires_grad for p in copied.parameters())


def test_data_that_require_gradients_leave_none_in_the_optimum_nor_in_indices():
    x = vectors(8).double()
    denoiser, leaf = ExactDenoiser(Empirical(x), VE()), x.clone().requires_grad_()
    plain, learned = (Optimum.of(denoiser, data, unseen=data, noise_to_signal=(0.5,), points=4) for data in (x, leaf))
    assert not any(tensor.requires_grad for tensor in tensors_of(learned))
    assert plain.distance(denoiser, 1) == learned.distance(denoiser, 1)
    level = torch.ones(8, dtype=torch.float64)
    drawn: Tensor = DataPosterior(leaf).draw(leaf, level, level, 3, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (8, 3)


def test_a_model_is_compared_with_the_optimum_without_a_graph():
    recorded: list[bool] = []

    class Recording(LinearDenoiser):
        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            answer = super().forward(x_t, t)
            recorded.append(answer.requires_grad)
            return answer

    x = vectors(8)
    Optimum.of(Recording(VE()), x, noise_to_signal=(0.5,), points=4).distance(Recording(VE()), 1)
    assert recorded
    assert not any(recorded)
