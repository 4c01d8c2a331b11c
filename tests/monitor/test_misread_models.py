"""A look at models that are not read as they were trained: that none of their samples is a copy says nothing."""

import pytest
import torch
from torch import Tensor, nn

from diffuscope.audit import Settings
from diffuscope.audit.frechet_ratio import Fidelity
from diffuscope.denoisers import DataPredictor, Denoiser, ExactDenoiser, NoisePredictor
from diffuscope.exact import Gaussian
from diffuscope.findings import FrechetDistance
from diffuscope.monitor import Monitor
from diffuscope.monitor.judged_copies import JudgedCopies, Word, with_distance
from diffuscope.schedules import VP

NARROW = Gaussian(torch.zeros(2).double(), torch.eye(2).double(), torch.tensor([1.0, 0.01]).double(), 0.0)
SCHEDULE = VP()
EXACT = ExactDenoiser(NARROW, SCHEDULE)


class Noise(nn.Module):
    """The noise as the exact denoiser predicts it, times a factor, at a time that may be another."""

    def __init__(self, factor: float = 1.0, reverse: bool = False) -> None:
        super().__init__()
        self.factor, self.reverse = factor, reverse

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        first = float(t.flatten()[0])
        at = SCHEDULE.t_max + SCHEDULE.t_min - first if self.reverse else first
        alpha, sigma = float(SCHEDULE.alpha(at)), float(SCHEDULE.sigma(at))
        return self.factor * (x_t - alpha * EXACT(x_t.double(), at)).to(x_t) / sigma


def read(network: nn.Module, kind: type = NoisePredictor) -> Denoiser:
    return kind(network, SCHEDULE, event_shape=(2,), data_range=(-4.0, 4.0))


@pytest.fixture(scope="module")
def looks() -> dict[str, tuple[str, str]]:
    generator = torch.Generator().manual_seed(0)
    train, heldout = (NARROW.sample(n, generator=generator).float() for n in (200, 400))
    settings = Settings(points=16, generated=200, trajectories=8, levels=10)
    monitor = Monitor((train, heldout), every=1, settings=settings, show=lambda _: None)
    models = {
        "right": read(Noise()),
        "reversed times": read(Noise(reverse=True)),
        "the other sign": read(Noise(-1.0)),
        "nothing learned": read(Noise(0.0)),
        "noise read as data": read(Noise(), DataPredictor),
    }
    for step, model in enumerate(models.values(), 1):
        monitor(step, model)
    return {name: (look.word, look.sentence) for name, look in zip(models, monitor.looks, strict=True)}


def test_the_model_read_as_it_was_trained_does_not_copy(looks):
    assert looks["right"][0] == "not-detected"
    assert looks["right"][1].endswith("would be found with probability 0.95.")


def test_of_reversed_times_that_still_make_samples_the_distance_is_said(looks):
    """Less than half as far as white noise, but far: the sentence does not leave it at that no copies were found."""
    word, sentence = looks["reversed times"]
    assert word == "not-detected"
    assert "times as far from held-out data as other held-out data are." in sentence


@pytest.mark.parametrize("name", ["the other sign", "nothing learned", "noise read as data"])
def test_of_a_misread_model_nothing_can_be_told(looks, name):
    word, sentence = looks[name]
    assert word == "cannot-tell"
    assert "is not read as it was trained" in sentence


def at(ratio: float, error: float = 0.0, size: int = 100) -> Fidelity:
    distance = FrechetDistance(ratio, error)
    return Fidelity(size=size, samples=distance, recited=distance, real=1.0, real_error=0.0, real_deviation=0.0)


def judged(word: Word) -> JudgedCopies:
    return JudgedCopies(
        word=word, sentence="No copying.", copied=0.0, copied_interval=(0.0, 0.1), samples=100, heldout=100,
        p_value=0.5, level=0.01, detectable={"exact": 0.1},
    )  # fmt: skip


@pytest.mark.parametrize(
    ("samples", "noise", "word", "said"),
    [
        (at(2.0), at(8.0), "not-detected", ""),  # close
        (at(2.01), at(8.0), "not-detected", " The samples are 2.01 times as far from held-out data as other"),
        (at(3.99), at(8.0), "not-detected", " The samples are 3.99 times"),
        (at(4.0), at(8.0), "cannot-tell", "its samples are 4 times as far from held-out data as other held-out"),
        (at(3.9, 0.1), at(8.0), "cannot-tell", "3.9 times"),  # the interval reaches the half
        (at(3.0), at(2.0), "not-detected", " The samples are 3 times"),  # data that white noise is close to
        (at(3.0), None, "not-detected", " The samples are 3 times"),
        (None, at(8.0), "not-detected", ""),  # not measured
    ],
)
def test_what_is_said_of_samples_by_their_distance(samples, noise, word, said):
    found = with_distance(judged("not-detected"), samples, noise)
    assert found.word == word
    assert found.sentence.startswith("No copying." if word == "not-detected" else "Cannot tell whether it copies: ")
    assert said in found.sentence
    assert (said != "") == (found.sentence != "No copying.")


@pytest.mark.parametrize("word", ["copies", "suspected", "cannot-tell"])
def test_no_other_verdict_depends_on_the_distance(word):
    assert with_distance(judged(word), at(9.0), at(8.0)) == judged(word)
