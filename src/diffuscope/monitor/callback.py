r"""Watch a training for copying: a function of step and denoiser that says whether to stop.

.. code-block:: python

    monitor = Monitor(data, every=1000, out=Path("out/watched"))
    for step in range(1, steps + 1):
        ...
        if monitor.is_due(step) and monitor(step, denoiser):
            break

A look measures what `look` says. The run is stopped where the audit's own list of copies has an entry and the exact
p-value of the look is at most its level :math:`\alpha / (k (k + 1))` (`repeated_looks`): if samples never copy, a run
of any length is stopped with probability alpha = `false_stop` at most. Nothing of the training is touched
(`undisturbed`), and all random numbers come from streams of the monitor's own, by seed and step.

The first look of a run raises whatever is wrong with what the monitor was given. After that nothing ends the training
but its own stop: a look that fails is one that cannot tell, and a look that cannot be written or logged is said.
"""

import operator
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from diffuscope.audit import Settings, Subject
from diffuscope.audit.fingerprint import digest
from diffuscope.audit.no_model import NoModel
from diffuscope.data import DataSet
from diffuscope.denoisers import Denoiser
from diffuscope.distributed import of_process_0, rank, said_by_process_0
from diffuscope.errors import InputError, NotFiniteError
from diffuscope.report import write_page

from .loggers import scalars, sender
from .look import Look, Looking
from .on_device import OnDevice
from .page import monitor_page
from .record import Record
from .repeated_looks import level_of_look
from .undisturbed import device_of_tensors, generators_kept, undisturbed

STOPS = ("copies",)
LOG, PAGE = "monitor.jsonl", "monitor.html"
EFFORT = Settings(points=256, trajectories=8, generated=500)
LONGEST = 300  # characters of what is said of an error


class Monitor:
    """Looks at a denoiser every `every` steps, against `data` in the model's own range.

    `data` are a data set, or training and held-out examples as two tensors. `settings` are those of an audit (samples
    `generated`, `points`, `levels`, feature spaces, seed), by default with 500 samples and 256 points. With `out`, the
    looks are kept in monitor.jsonl there, and a resumed training continues it. `log` takes the numbers of every look
    (see `loggers.sender`), `show` its sentence. `stop_on` is ("copies",), or () to watch only. With a `budget`, such as
    0.05, a look is left out while the looks together have taken more than this share of the time since the monitor was
    made; then which steps are looked at depends on the machine.

    Raises InputError for values outside their ranges, for data that an audit refuses, and for the log of another run.

    >>> from diffuscope import Empirical, ExactDenoiser, VE, two_moons
    >>> from diffuscope.audit import Settings
    >>> from diffuscope.data import toy_data
    >>> from diffuscope.monitor import Monitor
    >>> data = toy_data("two-moons", n_train=100, n_heldout=200)
    >>> few = Settings(points=32, generated=100)
    >>> monitor = Monitor(data, every=100, settings=few, show=lambda sentence: None)
    >>> monitor(100, ExactDenoiser(two_moons(), VE()))  # the distribution itself does not copy
    False
    >>> monitor(200, ExactDenoiser(Empirical(data.train), VE()))  # the memorizer does nothing else
    True
    >>> [look.word for look in monitor.looks]
    ['not-detected', 'copies']
    """

    def __init__(
        self,
        data: DataSet | tuple[Tensor, Tensor],
        *,
        every: int,
        settings: Settings | None = None,
        out: str | Path | None = None,
        log: Any = None,
        stop_on: Sequence[str] = STOPS,
        false_stop: float | int = 0.01,
        budget: float | int | None = None,
        show: Callable[[str], object] = print,
    ) -> None:
        if not isinstance(every, Integral) or isinstance(every, bool) or every < 1:
            raise InputError(f"every: expected a whole number of steps >= 1, got {every!r}")
        if not (_is_number(false_stop) and 0 < false_stop < 1):
            raise InputError(f"false_stop: expected a number between 0 and 1, got {_said(false_stop)}")
        if budget is not None and not (_is_number(budget) and 0 < budget <= 1):
            raise InputError(f"budget: expected a share above 0 and at most 1, got {_said(budget)}")
        if not isinstance(settings, Settings | None):
            raise InputError(f"settings: expected audit.Settings, got {type(settings).__name__}")
        if not callable(show):
            raise InputError(f"show: expected a function of a sentence, got {show!r}")
        self.every, self.settings, self.stop_on = int(every), settings or EFFORT, _stops(stop_on)
        self.false_stop, self.budget, self.show = float(false_stop), budget, show
        self.subject = _subject(data)
        self.out, self._send = None if out is None else Path(out), sender(log)
        self._record = Record(
            None if self.out is None else self.out / LOG,
            {
                "train": digest(self.subject.train),
                "heldout": digest(self.subject.heldout),
                "settings": asdict(self.settings),
                "false_stop": self.false_stop,
            },
        )
        self._looking: Looking | None = None
        self._made, self.seconds, self._last = time.monotonic(), 0.0, 0.0

    @property
    def looks(self) -> tuple[Look, ...]:
        """All looks of the run, in the order of their steps."""
        return tuple(self._record.looks)

    @property
    def last(self) -> Look | None:
        """The latest look."""
        return self.looks[-1] if self.looks else None

    def is_due(self, step: int) -> bool:
        """Whether `step` is one of those at which the monitor looks: a multiple of `every`.

        Raises InputError for a step that is no whole number.
        """
        step = _whole(step)
        return step > 0 and step % self.every == 0

    def __call__(self, step: int, denoiser: Any) -> bool:
        """Look at `denoiser` after `step`, if it is due; whether to stop.

        Of several processes (`torch.distributed`) process 0 looks and all have its answer, so that all must call it.
        Raises InputError for what has no schedule, and at the first look of a run whatever goes wrong, but for a model
        that has diverged; later, what cannot be measured is a look that cannot tell.
        """
        return self.after_step(step, lambda: denoiser)

    def after_step(self, step: int, denoiser: Callable[[], Any]) -> bool:
        """The same for a function that makes the denoiser, called if it is due: `train_denoiser(stop=...)`."""
        step = _whole(step)
        if not self.is_due(step):
            return False
        with generators_kept():
            made = denoiser()
        device = device_of_tensors(made)
        return said_by_process_0(bool(of_process_0(lambda: self._looked(step, made, device), device)), device)

    def _looked(self, step: int, denoiser: Any, device: torch.device) -> bool:
        """One look in this process at a denoiser on `device`, recorded, logged and shown."""
        if not isinstance(denoiser, Denoiser):
            raise InputError(
                f"denoiser: expected an object called with x_t and t that has a `schedule`, got "
                f"{type(denoiser).__name__} without"
            )
        shape = tuple(self.subject.train.shape[1:])
        if (stated := tuple(getattr(denoiser, "event_shape", shape))) != shape:
            raise InputError(f"data: expected examples of shape {stated}, the model's event_shape, got {shape}")
        repeated = any(look.step >= step for look in self.looks)
        if self.budget is not None and not repeated and self.looks:
            allowed = self.budget * (time.monotonic() - self._made)
            if self.seconds + self._last > allowed:
                return False
        first = not self.looks
        self._record.forget_from(step)
        start = time.monotonic()
        try:
            with undisturbed(denoiser):
                look = self._look(denoiser if device.type == "cpu" else OnDevice(denoiser, device), step)
        except Exception as error:
            if first and not isinstance(error, NotFiniteError):
                raise
            look = self._unknown(step, error)
        self.seconds += time.monotonic() - start
        self._last = look.seconds
        self.show(f"step {step:,}: {look.sentence}")
        for keep in (lambda: self._record.append(look), lambda: self._send(scalars(look), step)):
            try:
                keep()
            except Exception as error:
                if first:
                    raise
                self.show(f"step {step:,}: this look was not kept ({_in_a_line(error)}).")
        return look.stop

    def _look(self, denoiser: Denoiser, step: int) -> Look:
        count = len(self.looks) + 1
        level = level_of_look(count, self.false_stop)
        if self._looking is None:
            self._looking = Looking(replace(self.subject, denoiser=denoiser), self.settings)
        return self._looking(denoiser, step, count, level, stops="copies" in self.stop_on)

    def _unknown(self, step: int, error: Exception) -> Look:
        """The look that failed with `error`."""
        count = len(self.looks) + 1
        return Look(
            step=step,
            look=count,
            word="cannot-tell",
            sentence=f"Cannot tell whether it copies: {_in_a_line(error)}.",
            stop=False,
            level=level_of_look(count, self.false_stop),
            detectable={},
        )

    def report(self, out: str | Path | None = None) -> Path:
        """Write monitor.html, the curves of all looks on one page, to `out` or the monitor's own folder; its path.

        Of several processes process 0 writes, and the others need not call it. Raises InputError before the first look,
        without a folder, and where it cannot be written.
        """
        folder = self.out if out is None else Path(out)
        if folder is None:
            raise InputError("out: expected a folder for the page, got none")
        if rank() > 0:
            return folder / PAGE
        if not self.looks:
            raise InputError("report: expected at least one look, got none")
        return write_page(monitor_page(self.looks, self.subject, self.settings, self.false_stop), folder / PAGE)


def _subject(data: Any) -> Subject:
    """The data as an audit takes them."""
    if isinstance(data, DataSet):
        return Subject.of(NoModel(), data)
    if not (isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(x, Tensor) for x in data)):
        kinds = ", ".join(type(x).__name__ for x in data[:4]) if isinstance(data, tuple | list) else ""
        raise InputError(
            "data: expected a data set, or training and held-out examples as two tensors, got "
            f"{type(data).__name__}{kinds and f' of {kinds}'}"
        )
    return Subject(NoModel(), data[0], data[1])


def _stops(stop_on: Any) -> tuple[str, ...]:
    """What stops the run; one word is itself."""
    words = (stop_on,) if isinstance(stop_on, str) else stop_on
    if not isinstance(words, Sequence | set | frozenset) or not set(words) <= set(STOPS):
        said = " ".join(map(str, words)) if isinstance(words, Sequence) else repr(stop_on)
        raise InputError(f"stop_on: expected 'copies' or nothing, got {said}")
    return tuple(words)


def _whole(step: Any) -> int:
    """A step as an integer, of whatever kind."""
    try:
        return operator.index(step)
    except TypeError as error:
        raise InputError(f"step: expected a whole number, got {step!r}") from error


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _said(value: Any) -> str:
    return f"{value:g}" if _is_number(value) else repr(value)


def _in_a_line(error: Exception) -> str:
    said = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    return " ".join(said.split())[:LONGEST]
