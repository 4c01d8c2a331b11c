"""An audit of data held as bytes: nothing takes all of them as floats, and its answers are those of the float32 tensor.

LARGEST is set so low that 256 training or held-out examples may be floats at once, and no more: whatever would take all
of them is refused by its name, and fails the test.
"""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from audit_subjects import asked
from diffuscope import byte_examples
from diffuscope.audit import AuditResult, SecondModel, Settings, Subject, audit_classes, audit_model, audit_samples
from diffuscope.byte_examples import ByteExamples
from diffuscope.data import DataSet, as_tensors, data_from_arrays, make_canaries
from diffuscope.denoisers import ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.schedules import VE
from diffuscope.training import train_denoiser

EVENT = (3, 8, 8)
TRAIN, HELDOUT, SAMPLES = 560, 280, 270
SIZE = 4 * 3 * 8 * 8  # bytes of one example as float32
SETTINGS = Settings(levels=4, points=24, trajectories=8, generated=40, components=2, step_seeds=8)


def pictures(n: int, seed: int) -> ndarray:
    """Smooth colored pictures of two classes, dark and light."""
    fields = gaussian_filter(np.random.default_rng(seed).standard_normal((n, *EVENT)), (0, 0.5, 1.5, 1.5))
    light = np.where(np.arange(n) % 2, 150, 90)[:, None, None, None]
    return (fields / fields.std() * 40 + light).clip(0, 255).astype(np.uint8)


def loaded(*, above: int) -> DataSet:
    """The data set, held as bytes if it takes more than `above` bytes in float32."""
    labels = [np.arange(n) % 2 for n in (TRAIN, HELDOUT)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(as_tensors, "ABOVE", above)
        data = data_from_arrays(
            pictures(TRAIN, 0), pictures(HELDOUT, 1), labels=labels[0], heldout_labels=labels[1], data_range=(0, 255)
        )
    return data.in_range(-1, 1)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch) -> None:
    """Parts of 40 examples wherever there are parts, for bytes and for floats."""
    monkeypatch.setattr(byte_examples, "PART", 40 * SIZE)
    for name, value in {
        "audit.rows_of.AT_ONCE": 40 * SIZE,
        "audit.data_gaussian.BATCH_NUMBERS": 40 * SIZE // 4,
        "audit.repeats.CHUNK": 40 * SIZE // 4,
        "audit.alignment.MEMORY": 40 * SIZE,
        "exact._clusters.CHUNK_BYTES": 6 * 40 * SIZE,
        "exact.neighbors.MEMORY": 40 * SIZE,
        "exact._screening.MOST_ROWS": 64,
    }.items():
        monkeypatch.setattr(f"diffuscope.{name}", value)
    monkeypatch.setitem(inspect.unwrap(Empirical.__init__).__kwdefaults__, "memory", 40 * SIZE)


@pytest.fixture
def both(monkeypatch) -> tuple[DataSet, DataSet]:
    """The data held as bytes, and as floats."""
    held, plain = loaded(above=0), loaded(above=10**9)
    assert isinstance(held.train, ByteExamples)
    assert isinstance(held.heldout, ByteExamples)
    assert not isinstance(plain.train, ByteExamples)
    monkeypatch.setattr(byte_examples, "LARGEST", 257 * SIZE)
    for part in (held.train, held.heldout):  # the test can fail
        with pytest.raises(ValueError, match="part by part"):
            part.flatten(1).var(0)
    return held, plain


def samples() -> Float[Tensor, "n *event"]:
    return torch.from_numpy(pictures(SAMPLES, 2) / 127.5 - 1).float()


def answers(result: AuditResult) -> list[tuple[object, ...]]:
    """Every finding but its value, to be compared for equality."""
    return [(f.name, f.tone, f.verdict, f.p_value) for part in result.findings.values() for f in part]


def values(result: AuditResult) -> list[float]:
    return [finding.value for part in result.findings.values() for finding in part]


def require_alike(held: AuditResult, plain: AuditResult, tmp_path) -> None:
    """The products of the exact posterior are of bytes in one, and state an error of 2e-6 at most."""
    assert answers(held) == answers(plain)
    assert values(held) == pytest.approx(values(plain), rel=2e-6, nan_ok=True)
    assert held.verdict.word == plain.verdict.word
    held.save(tmp_path / "held")
    plain.save(tmp_path / "plain")
    assert (tmp_path / "held" / "report.html").stat().st_size > 10_000


def test_the_units_of_samples_are_judged_alike(both, tmp_path):
    with asked("samples"):
        held, plain = (audit_samples(samples(), data, SETTINGS) for data in both)
    require_alike(held, plain, tmp_path)


def test_a_missing_mode_is_shown_alike(both, tmp_path):
    """Samples of one class alone: the page shows held-out pictures of the other, in the range of all of them."""
    with asked("diversity"):
        held, plain = (audit_samples(samples()[::2], data, SETTINGS) for data in both)
    require_alike(held, plain, tmp_path)
    assert "Where samples are missing" in (tmp_path / "held" / "report.html").read_text()


@pytest.mark.parametrize("features", [("pixels", "pca"), ("clusters", "classifier")], ids=str)
@pytest.mark.slow
def test_samples_are_audited_alike_and_nothing_takes_all_of_the_data(both, tmp_path, features):
    settings = replace(SETTINGS, features=features, transformations=("none",))
    held, plain = (audit_samples(samples(), data, settings) for data in both)
    require_alike(held, plain, tmp_path)


@pytest.mark.slow
def test_samples_are_audited_and_nothing_takes_all_of_the_data(both, tmp_path):
    audit_samples(samples(), both[0], replace(SETTINGS, transformations=("none",))).save(tmp_path)


def test_the_quality_of_samples_is_measured_and_nothing_takes_all_of_the_data(both):
    with asked("quality"):
        found = audit_samples(samples(), both[0], SETTINGS)["quality"].result
    assert "a blur of 1 pixel" in set().union(*(one.seen for one in found.judged))
    assert found.deciding.samples.interval[0] < 1.5  # samples of the same distribution are not far


@pytest.mark.slow
def test_copies_are_searched_alike_under_every_transformation(both, tmp_path):
    given = samples()
    given[:20] = both[1].train[:20].flip(-1)
    with asked("memorized"):
        found = [audit_samples(given, data, replace(SETTINGS, features=("pixels", "patches"))) for data in both]
    assert found[0].verdict.word == "copies"
    require_alike(found[0], found[1], tmp_path)


@pytest.mark.slow
def test_classes_are_audited_alike_and_nothing_takes_all_of_the_data(both):
    """Of two classes, each of more examples than may be floats at once."""
    x = both[1].train

    class ByLabel:
        schedule, classes = VE(), 2
        parts = tuple(ExactDenoiser(Gaussian.fit(x[y::2].split(100)), VE()) for y in (0, 1))

        def __call__(self, x_t, t, y=None):
            assert y is not None
            return self.parts[int(y)](x_t, t)

    settings = replace(SETTINGS, transformations=("none",))
    with asked("memorized"):
        held, plain = (audit_classes(Subject.of(ByLabel(), data), settings=settings) for data in both)
    for y in (0, 1):
        assert answers(held[y]) == answers(plain[y])
        assert {"class", "class-samples", "other-classes"} <= set(held[y].findings)


@pytest.mark.slow
def test_a_model_is_audited_alike_and_nothing_takes_all_of_the_data(both, tmp_path):
    plain = both[1]
    model, other = (ExactDenoiser(Gaussian.fit(plain.train[:n].split(100)), VE()) for n in (TRAIN, TRAIN // 2))
    canaries = make_canaries(plain, 40, seed=1)

    def audited(data: DataSet) -> AuditResult:
        owners: dict[str, Any] = {
            f"{name}_owners": torch.arange(len(getattr(data, name))) % 5 for name in ("train", "heldout")
        }
        subject = Subject.of(model, data, canaries=canaries, **owners)
        settings = replace(SETTINGS, diagnostics=True, transformations=("none",))
        return audit_model(subject, settings, second_model=SecondModel(other, data.train, "other"))

    require_alike(audited(both[0]), audited(both[1]), tmp_path)


@pytest.mark.slow
def test_a_model_is_trained_on_bytes_as_on_floats(both, tmp_path):
    weights = []
    for name, data in zip(("held", "plain"), both, strict=True):
        (tmp_path / name).mkdir()
        trained = train_denoiser(data, steps=3, batch_size=4, out=tmp_path / name, log_every=2)
        weights.append([p.detach() for p in trained.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*weights, strict=True))
    logs = [(tmp_path / name / "distance.jsonl").read_text() for name in ("held", "plain")]
    assert logs[0].count("\n") == logs[1].count("\n") > 0
