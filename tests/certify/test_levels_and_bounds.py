"""Guidance and flow maps: the levels that are asked, and what is just within a bound and just beyond it."""

import math

import pytest
import torch

from diffuscope.certify import certify_flow_map, certify_guidance, unequal_gaussian
from diffuscope.certify.guidance import gaussian
from diffuscope.schedules import VE, VP, RectifiedFlow

JUST = pytest.mark.parametrize(("off", "tone"), [(0.95, "good"), (1.05, "alarm")])
PROBLEM = unequal_gaussian()


def exact_map(denoiser, x_t, t, s):
    return denoiser.distribution.flow(x_t, denoiser.schedule, float(t), float(s))


def found(certificate, name):
    return next(finding for finding in certificate.findings if finding.name == name)


def guide(combine):
    return lambda conditional, free, scale: lambda x, t: combine(conditional(x, t), free(x, t), scale)


def guided(conditional, free, scale):
    return free + scale * (conditional - free)


def test_guidance_is_compared_at_decades_of_the_noise_to_signal_ratio_under_every_schedule():
    asked = {}

    def recorded(conditional, free, scale):
        ratios = asked.setdefault((type(conditional.schedule), scale), [])

        def denoise(x, t):
            ratios.append(math.log10(float(conditional.schedule.noise_to_signal(t))))
            return guided(conditional(x, t), free(x, t), scale)

        return denoise

    certify_guidance(recorded)
    for schedule in (VE, VP, RectifiedFlow):
        for scale in (0.0, 1.0, 3.0, 7.5):
            assert asked[schedule, scale][:5] == pytest.approx([-3, -2, -1, 0, 1], abs=1e-9)


@pytest.mark.parametrize(
    ("combine", "right"),
    [
        (lambda c, u, w: u, ["0"]),  # noqa: ARG005
        (lambda c, u, w: c, ["1"]),  # noqa: ARG005
        (lambda c, u, w: guided(c, u, min(w, 7.5)), ["0", "1", "3", "7.5"]),
        (lambda c, u, w: guided(c, u, min(w, 7.4)), ["0", "1", "3"]),
        (lambda c, u, w: guided(c, u, min(w, 2.9)), ["0", "1"]),
    ],
    ids=["unconditional", "conditional", "up to 7.5", "up to 7.4", "up to 2.9"],
)
def test_guidance_is_right_at_the_scales_up_to_which_it_follows_the_formula(combine, right):
    findings = certify_guidance(guide(combine)).findings
    scales = [finding for finding in findings if finding.name.startswith("guidance.scale_")]
    assert [finding.name.removeprefix("guidance.scale_") for finding in scales if finding.tone == "good"] == right
    assert len(scales) == 4


def test_what_is_guided_has_orthonormal_axes_so_that_its_flow_is_a_closed_form():
    axes = gaussian(0.3).eigenvectors
    torch.testing.assert_close(axes.T @ axes, torch.eye(2, dtype=torch.float64), rtol=0, atol=1e-14)


@JUST
def test_guidance_may_err_by_a_billionth(off, tone):
    certificate = certify_guidance(guide(lambda c, u, w: guided(c, u, w) + off * 1e-9))
    assert found(certificate, "guidance.scale_3").tone == tone


@JUST
def test_guidance_may_depend_on_the_batch_by_a_billionth(off, tone):
    certificate = certify_guidance(guide(lambda c, u, w: guided(c, u, w) + off * 1e-9 * (len(c) > 1)))
    assert found(certificate, "guidance.batch").tone == tone


@JUST
def test_guidance_in_float32_may_err_by_a_ten_thousandth(off, tone):
    def combine(conditional, free, scale):
        exact = guided(conditional, free, scale)
        if exact.dtype == torch.float64:
            return exact
        # rounding is a thousandth of the bound
        return exact + off * 1e-4

    finding = found(certify_guidance(guide(combine)), "guidance.dtype")
    assert finding.value == pytest.approx(off * 1e-4, rel=0.03)
    assert finding.tone == tone


@pytest.mark.parametrize(("evaluations", "tone"), [(1, "good"), (2, "attention")])
def test_guidance_evaluates_each_denoiser_once(evaluations, tone):
    def repeated(conditional, free, scale):
        def denoise(x, t):
            answers = [conditional(x, t) for _ in range(evaluations)]
            return guided(answers[-1], free(x, t), scale)

        return denoise

    finding = found(certify_guidance(repeated), "guidance.cost")
    assert (finding.value, finding.tone) == (evaluations + 1, tone)


def test_every_jump_begins_at_exact_states_of_its_level_and_joins_two_of_the_stated_ratios():
    pairs = []

    def recorded(denoiser, x_t, t, s):
        pairs.append((round(float(t), 9), round(float(s), 9)))
        exact = exact_map(denoiser, PROBLEM.start(VE()), torch.tensor(PROBLEM.high), t)
        torch.testing.assert_close(
            x_t.double(), exact[: len(x_t)] if len(x_t) > 1 else nearest(exact, x_t), rtol=1e-6, atol=1e-6
        )
        return exact_map(denoiser, x_t, t, s)

    certificate = certify_flow_map(recorded, problems=(PROBLEM,), schedules=(VE(),))
    assert certificate.verdict == "passes"
    jumps = [(4, 1), (4, 0.3), (4, 0.1), (1, 0.3), (1, 0.1), (0.3, 0.1)]
    assert pairs[: len(jumps)] == jumps
    # no length, then one jump for two, then four rows together, alone and in float32
    assert pairs[len(jumps) :] == [(1, 1), (4, 0.1), (4, 1), (1, 0.1), *[(4, 0.1)] * 6]


def nearest(states, row):
    return states[(states - row).square().sum(1).argmin()][None]


@JUST
def test_a_jump_may_err_by_a_hundredth_of_the_scale(off, tone):
    def shifted(denoiser, x_t, t, s):
        exact = exact_map(denoiser, x_t, t, s)
        return exact + off * 0.01 * float(exact.square().mean().sqrt()) * (float(t) > 2 and float(s) > 0.9)

    assert certify_flow_map(shifted, problems=(PROBLEM,), schedules=(VE(),)).findings[0].tone == tone


@JUST
@pytest.mark.parametrize("tolerance", [0.01, 1e-4])
def test_a_jump_of_no_length_may_change_the_state_by_a_thousandth_or_the_tolerance(off, tone, tolerance):
    def drifting(denoiser, x_t, t, s):
        return x_t + off * min(tolerance, 1e-3) * PROBLEM.scale if t == s else exact_map(denoiser, x_t, t, s)

    certificate = certify_flow_map(drifting, tolerance=tolerance, problems=(PROBLEM,), schedules=(VE(),))
    assert found(certificate, "map.identity").tone == tone


@JUST
@pytest.mark.parametrize(("bound", "single"), [(1e-9, False), (1e-3, True)], ids=["rows", "float32"])
def test_rows_may_differ_by_a_billionth_and_float32_by_a_thousandth(off, tone, bound, single):
    def moved(denoiser, x_t, t, s):
        exact = exact_map(denoiser, x_t, t, s)
        asked = exact.dtype == torch.float32 if single else len(exact) == 1
        return exact + off * bound * PROBLEM.scale * asked

    certificate = certify_flow_map(moved, problems=(PROBLEM,), schedules=(VE(),))
    assert found(certificate, "map.rows").tone == tone
