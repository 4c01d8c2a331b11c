"""Guidance and flow maps against closed forms."""

import json
from pathlib import Path

import pytest
import torch

from diffuscope.certify import certify_flow_map, certify_guidance, unequal_gaussian
from diffuscope.certify.guidance import gaussian
from diffuscope.denoisers import ExactDenoiser, Guided
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.samplers import DDIM, sample
from diffuscope.schedules import VP


def test_the_guided_denoiser_of_equal_covariances_is_that_of_the_extrapolated_mean():
    x = torch.linspace(-2, 2, 8, dtype=torch.float64).reshape(4, 2)
    exact = [ExactDenoiser(gaussian(shift), VP()) for shift in (1.0, 0.0, 3.0)]
    guided = exact[1](x, 0.4) + 3 * (exact[0](x, 0.4) - exact[1](x, 0.4))
    assert torch.allclose(guided, exact[2](x, 0.4), atol=1e-13)


def test_our_guidance_passes(tmp_path: Path):
    certificate = certify_guidance(Guided)
    assert certificate.verdict == "passes", [finding.verdict for finding in certificate.failures]
    assert certificate.save(tmp_path).exists()
    assert json.loads((tmp_path / "certificate.json").read_text())["kind"] == "guidance"


def guide(combine):
    return lambda conditional, free, scale: lambda x, t: combine(conditional(x, t), free(x, t), scale)


@pytest.mark.parametrize(
    ("combine", "said"),
    [
        (lambda c, u, w: c + w * (c - u), "its scale is smaller by one"),
        (lambda c, u, w: c + w * (u - c), "are exchanged"),
        (lambda c, u, w: u - w * (c - u), "the wrong way"),
        (lambda c, u, w: c, "it is the conditional denoiser"),  # noqa: ARG005
        (lambda c, u, w: (u + w * (c - u)).clamp(-1, 1), "off under"),
        (lambda c, u, w: u + w * (c - u) + 1e-6 * c.mean(0), "off under"),
    ],
    ids=["Ho & Salimans", "exchanged", "wrong sign", "no effect", "clipped", "coupled"],
)
def test_another_guidance_fails_and_its_convention_is_named(combine, said: str):
    certificate = certify_guidance(guide(combine))
    assert certificate.verdict == "fails"
    at_three = next(finding for finding in certificate.findings if finding.name == "guidance.scale_3")
    assert said in at_three.verdict


def test_what_is_no_guidance_is_one_line():
    (finding,) = certify_guidance(lambda c, u, w: None).findings  # noqa: ARG005  # pyright: ignore[reportArgumentType]
    assert "it returns a NoneType; expected a denoiser" in finding.verdict
    (finding,) = certify_guidance(guide(lambda c, u, w: c / (1 // 0))).findings  # noqa: ARG005
    assert "ZeroDivisionError" in finding.verdict


def exact_map(denoiser, x_t, t, s):
    return denoiser.distribution.flow(x_t, denoiser.schedule, float(t), float(s))


def ddim_map(denoiser, x_t, t, s):
    return x_t if t == s else sample(DDIM(), denoiser, x_t, torch.stack([t, s]))


def test_the_exact_flow_map_passes_and_one_step_of_ddim_does_not(tmp_path: Path):
    problems = (unequal_gaussian(),)
    certificate = certify_flow_map(exact_map, problems=problems)
    assert certificate.verdict == "passes", [finding.verdict for finding in certificate.failures]
    assert max(finding.value for finding in certificate.findings) < 1e-6
    one_step = certify_flow_map(ddim_map, problems=problems)
    assert {"map.gaussian.VE", "map.composition"} <= {finding.name for finding in one_step.failures}
    assert "flow map" in one_step.save(tmp_path).read_text()


@pytest.mark.parametrize("off", [0.9, 1.1])
def test_a_map_may_err_by_its_tolerance_and_no_more(off: float):
    """A shift of every result by a constant, in units of the data's scale at its end."""
    problem = unequal_gaussian()
    distribution = problem.distribution
    assert isinstance(distribution, Gaussian)

    def shifted(denoiser, x_t, t, s):
        ended = exact_map(denoiser, x_t, t, s)
        y = distribution.flow(problem.start(VP()), VP(), float(VP().time_of_noise_to_signal(4.0)), float(s))
        return ended + off * 0.01 * float(y.square().mean().sqrt())

    certificate = certify_flow_map(shifted, problems=(problem,), schedules=(VP(),))
    jumps = certificate.findings[0]
    assert jumps.value == pytest.approx(off * 0.01, rel=1e-6)
    assert jumps.tone == ("good" if off < 1 else "alarm")


def test_a_tolerance_is_a_fraction():
    with pytest.raises(InputError, match="tolerance: expected a number between 0 and 1, got 2"):
        certify_flow_map(exact_map, tolerance=2.0)
