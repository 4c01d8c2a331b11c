"""The page runs as printed; adapters of other libraries stop their loops where the monitor says so, and log."""

import importlib
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from diffuscope.errors import InputError
from diffuscope.monitor import (
    Look,
    Monitor,
    accelerate_step,
    lightning_callback,
    scalars,
    sender,
    trainer_callback,
)

PAGE = Path(__file__).parents[2] / "docs" / "while_training.md"
LIBRARIES = {"Lightning": "lightning", "accelerate": "accelerate", "The Hugging Face Trainer": "transformers"}
TRAIN, HELDOUT = torch.zeros(30, 2), torch.zeros(30, 2)
LOOK = Look(step=20, look=2, word="copies", sentence="", stop=True, copied=0.25, copied_interval=(0.2, 0.3),
            detectable={"exact": 0.04}, gap=0.1)  # fmt: skip


def peer(name: str) -> Any:
    """The library, whose own warnings are its own; the test is skipped without it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


class StopsAt:
    """A monitor that stops at one step, and what it was asked."""

    def __init__(self, step: int) -> None:
        self.step, self.asked = step, list[tuple[int, Any]]()

    def after_step(self, step: int, denoiser: Any) -> bool:
        self.asked.append((step, denoiser()))
        return step >= self.step


@pytest.fixture
def stops(monkeypatch):
    """A real monitor whose looks are those of `StopsAt(3)`."""
    monitor, looks = Monitor((torch.randn(30, 2), torch.randn(30, 2)), every=1), StopsAt(3)
    monkeypatch.setattr(monitor, "after_step", looks.after_step)
    return monitor, looks


@pytest.mark.parametrize("package", ["lightning.pytorch", "pytorch_lightning"])
def test_lightning_stops_where_the_monitor_says_so(stops, package, monkeypatch, tmp_path):
    peer("lightning")
    peer(package)
    monkeypatch.chdir(tmp_path)
    monitor, looks = stops
    library = importlib.import_module(package)

    class Training(library.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def training_step(self, batch, batch_idx):
            del batch_idx
            return self.layer(batch[0]).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    batches = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(64, 2)), batch_size=4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = library.Trainer(
            max_steps=10, callbacks=[lightning_callback(monitor, lambda module: module.layer, package)], logger=False,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
            accumulate_grad_batches=2, num_sanity_val_steps=0,
        )  # fmt: skip
        model = Training()
        trainer.fit(model, batches)
    assert trainer.global_step == 3
    # once per optimizer step, although two batches make one
    assert [step for step, _ in looks.asked if step > 0] == [1, 2, 3]
    assert all(denoiser is model.layer for _, denoiser in looks.asked)


def test_the_hugging_face_trainer_stops_where_the_monitor_says_so(stops, tmp_path):
    transformers = peer("transformers")
    peer("accelerate")
    monitor, looks = stops

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(2, 2)

        def forward(self, x):
            return {"loss": self.layer(x).square().mean()}

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = transformers.Trainer(
            Model(),
            transformers.TrainingArguments(
                str(tmp_path), max_steps=10, report_to="none", save_strategy="no", use_cpu=True
            ),
            train_dataset=[{"x": torch.randn(2)} for _ in range(64)],
            callbacks=[trainer_callback(monitor, lambda model: model.layer)],
        )
        trainer.train()
    assert trainer.state.global_step == 3
    assert [step for step, _ in looks.asked] == [1, 2, 3]


def test_accelerate_asks_for_the_unwrapped_model(stops):
    monitor, looks = stops
    inner = nn.Linear(2, 2)
    wrapped = SimpleNamespace(module=inner)
    accelerator = SimpleNamespace(unwrap_model=lambda model: model.module)
    assert not accelerate_step(monitor, accelerator, 2, wrapped, lambda model: model)
    assert accelerate_step(monitor, accelerator, 3, wrapped, lambda model: model)
    assert [denoiser for _, denoiser in looks.asked] == [inner, inner]


def test_the_callbacks_follow_the_protocols_without_the_libraries(stops, monkeypatch):
    """Stand-ins for the two base classes: the logic of the adapters alone."""
    monitor, looks = stops
    monkeypatch.setitem(sys.modules, "stand_in", SimpleNamespace(Callback=object))
    monkeypatch.setitem(sys.modules, "transformers", SimpleNamespace(TrainerCallback=object))
    trainer, model = SimpleNamespace(global_step=0, should_stop=False), nn.Linear(2, 2)
    callback = lightning_callback(monitor, lambda module: module, "stand_in")
    for step in (1, 1, 2, 2, 3):
        trainer.global_step = step
        callback.on_train_batch_end(trainer, model, None, None, 0)
        assert trainer.should_stop == (step == 3)
    assert [step for step, _ in looks.asked] == [1, 2, 3]
    control = SimpleNamespace(should_training_stop=False)
    callback = trainer_callback(monitor, lambda module: module)
    for step in (2, 3):
        assert callback.on_step_end(None, SimpleNamespace(global_step=step), control, model=model) is control
        assert control.should_training_stop == (step == 3)


def test_an_absent_library_is_named(stops, monkeypatch):
    monitor, _ = stops
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match="monitor: transformers is not installed; pip install transformers"):
        trainer_callback(monitor, lambda model: model)
    with pytest.raises(InputError, match=r"package: no_such_package has no Callback here; expected one of lightning"):
        lightning_callback(monitor, lambda model: model, "no_such_package")


def test_every_kind_of_logger_takes_the_numbers_of_a_look():
    numbers, taken = scalars(LOOK), list[Any]()
    assert numbers == {
        "monitor/copied": 0.25, "monitor/copied_low": 0.2, "monitor/copied_high": 0.3, "monitor/detectable": 0.04,
        "monitor/gap": 0.1, "monitor/stop": 1.0,
    }  # fmt: skip
    writer = SimpleNamespace(add_scalar=lambda name, value, step: taken.append({name: value, "step": step}))
    sender(writer)(numbers, 20)
    assert taken == [{name: value, "step": 20} for name, value in numbers.items()]
    for log in (
        SimpleNamespace(log=lambda values, step: taken.append((values, step))),
        SimpleNamespace(log_metrics=lambda values, step: taken.append((values, step))),
        lambda values, step: taken.append((values, step)),
    ):
        taken.clear()
        sender(log)(numbers, 20)
        assert taken == [(numbers, 20)]
    sender(None)(numbers, 20)


def test_tensorboard_reads_the_numbers_again(tmp_path):
    peer("tensorboard")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(tmp_path)) as writer:
            sender(writer)(scalars(LOOK), 20)
        events = peer("tensorboard.backend.event_processing.event_accumulator").EventAccumulator(str(tmp_path))
        events.Reload()
    (event,) = events.Scalars("monitor/copied")
    assert (event.step, event.value) == (20, 0.25)


def test_weights_and_biases_takes_the_numbers_offline(tmp_path, monkeypatch):
    wandb = peer("wandb")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with wandb.init(dir=str(tmp_path), mode="disabled") as run:
            sender(run)(scalars(LOOK), 20)
