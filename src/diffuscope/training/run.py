r"""The state of a training run and the one step that changes it.

Step k takes the next batch of the epoch's permutation, draws times and noise, and moves

.. math::  g = \nabla_\theta L, \qquad g \leftarrow g\,\min(1, c/|g|), \qquad
           \theta \leftarrow \mathrm{AdamW}(\theta, g; \eta_k), \qquad
           \bar\theta \leftarrow \beta_k\bar\theta + (1 - \beta_k)\theta .

Where labels are given, every sample has the class of its example, and a random share of each batch has none.

All randomness comes from one generator (an objective that draws random numbers has its own, made from seed and step),
so (weights, average, Adam's moments, generator, permutation, step) is the whole state: two runs that agree in it agree
ever after, bit for bit, on the same device with the same number of processes and of threads
(`torch.get_num_threads()`: the order of summation inside matrix products depends on it).
"""

import math
from collections.abc import Iterable, Mapping

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from diffuscope.byte_examples import float_parts
from diffuscope.denoisers import INTEGERS, Denoiser, OfClass, classes_of
from diffuscope.distributed import gathered, processes, rank, require_even, share
from diffuscope.errors import InputError

from .average import average_decay, update_average
from .batches import EpochPermutations
from .evaluation import Evaluation
from .settings import TrainingSettings
from .target_average import AveragedTarget, NoiseFreeTarget

SMOOTHING_STEPS = 100


class DivergedError(InputError):
    """The loss or the gradient of a step is not finite; the message says at which step and noise level."""


class TrainingRun:
    """A run after `step` steps; `advance` takes the next one.

    Raises InputError for a denoiser that cannot be trained, for data that are empty or not finite, and for labels that
    do not fit them.
    """

    def __init__(
        self,
        denoiser: nn.Module,
        data: Float[Tensor, "examples *event"],
        settings: TrainingSettings,
        labels: Shaped[Tensor, "..."] | None = None,
    ) -> None:
        if not isinstance(denoiser, Denoiser):
            raise InputError(f"denoiser: expected a module with a `schedule`, got {type(denoiser).__name__} without")
        _require_no_dropout_nor_batch_norm(denoiser)
        _require_finite(data)
        _require_labels(denoiser, data, labels, settings)
        require_even(settings.batch_size)
        self.denoiser = denoiser
        self.data, self.labels = data, None if labels is None else labels.long()
        self.settings = settings
        self.parameters = {name: p for name, p in denoiser.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise InputError("denoiser: expected at least one parameter that requires a gradient, got none")
        first = next(iter(self.parameters.values()))
        self.device, self.dtype = first.device, first.dtype
        self.evaluation = Evaluation(denoiser, settings, self.device)
        self.optimizer = torch.optim.AdamW(
            self.parameters.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.generator = torch.Generator(self.device).manual_seed(settings.seed)
        self.batches = EpochPermutations.start(len(data), self.generator)
        self.errors = settings.objective.on(data, self.device)
        self.step = 0
        self.loss = math.nan
        self.smoothed_loss = 0.0
        self.gradient_norm = math.nan
        self.between_steps = True  # false while a step is half done and the state is not worth saving
        # lists, made once and not at every step
        self._weights, self._averages = list(self.parameters.values()), list(self.average.values())

    def advance(self) -> None:
        """Take one step. Raises `DivergedError` if loss or gradient is not finite, before any weight changes."""
        self.between_steps = False
        settings, generator = self.settings, self.generator
        schedule = self.denoiser.schedule
        index = self.batches.next_batch(settings.batch_size, generator)
        y = self._classes(index)
        times = settings.noise.sample(schedule, len(index), generator=generator)
        shape = (len(index), *self.data.shape[1:])
        noise = torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)
        # the samples of each process differ, and so must the objective's random numbers; the run's generator is common
        seed = np.random.SeedSequence((settings.seed, self.step, rank())).generate_state(1, np.uint64)[0]
        objective_generator = torch.Generator(self.device).manual_seed(int(seed) >> 1)
        x_0 = self.data[share(index).to(self.data.device)].to(self.device, self.dtype)

        self.optimizer.zero_grad()
        denoiser = self.evaluation if y is None else OfClass(self.evaluation, share(y))
        errors = self.errors(denoiser, x_0, share(times), share(noise), generator=objective_generator)
        weighted = settings.weight(schedule, share(times)).to(errors) * errors
        weighted.mean().backward()
        _require_every_gradient(self.parameters)
        gradient_norm = clip_gradients(self._weights, settings.max_gradient_norm)
        losses = gathered(weighted.detach())
        loss = float(losses.mean())
        rate = settings.learning_rate_at(self.step)
        if not (math.isfinite(loss) and math.isfinite(gradient_norm)):
            worst = times[losses.abs().argmax().to(times.device)]  # NaN counts as the largest
            raise DivergedError(
                f"learning_rate: training diverged at step {self.step + 1} with learning rate {rate:.3g} "
                f"(loss {loss:.3g}, gradient norm {gradient_norm:.3g}; worst at the noise level "
                f"sigma = {float(schedule.sigma(worst)):.3g}, alpha = {float(schedule.alpha(worst)):.3g}); "
                "expected finite values; try a smaller one"
            )
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()

        self.step += 1
        update_average(self._averages, self._weights, average_decay(self.step, settings.average_decay))
        self.loss, self.gradient_norm = loss, gradient_norm
        self.smoothed_loss += (loss - self.smoothed_loss) / min(self.step, SMOOTHING_STEPS)
        self.between_steps = True

    def _classes(self, index: Int[Tensor, " batch"]) -> Int[Tensor, " batch"] | None:
        """The classes of the batch, a random share of them replaced by C (none); None without labels."""
        if self.labels is None:
            return None
        y = self.labels[index.to(self.labels.device)].to(self.device)
        dropped = torch.rand(len(index), generator=self.generator, device=self.device) < self.settings.class_dropout
        return y.masked_fill(dropped, self.evaluation.classes)


def clip_gradients(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale the gradients in place by min(1, max_norm / |g|) and return |g|, their joint norm before.

    Gradients within the cap stay as they are, and so do gradients that are not finite.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        raise InputError("denoiser: expected an answer that depends on its parameters, got no gradient for any")
    norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    if max_norm < norm < math.inf:
        torch._foreach_mul_(gradients, max_norm / norm)
    return norm


def _require_no_dropout_nor_batch_norm(denoiser: nn.Module) -> None:
    for name, module in denoiser.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.p > 0 and module.training:
            raise InputError(
                f"denoiser: {name} is dropout with p = {module.p}, which draws from the global generator and cannot "
                "be resumed; expected p = 0"
            )
        if processes() > 1 and isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training:
            raise InputError(
                f"denoiser: {name} is batch norm, whose statistics would be those of one process's share; "
                "expected another norm, or one process"
            )


def _require_every_gradient(parameters: Mapping[str, Tensor]) -> None:
    """Several processes average gradients once all are known, so that none may be missing."""
    for name, parameter in parameters.items():
        if processes() > 1 and parameter.grad is None:
            raise InputError(
                f"denoiser: {name} takes no part in a step; expected a gradient for every parameter, or one process"
            )


def _require_finite(data: Tensor) -> None:
    if len(data) == 0 or data[0].numel() == 0:
        raise InputError(f"data: expected at least one example, got shape {tuple(data.shape)}")
    # sums propagate NaN and infinity without a mask as large as the data
    if not all(math.isfinite(float(part.sum(dtype=torch.float64))) for part in float_parts(data)):
        raise InputError("data: expected finite values, got NaN or infinity")


def _require_labels(denoiser: nn.Module, data: Tensor, labels: Tensor | None, settings: TrainingSettings) -> None:
    classes = classes_of(denoiser)
    if labels is None:
        if classes:
            raise InputError(f"labels: expected one per example for a denoiser of {classes} classes, got none")
        return
    if not classes:
        raise InputError("labels: expected none, as the denoiser has no classes")
    if labels.dtype not in INTEGERS or labels.ndim != 1:
        raise InputError(f"labels: expected a vector of integers, got {labels.dtype} of shape {tuple(labels.shape)}")
    if len(labels) != len(data):
        raise InputError(f"labels: expected one per example, {len(data)}, got {len(labels)}")
    if int(labels.min()) < 0 or int(labels.max()) > classes:
        raise InputError(
            f"labels: expected classes 0 .. {classes - 1}, or {classes} for an example without, "
            f"got {int(labels.min())} .. {int(labels.max())}"
        )
    if isinstance(settings.objective, AveragedTarget | NoiseFreeTarget):
        raise InputError(
            f"labels: expected none with {type(settings.objective).__name__}, whose target mixes all classes"
        )
