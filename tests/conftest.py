"""What every test uses: measured orders of convergence, Monte-Carlo standard errors, the shared data folder."""

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

import first_calls

# shapes and types are checked in the whole test run; installed before the first import of the library
first_calls.install()
install_import_hook("diffuscope", "first_calls.checked")
# else a stated `rel` would say nothing of numbers below 1e-12 / rel
setattr(type(pytest.approx(1.0)), "DEFAULT_ABSOLUTE_TOLERANCE", 0.0)  # noqa: B010 (it has no public name)
torch.set_warn_always(True)  # of a number read from a graph in every test, not in the first one alone


@dataclass(frozen=True)
class MeasuredOrder:
    """The slope of log(error) against log(step), with the standard error of the fitted line."""

    order: float
    standard_error: float


def measured_order(error: Callable[[int], float], steps: list[int]) -> MeasuredOrder:
    """Least-squares order of `error(n)` over the numbers of steps `steps`: error ~ n^(-order)."""
    log_n = np.log(np.asarray(steps, dtype=np.float64))
    log_error = np.log(np.asarray([error(n) for n in steps], dtype=np.float64))
    design = np.stack([np.ones_like(log_n), -log_n], axis=1)
    coefficients, *_ = np.linalg.lstsq(design, log_error, rcond=None)
    residual = log_error - design @ coefficients
    variance = residual @ residual / max(1, len(steps) - 2)
    covariance = variance * np.linalg.inv(design.T @ design)
    return MeasuredOrder(float(coefficients[1]), float(np.sqrt(covariance[1, 1])))


@dataclass(frozen=True)
class Estimate:
    """A Monte-Carlo mean with its standard error."""

    mean: float
    standard_error: float

    def agrees_with(self, truth: float, standard_errors: float = 4.0) -> bool:
        """|mean - truth| within so many standard errors (4: one false alarm in 16,000)."""
        return abs(self.mean - truth) <= standard_errors * self.standard_error


def monte_carlo(values: torch.Tensor) -> Estimate:
    """Mean and standard error of independent draws."""
    flat = values.double().flatten()
    return Estimate(float(flat.mean()), float(flat.std() / len(flat) ** 0.5))


def tensors_of(answer: object) -> list[torch.Tensor]:
    """The tensors of an answer: itself, or those in its fields and items at any depth."""
    if isinstance(answer, torch.Tensor):
        return [answer]
    if is_dataclass(answer):
        return [tensor for field in fields(answer) for tensor in tensors_of(getattr(answer, field.name))]
    items = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, (tuple, list)) else ()
    return [tensor for item in items for tensor in tensors_of(item)]


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The second of two workers begins at the end: what one has compiled the other reads from its file."""
    report = yield
    if os.environ.get("PYTEST_XDIST_WORKER") == "gw1" and isinstance(collector, (pytest.Session, pytest.Directory)):
        report.result.reverse()
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers must have the tests in one order: that of the folders."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.parts)


def pytest_collection_finish() -> None:
    """The tests stay to the end of the run: who collects garbage need not look through them each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def _first_calls_are_checked() -> None:
    """In every test anew."""
    first_calls.again()


@pytest.fixture(autouse=True)
def _figures_of_experiments_are_checked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of an experiment a test asks: its bands hold their lines."""
    if request.path.parent.name == "experiments":
        import_module("figure_checks").check_answers(monkeypatch)


@pytest.fixture
def generator() -> torch.Generator:
    """A fresh generator with a fixed seed: no test draws from the global one."""
    return torch.Generator().manual_seed(0)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """The order of summation in a matrix product follows the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without what is drawn in their figures, which takes most of the time of a page."""
    monkeypatch.setattr("diffuscope.report.page.page_svg", lambda _: '<svg class="plot" viewBox="0 0 1 1"></svg>')


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that DIFFUSCOPE_DATA names; a test that needs it is skipped where it is absent."""
    named = os.environ.get("DIFFUSCOPE_DATA")
    if not named or not Path(named).is_dir():
        pytest.skip("the folder of real data is absent; name it in DIFFUSCOPE_DATA")
    return Path(named).resolve()


@pytest.fixture(scope="session")
def cifar_data(shared_data: Path) -> Iterator[Path]:
    """A data folder in which `cifar10` is found; where there are sheets of tiles they are converted, once a session."""
    if any((shared_data / name / "data_batch_1.bin").is_file() for name in ("cifar10", "cifar-10-batches-bin")):
        yield shared_data
        return
    if not any((shared_data / "cifar10").glob("train_*.webp")):
        pytest.skip("CIFAR-10 is absent from the folder that DIFFUSCOPE_DATA names")
    with TemporaryDirectory(prefix="cifar10-") as folder:
        script = Path(__file__).parents[1] / "tools" / "cifar_sheets.py"
        subprocess.run([sys.executable, script, shared_data / "cifar10", "--out", folder], check=True)
        yield Path(folder)
