"""The audit of a guided model: samples and steps are the guided one's, everything else the conditional one's."""

from dataclasses import replace

import pytest
import torch
from made_by_hand import classifiers_are_quick, other_tools_are_quick  # noqa: F401

from audit_subjects import SMALL, asked
from diffuscope.audit import Subject, audit_classes, audit_model
from diffuscope.audit.class_audit import of_class
from diffuscope.audit.class_data import ClassData
from diffuscope.audit.fingerprint import fingerprint
from diffuscope.audit.guided import with_guidance
from diffuscope.audit.questions.steps import measure_steps
from diffuscope.audit.session import Session
from diffuscope.denoisers import ExactDenoiser, Guided
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE

SETTINGS = replace(SMALL, levels=32, points=100, generated=2000, transformations=("none",), examples=False)
SCALE, OF_CLASS, OF_ALL = 2.0, 1.0, 2.0  # w and the variances


def normal(n: int, seed: int, variance: float = OF_CLASS):
    return variance**0.5 * torch.randn(n, 4, generator=torch.Generator().manual_seed(seed))


def centered(variance: float) -> ExactDenoiser:
    return ExactDenoiser(Gaussian.isotropic(torch.zeros(4, dtype=torch.float64), variance), VE(0.002, 1000.0))


@pytest.fixture(scope="module")
def guided():
    return Guided(centered(OF_CLASS), centered(OF_ALL), SCALE)


@pytest.fixture(scope="module")
def subject(guided):
    return Subject(guided, normal(400, 1), normal(400, 2), "guided")


def flow(level: float, top: float) -> float:
    """What the exact flow of the guided denoiser multiplies a state by, from sigma = `top` to `level`."""
    half = SCALE / 2
    return (((OF_CLASS + level**2) / (OF_CLASS + top**2)) ** half) * (
        ((OF_ALL + level**2) / (OF_ALL + top**2)) ** (0.5 - half)
    )


@pytest.fixture(scope="module")
def result(subject):
    with asked("wiring", "memorized", "learned"):
        return audit_model(subject, SETTINGS)


def test_samples_have_the_variance_of_the_guided_flow_and_errors_those_of_the_conditional_denoiser(result):
    """Scale 2 gives samples of variance v_c^2 / v_u = 1/2, and the denoiser is that of variance v_c = 1."""
    assert result.samples is not None
    assert float(result.samples.var()) == pytest.approx(OF_CLASS**SCALE * OF_ALL ** (1 - SCALE), rel=0.06)  # 4 of 1.6%
    assert result["wiring"].findings[0].tone in ("good", "neutral")  # few points say little of its time
    assert result["wiring"].result.skill is not None
    # the loss of the denoiser of N(0, 1) is v s^2 / (v + s^2) per coordinate
    skill = result["wiring"].result.skill
    assert skill.error == pytest.approx(skill.gaussian, rel=0.15)
    gap = next(f for f in result.findings["memorized"] if f.name == "memorized.gap")
    assert gap.tone == "good"


def test_the_page_says_what_was_asked_of_which(result):
    for text in (str(result.page()), result.model_card()):
        assert "guidance of scale 2" in text
        assert "samples, copies, quality, diversity and steps are those of the guided model" in text
        assert "a guided model is the denoiser of no data" in text


def test_the_steps_are_those_of_the_guided_flow(subject):
    """A jump by the flow of the class's Gaussian from T to s, then guidance: off by a known factor."""
    asked_of = with_guidance(subject)
    session = Session(asked_of, replace(SETTINGS, step_seeds=64, skip_tolerance=0.25))
    arrays = measure_steps(session)
    fitted = session.references.gaussian
    top, level, low = float(session.levels.ratios[0]), float(arrays["skip"]), float(session.levels.ratios[-1])
    assert low < level < top
    variance = fitted.trace / 4  # the jump is by the Gaussian of the data, of variance 1 within 5%
    jumped = ((variance + level**2) / (variance + top**2)) ** 0.5
    last = (SCALE * OF_CLASS / (OF_CLASS + low**2) + (1 - SCALE) * OF_ALL / (OF_ALL + low**2)) * flow(low, level)
    deviation = (variance + top**2) ** 0.5  # of the states at the top
    off = abs(jumped - flow(level, top)) * last * deviation / asked_of.scale
    measured = float((arrays["measured"] ** 2).mean() ** 0.5)
    assert measured == pytest.approx(off, rel=0.3)  # a chi of 256 coordinates: 4%, and that of the fitted variance
    assert all((arrays[name] >= 0).all() for name in ("plain", "teleported", "reference_error", "measured"))
    # without guidance the jump may go all the way down
    plain = measure_steps(Session(replace(asked_of, sampled=None), session.settings))
    assert float(plain["skip"]) == pytest.approx(low)


def test_a_scale_of_one_is_no_guidance_and_another_scale_is_another_audit(subject, guided):
    one = replace(subject, denoiser=Guided(guided.conditional, guided.unconditional, 1))
    assert with_guidance(one).sampled is None
    assert with_guidance(one).denoiser is guided.conditional
    known = [fingerprint(with_guidance(replace(subject, denoiser=Guided(guided.conditional, guided.unconditional, w))),
                         SETTINGS, None) for w in (2, 2, 3)]  # fmt: skip
    assert known[0] == known[1] != known[2]
    assert with_guidance(with_guidance(subject)).sampled is guided


class TwoClasses:
    """N(+1, 1) and N(-1, 1) in every coordinate, and without a class N(0, 2), of equal first two moments."""

    schedule, classes = VE(0.002, 1000.0), 2

    def __call__(self, x_t, t, y=None):
        if y is None or int(y) == 2:
            return centered(OF_ALL)(x_t, t)
        mean = 1.0 - 2.0 * int(y)
        return mean + centered(OF_CLASS)(x_t - mean, t)


def test_each_class_is_guided_toward_its_mean():
    """D_w of class y has its fixed point where the flow ends: mean and variance in closed form."""
    train, heldout = (torch.cat([1 + normal(200, seed), -1 + normal(200, seed + 1)]) for seed in (1, 3))
    labels = torch.arange(2).repeat_interleave(200)
    subject = Subject(TwoClasses(), train, heldout, train_labels=labels, heldout_labels=labels)
    data = ClassData(TwoClasses(), train, heldout, labels, labels, (0, 1))
    part = of_class(subject, data, 1, SCALE)
    assert isinstance(part.sampled, Guided)
    assert torch.equal(part.train, train[200:])
    with asked():
        result = audit_classes(subject, settings=SETTINGS, guidance=SCALE)
    for y, sign in ((0, 1), (1, -1)):
        samples = result[y].samples
        assert samples is not None
        assert float(samples.var()) == pytest.approx(0.5, rel=0.06)
        assert sign * float(samples.mean()) > 1.2  # beyond the mean of the class
        assert result[y]["class"].findings[0].tone == "good"
    assert "guidance of scale 2" in str(result.page())
    assert result.unconditional is not None
    assert result.unconditional.tone == "good"
    assert result.verdict.word != "broken"


def test_guidance_away_from_one_of_the_classes_is_told():
    """Asked of no class, the model answers as its class 1 does: on data of both, 1 of them is as good as the other.

    On three parts of class 0 and one of class 1, class 0 is the better denoiser of all data.
    """

    class NoneIsOne(TwoClasses):
        def __call__(self, x_t, t, y=None):
            return super().__call__(x_t, t, 1 if y is None else y)

    train, heldout = (torch.cat([1 + normal(300, seed), -1 + normal(100, seed + 1)]) for seed in (1, 3))
    labels = torch.arange(2).repeat_interleave(torch.tensor([300, 100]))
    subject = Subject(NoneIsOne(), train, heldout, train_labels=labels, heldout_labels=labels)
    with asked():
        result = audit_classes(subject, [0], SETTINGS, guidance=SCALE)
    assert result.unconditional is not None
    assert result.unconditional.tone == "alarm"
    assert "class 0 denoises them better" in result.unconditional.verdict
    assert result.verdict.word == "broken"
    assert result.has(["broken"])


def test_guidance_of_a_one_step_model_is_refused(guided):
    class OneStep(ExactDenoiser):
        one_step = True

    conditional = OneStep(guided.conditional.distribution, guided.schedule)
    subject = Subject(Guided(conditional, guided.unconditional, 2), normal(50, 1), normal(50, 2))
    with pytest.raises(InputError, match=r"^guidance: expected 1 for a one-step model"):
        audit_model(subject, SETTINGS)
    one = with_guidance(replace(subject, denoiser=Guided(conditional, guided.unconditional, 1)))
    assert one.denoiser is conditional
    assert one.sampled is None
