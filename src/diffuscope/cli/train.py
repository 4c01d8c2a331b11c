"""Train a small model."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro
from tqdm import tqdm

from diffuscope.distributed import wait_for_all
from diffuscope.errors import InputError
from diffuscope.streams import require_seed
from diffuscope.training import Precision, process_group, rank, train_denoiser

from .options import DataOptions, DeviceOptions, TrainOptions, require_within, writing

if TYPE_CHECKING:
    from diffuscope.data import DataSet
    from diffuscope.monitor import Monitor

WRITTEN = ("model.safetensors", "training.safetensors", "distance.jsonl", "monitor.jsonl", "monitor.html")


@dataclass(frozen=True)
class Train:
    """Train a small model. Rerun the same command to resume an interrupted run.

    Under torchrun (torchrun --nproc-per-node 2 -m diffuscope train) the processes share every batch, one GPU each if
    available. A single process trains on the CPU, or on --device.

    Example:
        >>> import diffuscope
        >>> from diffuscope.cli import main
        >>> main("train --data two-moons --train-limit 50 --train-steps 2 --log-every 0".split())
        Model: out/train/model.safetensors
        >>> diffuscope.load_model("out/train/model.safetensors").event_shape
        (2,)
    """

    source: tyro.conf.OmitArgPrefixes[DataOptions] = field(default_factory=DataOptions)
    training: tyro.conf.OmitArgPrefixes[TrainOptions] = field(default_factory=TrainOptions)
    hardware: tyro.conf.OmitArgPrefixes[DeviceOptions] = field(default_factory=DeviceOptions)
    conditional: bool = False
    """Train a class-conditional model (needs labels)."""
    precision: Precision = "float32"
    """Precision of matrix products; weights are always float32."""
    compile: bool = False
    """Compile the model with torch.compile; takes about a minute."""
    log_every: int = 500
    """Log the distance to the exact optimum every so many steps; 0 for never."""
    tensorboard: bool = False
    """Also log to TensorBoard, in the folder tensorboard of --out; requires diffuscope[tensorboard]."""
    audit_every: int = 0
    """Look for copies of training examples every so many steps (monitor.jsonl, monitor.html); 0 for never."""
    stop_on: Literal["copies"] | None = None
    """Stop the training when copying has begun; needs --audit-every."""
    out: Path = Path("out/train")
    """Folder for model.safetensors, the checkpoint and the logs."""
    seed: int = 0
    """Random seed for the split, the initial weights, batches and noise."""
    forecast: bool = False
    """Do not train: forecast the step at which copying will start, from pilot runs on fewer examples."""

    def run(self) -> None:
        """Check, train and save."""
        chosen = self.hardware.chosen()
        self.source.check()
        self.training.check()
        require_seed(self.seed)
        require_within("log_every", self.log_every, 0, 10**9)
        require_within("audit_every", self.audit_every, 0, 10**9)
        if self.stop_on and not self.audit_every:
            raise InputError("stop_on: expected --audit-every as well, the number of steps between two looks; got none")
        if self.audit_every > self.training.train_steps and not self.forecast:
            raise InputError(
                f"audit_every: expected at most --train-steps, {self.training.train_steps}, as no look would be due; "
                f"got {self.audit_every}"
            )
        if self.forecast:
            self._forecast()
            return
        with writing(self.out, *WRITTEN), process_group(chosen) as device:
            data = self.source.load(self.seed).in_range(-1.0, 1.0)
            monitor = self._monitor(data) if self.audit_every else None
            train_denoiser(
                data,
                steps=self.training.train_steps,
                batch_size=self.training.batch_size,
                seed=self.seed,
                conditional=self.conditional,
                out=self.out,
                log_every=self.log_every,
                tensorboard=self.tensorboard,
                precision=self.precision,
                compiled=self.compile,
                device=device,
                stop=None if monitor is None else monitor.after_step,
            )
            if rank() == 0:
                if monitor is not None and monitor.last is not None:
                    if monitor.last.stop:
                        print(f"Stopped at step {monitor.last.step:,}: copying has begun")
                    print(f"Looks while training: {monitor.report()}")
                print(f"Model: {self.out / 'model.safetensors'}")
                if self.log_every:
                    print(f"Distance to the optimum: {self.out / 'distance.jsonl'}")

    def _monitor(self, data: "DataSet") -> "Monitor":
        """The monitor of this run; the log of an earlier run in the folder is that of a resumed one only."""
        from diffuscope.monitor import EFFORT, LOG, Monitor  # imports that a training alone need not wait for

        if rank() == 0 and not (self.out / "training.safetensors").exists():
            (self.out / LOG).unlink(missing_ok=True)
        wait_for_all()
        stop_on = (self.stop_on,) if self.stop_on else ()
        settings = replace(EFFORT, seed=self.seed)
        return Monitor(
            data, every=self.audit_every, settings=settings, out=self.out, stop_on=stop_on, show=tqdm.write
        )  # fmt: skip

    def _forecast(self) -> None:
        """The forecast of this run, in one process."""
        if "RANK" in os.environ:
            raise InputError("forecast: expected a single process, not torchrun")
        if self.conditional:
            raise InputError("forecast: expected a model without classes, got --conditional")
        if self.audit_every:
            raise InputError(f"forecast: expected without --audit-every, got {self.audit_every}")
        from .forecast import FILE, Plan, forecast  # imports that a training need not wait for

        plan = Plan(
            steps=self.training.train_steps,
            batch_size=self.training.batch_size,
            seed=self.seed,
            precision=self.precision,
            compiled=self.compile,
        )
        with writing(self.out, FILE):
            forecast(self.source.load(self.seed).in_range(-1.0, 1.0), plan, self.out)
