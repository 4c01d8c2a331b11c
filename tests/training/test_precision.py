"""Steps in bfloat16 and compiled steps change results by rounding, and only where they say."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_models import vectors

from diffuscope.denoisers import Preconditioned, UNet
from diffuscope.errors import InputError
from diffuscope.schedules import VE, VP
from diffuscope.training import Implicit, NoiseFreeTarget, Sliced, TrainingSettings, train
from diffuscope.training.run import TrainingRun

pytestmark = pytest.mark.usefixtures("one_thread")
IMAGES = vectors(64, 16).reshape(64, 1, 4, 4)


def denoiser() -> Preconditioned:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet((1, 4, 4), channels=(16, 16))
        nn.init.normal_(network.get_parameter("last.2.weight"), std=0.1)
    return Preconditioned(network, VP(), 1.0, event_shape=(1, 4, 4), data_range=(-3.0, 3.0))


def run(precision: str, **settings) -> TrainingRun:
    return TrainingRun(denoiser(), IMAGES, TrainingSettings(batch_size=64, precision=precision, **settings))


def test_a_bfloat16_gradient_is_the_float32_one_up_to_its_rounding():
    """Eight bits, up to 2^-8 in each rounding; a few dozen layers, forward and back, leave it below five times that."""
    gradients = {}
    for precision in ("float32", "bfloat16"):
        started = run(precision)
        started.advance()
        gradients[precision] = torch.cat([p.grad.flatten() for p in started.parameters.values() if p.grad is not None])
    difference = gradients["bfloat16"] - gradients["float32"]
    relative = float(difference.norm() / gradients["float32"].norm())
    assert 1e-4 < relative < 5 * 2**-8


def test_weights_moments_and_average_stay_in_float32():
    started = run("bfloat16")
    started.advance()
    kept = [*started.parameters.values(), *started.average.values()]
    kept += [value for state in started.optimizer.state.values() for value in state.values()]
    assert {tensor.dtype for tensor in kept} == {torch.float32}


def test_a_bfloat16_run_has_the_loss_curve_of_a_float32_one():
    """Thirty steps: every loss to 1%, two and a half times one rounding."""
    curves = []
    for precision in ("float32", "bfloat16"):
        settings = TrainingSettings(steps=30, batch_size=64, precision=precision, warmup_steps=10)
        curves.append(torch.tensor([each.loss for each in train(denoiser(), IMAGES, settings, checkpoint=None)]))
    relative = (curves[1] - curves[0]).abs() / curves[0]
    assert 0 < float(relative.max()) < 0.01


class Zero(nn.Module):
    """D = 0: the error is the square of the target."""

    def __init__(self) -> None:
        super().__init__()
        self.schedule = VE()
        self.factor = nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        del t
        return self.factor * x_t


def test_exact_targets_are_not_rounded():
    losses = [
        TrainingRun(Zero(), IMAGES, TrainingSettings(batch_size=64, precision=precision, objective=NoiseFreeTarget()))
        for precision in ("float32", "bfloat16")
    ]
    for started in losses:
        started.advance()
    assert losses[0].loss == losses[1].loss


def test_choices_that_cannot_be_are_one_line():
    with pytest.raises(InputError, match="precision: expected float32 or bfloat16, got float16"):
        TrainingSettings(precision="float16")
    with pytest.raises(InputError, match=r"class_dropout: expected a number in \[0, 1\], got 1.5"):
        TrainingSettings(class_dropout=1.5)
    for objective in (Implicit(), Sliced()):
        with pytest.raises(InputError, match=f"compiled: expected False for {type(objective).__name__}, got True"):
            TrainingSettings(compiled=True, objective=objective)


COMPILED = """
import torch
from test_precision import IMAGES, denoiser
from diffuscope.training import TrainingSettings, train
torch.set_num_threads(1)
curves = []
for compiled in (False, True):
    settings = TrainingSettings(steps=30, batch_size=64, compiled=compiled)
    curves.append(torch.tensor([each.loss for each in train(denoiser(), IMAGES, settings, checkpoint=None)]))
print(float(((curves[1] - curves[0]) / curves[0]).abs().max()))
"""


@pytest.mark.slow
def test_a_compiled_run_has_the_loss_curve_of_a_plain_one():
    """In a process of its own, where no checker of types stands between torch and the code; a minute to compile."""
    folder = Path(__file__).parent
    paths = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(folder.parent)!r}]\n"
    # conftest is not imported: its hook would wrap every function
    done = subprocess.run([sys.executable, "-c", paths + COMPILED], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 1e-4
