"""A value that is exactly its limit is within it: the limit is set to the value that was measured."""

import math

import pytest

from diffuscope.certify import Target, certify_flow_map, constant, guidance, unequal_gaussian
from diffuscope.certify.constant import constant as constant_of
from diffuscope.denoisers import Guided
from diffuscope.findings import Finding
from diffuscope.samplers import DDIM, sample
from diffuscope.schedules import VE

PROBLEM = unequal_gaussian()


def exact_map(denoiser, x_t, t, s):
    return denoiser.distribution.flow(x_t, denoiser.schedule, float(t), float(s))


def late(denoiser, x_t, t, s):
    """Off by a hundredth where the level is left by more than a factor of ten; by less, and where it is not left."""
    return exact_map(denoiser, x_t, t, s) + 1e-4 * PROBLEM.scale * (1 + 100 * (float(t) > 10 * float(s)))


def named(name: str, tolerance: float) -> Finding:
    found = certify_flow_map(late, tolerance=tolerance, problems=(PROBLEM,), schedules=(VE(),)).findings
    return next(finding for finding in found if finding.name == name)


@pytest.mark.parametrize(("name", "part"), [("map.gaussian.VE", 1.0), ("map.identity", 1.0), ("map.composition", 0.5)])
def test_a_flow_map_may_err_by_exactly_its_tolerance(name, part):
    value = named(name, 0.5).value
    assert 0 < value < 1
    for tolerance, tone in ((part * value, "good"), (math.nextafter(part * value, 0), "alarm")):
        assert named(name, tolerance).tone == tone


@pytest.mark.parametrize("asked", [lambda guide: guidance._at_scale(guide, 3.0), guidance._rows])
def test_guidance_may_err_by_exactly_the_rounding(asked, monkeypatch):
    def rounded(conditional, free, scale):
        return lambda x, t: Guided(conditional, free, scale)(x, t) + 1e-7 + 1e-7 * (len(x) > 1)

    value = asked(rounded).value
    for limit, tone in ((value, "good"), (math.nextafter(value, 0), "alarm")):
        monkeypatch.setattr(guidance, "EXACT", limit)
        assert asked(rounded).tone == tone


def test_an_error_of_exactly_so_many_times_the_references_is_not_much_more(monkeypatch):
    def run(denoiser, x, times, generator):  # noqa: ARG001
        ended = denoiser.distribution.flow(x, denoiser.schedule, float(times[0]), float(times[-1]))
        return ended + 7 * (sample(DDIM(), denoiser, x, times) - ended)

    slow = Target("slow", run, 1, False, 1)
    value = constant_of(slow, PROBLEM, VE(), 1.0).value
    assert value == pytest.approx(7, rel=0.2)
    for limit, tone in ((value, "good"), (math.nextafter(value, 0), "attention")):
        monkeypatch.setattr(constant, "MUCH", limit)
        assert constant_of(slow, PROBLEM, VE(), 1.0).tone == tone
