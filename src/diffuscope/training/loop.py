"""The training loop as a generator: the caller owns the loop, the logging and the stopping.

.. code-block:: python

    for progress in train(denoiser, data, settings, checkpoint=Path("run.safetensors")):
        print(progress.step, progress.smoothed_loss)
    denoiser = averaged(denoiser, progress.average)

Nothing computed is lost. A killed process (SIGKILL, power failure) resumes from the last checkpoint, which is at most
`save_every` seconds old; Ctrl-C, `break` and `close()` save one first. The resumed run ends with the same weights as
an uninterrupted one, bit for bit (see `run.py` for the conditions).
"""

import atexit
import copy
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from tqdm import tqdm

from diffuscope.distributed import of_process_0, processes, rank, require_same, said_by_process_0, wait_for_all
from diffuscope.errors import InputError
from diffuscope.progress import progress_bar

from .checkpoint import RunCheckpoint, identity
from .log import DistanceLog, OpenLog
from .optimum import Distance
from .run import DivergedError, TrainingRun
from .settings import TrainingSettings

Module = TypeVar("Module", bound=nn.Module)
Stop = Callable[[int, Callable[[], nn.Module]], bool]
"""Called after every step with the step and a function that makes the averaged denoiser: whether to stop."""


@dataclass(frozen=True)
class Progress:
    """The state of a run after `step` of `steps`.

    `smoothed_loss` is the mean over about the last hundred batches; `gradient_norm` is taken before clipping.
    `average` holds the averaged weights by name: the live tensors, which the next step changes. `distance` is the
    latest logged distance to the optimum.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.training import PlainWeight, TrainingSettings, train
    >>> class Constant(torch.nn.Linear):
    ...     schedule = VE()
    ...     def forward(self, x_t, t):
    ...         return self.bias.expand_as(x_t)
    >>> denoiser, settings = Constant(1, 1), TrainingSettings(steps=1, weight=PlainWeight())
    >>> error = 3 - denoiser.bias.item()
    >>> (progress,) = train(denoiser, torch.full((5, 1), 3.0), settings, checkpoint=None)
    >>> round(progress.loss / error**2, 4), round(progress.gradient_norm / error, 4)
    (1.0, 2.0)
    """

    step: int
    steps: int
    loss: float
    smoothed_loss: float
    learning_rate: float
    gradient_norm: float
    average: Mapping[str, Tensor] = field(repr=False, compare=False)
    distance: Distance | None = field(default=None, repr=False, compare=False)


def train(
    denoiser: nn.Module,
    data: Float[Tensor, "examples *event"],
    settings: TrainingSettings,
    *,
    checkpoint: Path | None,
    labels: Shaped[Tensor, "..."] | None = None,
    save_every: float | int = 60.0,
    log: DistanceLog | None = None,
    stop: Stop | None = None,
) -> Generator[Progress, None, None]:
    """Train `denoiser` in place on `data` and yield after every step.

    `denoiser` is a module that fulfills the `Denoiser` contract. If `checkpoint` exists, the run resumes from it (its
    weights replace those of `denoiser`); the state is saved there at the start, every `save_every` seconds, and at the
    end. A finished run yields once and changes nothing. A `log` records the distance of the averaged denoiser to the
    optimum; it does not affect the weights. The run ends after the step for which `stop` says so, with a checkpoint;
    resumed, it is asked about that step again.

    A denoiser with `classes` = C is trained on the `labels` of the examples, 0 .. C-1, or C for an unlabeled example;
    the distance is then that of the unconditional denoiser. Under `torchrun`, within `process_group()`, the processes
    share every batch (see `diffuscope.distributed`).

    Raises InputError if denoiser, data, labels and checkpoint do not fit together, if processes were given different
    settings or data, if the loss or the gradient is no longer finite (before any weight changes; the last checkpoint
    stays), and if a checkpoint cannot be written.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.training import TrainingSettings, train
    >>> class Constant(torch.nn.Linear):
    ...     schedule = VE()
    ...     def forward(self, x_t, t):
    ...         return self.bias.expand_as(x_t)
    >>> denoiser, settings = Constant(1, 1), TrainingSettings(steps=1, learning_rate=0.25, warmup_steps=0)
    >>> start = denoiser.bias.item()
    >>> for progress in train(denoiser, torch.full((5, 1), 3.0), settings, checkpoint=None):
    ...     print(progress.step, round(denoiser.bias.item() - start, 4))  # Adam's first step
    1 0.25
    """
    run = TrainingRun(denoiser, data, settings, labels)
    if processes() > 1:
        require_same(identity(run))
    file = None if checkpoint is None else RunCheckpoint(checkpoint, run)
    resumed = file is not None and said_by_process_0(file.path.exists(), run.device)
    if file is not None:
        if resumed:
            file.restore()
        else:
            of_process_0(file.save, run.device)  # an unwritable folder shows now, not after an hour
    wait_for_all()  # no process writes while another reads
    opened = of_process_0(lambda: None if log is None else OpenLog(log, run.step, resumed=resumed), run.device)
    return _steps(run, file, save_every, opened, stop)


def _steps(
    run: TrainingRun, file: RunCheckpoint | None, save_every: float, log: OpenLog | None, stop: Stop | None
) -> Generator[Progress, None, None]:
    steps, saved_at = run.settings.steps, time.monotonic()

    def save_whole_steps() -> None:
        if file is not None and run.between_steps:
            file.save()

    # after a Ctrl-C in the caller's loop this generator may be closed only at interpreter shutdown, too late to write
    atexit.register(save_whole_steps)
    try:
        _measure(run, log, save_whole_steps)
        ended = run.step == steps or (run.step > 0 and _stops(run, stop, save_whole_steps))
        if ended:
            yield _progress(run, log)
        while not ended:
            with _interrupt_after():
                run.advance()
                _measure(run, log, save_whole_steps)  # before the checkpoint, so that a saved step has been logged
                ended = _stops(run, stop, save_whole_steps) or run.step == steps
                if file is not None and (ended or time.monotonic() - saved_at >= save_every):
                    file.save()
                    saved_at = time.monotonic()
            yield _progress(run, log)
    except DivergedError as error:
        if file is None:
            last = "no checkpoint was saved"
        else:
            step = "" if rank() else f", of step {file.saved_step}"  # process 0 saves
            last = f"the last good checkpoint is {file.path}{step}"
        raise InputError(f"{error}; {last}") from error
    except (KeyboardInterrupt, GeneratorExit):
        save_whole_steps()
        raise
    finally:
        atexit.unregister(save_whole_steps)
        run.evaluation.leave()
        if log is not None:
            log.close()


def _measure(run: TrainingRun, log: OpenLog | None, save: Callable[[], None]) -> None:
    """Log the distance of the averaged denoiser if it is due; no step is lost if the log cannot be written."""
    if log is None or not log.log.is_due(run.step, run.settings.steps):
        return
    if log.last is not None and log.last.step == run.step:
        return
    try:
        log.write(log.log.optimum.distance(averaged(run.denoiser, run.average), run.step))
    except InputError:
        save()
        raise


def _stops(run: TrainingRun, stop: Stop | None, save: Callable[[], None]) -> bool:
    """Whether `stop` ends the run here; no step is lost if it cannot tell."""
    if stop is None:
        return False
    try:
        return stop(run.step, lambda: averaged(run.denoiser, run.average))
    except Exception:
        save()
        raise


def _progress(run: TrainingRun, log: OpenLog | None) -> Progress:
    rate, distance = run.settings.learning_rate_at(run.step - 1), None if log is None else log.last
    return Progress(
        run.step, run.settings.steps, run.loss, run.smoothed_loss, rate, run.gradient_norm, run.average, distance
    )


@contextmanager
def _interrupt_after() -> Iterator[None]:
    """Hold back a Ctrl-C until the block ends, so that no step is left unfinished; a second one interrupts at once."""
    former = signal.getsignal(signal.SIGINT)
    # only the main thread receives signals and may choose what they do
    if not callable(former) or threading.current_thread() is not threading.main_thread():
        yield
        return
    held = False

    def hold(signum: int, frame: object) -> None:
        nonlocal held
        del signum, frame
        if held:
            raise KeyboardInterrupt
        held = True

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
    if held:
        signal.raise_signal(signal.SIGINT)


def show_progress(
    progresses: Generator[Progress, None, None], title: str = "training"
) -> Generator[Progress, None, None]:
    """The same steps with a progress bar: the smoothed loss, the logged distance to the optimum, and the time left.

    `excess` is the mean over the logged noise levels of E|D - D*|^2 / d on training and on held-out examples.

    >>> import torch
    >>> from diffuscope.training import TrainingSettings, new_denoiser, show_progress, train
    >>> data, settings = torch.tensor([[1.0, 5.0]]), TrainingSettings(steps=3)
    >>> steps = train(new_denoiser(data, (1.0, 5.0), seed=0), data, settings, checkpoint=None)
    >>> [progress.step for progress in show_progress(steps)]
    [1, 2, 3]
    """
    bar: tqdm | None = None
    try:
        for progress in progresses:
            if bar is None:
                total, done = progress.steps, progress.step - 1
                bar = progress_bar(desc=title, total=total, initial=done, unit="step", disable=rank() > 0)
            bar.set_postfix_str(f"loss {progress.smoothed_loss:.4f}{_excess(progress)}", refresh=False)
            bar.update()
            yield progress
    finally:
        if bar is not None:
            bar.close()
        progresses.close()  # so that a `break` saves a checkpoint here too


def _excess(progress: Progress) -> str:
    if progress.distance is None:
        return ""
    heldout = progress.distance.unseen
    return f", excess {progress.distance.train:.3g}" + ("" if heldout is None else f" (held-out {heldout:.3g})")


@torch.no_grad()
def averaged(denoiser: Module, average: Mapping[str, Tensor]) -> Module:
    """A copy of `denoiser` with the averaged weights. Raises InputError for weights of another network.

    >>> import torch
    >>> from diffuscope.training import averaged
    >>> network = torch.nn.Linear(3, 2)
    >>> average = {name: 0.5 * weights for name, weights in network.named_parameters()}
    >>> x = torch.ones(1, 3)
    >>> torch.equal(averaged(network, average)(x), 0.5 * network(x))
    True
    """
    result = copy.deepcopy(denoiser)
    parameters = dict(result.named_parameters())
    for name, weights in average.items():
        if name not in parameters or parameters[name].shape != weights.shape:
            raise InputError(f"average: expected the weights of this denoiser, got {name} {tuple(weights.shape)}")
        parameters[name].copy_(weights)
    result.zero_grad()
    return result


def fit(
    denoiser: Module,
    data: Float[Tensor, "examples *event"],
    settings: TrainingSettings,
    *,
    checkpoint: Path | None = None,
    labels: Shaped[Tensor, "..."] | None = None,
    save_every: float | int = 60.0,
    log: DistanceLog | None = None,
    stop: Stop | None = None,
) -> Module:
    """Train to the end with a progress bar and return the averaged denoiser; the arguments are those of `train`.

    >>> import torch
    >>> from diffuscope import VE
    >>> from diffuscope.training import PlainWeight, TrainingSettings, fit
    >>> class Constant(torch.nn.Linear):
    ...     schedule = VE()
    ...     def forward(self, x_t, t):
    ...         return self.bias.expand_as(x_t)
    >>> settings = TrainingSettings(steps=200, batch_size=4, learning_rate=0.2, weight=PlainWeight(), average_decay=0.9)
    >>> data = torch.tensor([[1.0], [1.0], [1.0], [9.0]])
    >>> round(fit(Constant(1, 1), data, settings).bias.item(), 1)  # the best constant is the mean
    3.0
    """
    average: Mapping[str, Tensor] = {}
    run = train(
        denoiser, data, settings, checkpoint=checkpoint, labels=labels, save_every=save_every, log=log, stop=stop
    )  # fmt: skip
    with closing(show_progress(run)) as progresses:
        for progress in progresses:
            average = progress.average
    return averaged(denoiser, average)
