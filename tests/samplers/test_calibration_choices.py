"""What a calibration chooses: the Gaussian to expand about, levels in a table of times, the reference."""

import pytest
import torch
from exact_flows import Discrete, mixture_on_the_line, noise

from diffuscope.denoisers import ExactDenoiser, Rescheduled
from diffuscope.exact import Gaussian, GaussianMixture
from diffuscope.samplers import Calibrated, DataAdamsBashforth, instants, sample
from diffuscope.samplers.adams_bashforth import interpolation_weights
from diffuscope.samplers.calibration.gauss_newton import polish, stepped_plan
from diffuscope.samplers.calibration.plan import walked
from diffuscope.samplers.calibration.reference import reference_levels, reference_of
from diffuscope.samplers.calibration.search import judged, search, stiffened
from diffuscope.samplers.calibration.views import View, views_of
from diffuscope.samplers.calibration.whitened_model import WhitenedModel
from diffuscope.schedules import VE, DiscreteVP

CHAIN = DiscreteVP.linear(1e-3, 0.1, 200)
LINE = mixture_on_the_line().distribution


def line_gaussian():
    assert isinstance(LINE, GaussianMixture)
    return LINE.as_gaussian()


def view_of(denoiser, gaussian, starts) -> View:
    """About the data's Gaussian."""
    model = WhitenedModel(denoiser, gaussian, starts)
    return views_of(model, gaussian, reference_of(model, starts, reference_levels(model, None)))[0]


def test_a_gaussian_of_the_wrong_shape_costs_little_because_validation_chooses_another():
    """Four modes in six dimensions. About a needle alone the error is over three times larger."""
    draw = torch.Generator().manual_seed(0)
    means, one = torch.randn(4, 6, generator=draw, dtype=torch.float64), torch.ones(4, dtype=torch.float64)
    data = GaussianMixture.isotropic(one / 4, means, 0.05 * one)
    right, axes = data.as_gaussian(), torch.eye(6, dtype=torch.float64)
    needle = Gaussian(right.mean, axes, torch.tensor([6.0, *5 * [1e-3]], dtype=torch.float64))
    denoiser, x_start = ExactDenoiser(data, VE()), noise(VE(), 64, event=(6,))
    views = {}
    for name, gaussian in (("right", right), ("needle", needle)):
        model = WhitenedModel(denoiser, gaussian, x_start)
        views[name] = views_of(model, gaussian, reference_of(model, x_start, reference_levels(model, 60)))
    needle_only = search(views["needle"][:1], 3).error
    chosen = search(views["needle"], 3)
    assert chosen.view.gaussian.eigenvalues.numel() == 0  # isotropic
    assert 3 * chosen.error < needle_only
    assert chosen.error < 1.2 * search(views["right"], 3).error


def test_about_a_gaussian_of_no_variance_the_weights_of_data_prediction_give_its_solver():
    """Adams-Bashforth of order 2 in log(alpha/sigma), and a denoise at the end."""
    schedule = VE()
    denoiser, x_start = ExactDenoiser(LINE, schedule), noise(schedule, 5)
    times = torch.tensor([80.0, 5.0, 1.0, 0.3, 0.1], dtype=torch.float64)
    levels = instants(schedule, times)
    weights = torch.zeros(5, 4, dtype=torch.float64)
    weights[[0, -1], 0] = 1.0
    for i in range(1, 4):
        past = (levels[i].lam, levels[i - 1].lam)
        row = interpolation_weights(past, past[0], levels[i + 1].lam, rate=1.0, power=0.0)
        weights[i, :2] = torch.tensor(row, dtype=torch.float64)
    about = Calibrated(
        gaussian=Gaussian.isotropic(torch.zeros(1, dtype=torch.float64), 0.0),
        levels=tuple(at.lam for at in levels),
        end=levels[-1].lam,
        jumps=False,
        weights=weights,
        carry=0.0,
        shift=torch.zeros(1, dtype=torch.float64),
        plain=None,
        error=0.0,
        plain_errors={},
        reference_error=0.0,
        evaluations=0,
    )
    landed = sample(DataAdamsBashforth(2, power=0.0), denoiser, x_start, times)
    torch.testing.assert_close(about.sample(denoiser, x_start), denoiser(landed, times[-1]), rtol=0, atol=1e-9)


def test_trajectories_are_the_same_states_about_every_gaussian():
    gaussian = Gaussian(
        torch.ones(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)[:, :1], torch.ones(1), tail_variance=0.2
    )
    model = WhitenedModel(
        ExactDenoiser(Gaussian.isotropic(gaussian.mean, 0.7), VE()), gaussian, noise(VE(), 4, event=(3,))
    )
    views = views_of(model, gaussian, reference_of(model, model.starts, reference_levels(model, 30)))
    for at in reference_levels(model, 7):
        rows = []
        for view in views:
            basis = view.model.basis
            rows.append(basis.rows(basis.spread(at) * view.fitting.at(at.lam)))
        for other in rows[1:]:
            torch.testing.assert_close(other, rows[0], rtol=1e-10, atol=1e-10)


def test_few_starts_need_a_stiffer_fit_and_validation_finds_it():
    """Twelve starts, eight levels: the mean error on 400 fresh starts falls by half, over five draws of the twelve."""
    denoiser = ExactDenoiser(LINE, VE())
    fresh = view_of(denoiser, line_gaussian(), noise(VE(), 800, seed=5)).fitting
    loose, chosen = [], []
    for seed in range(5):
        view = view_of(denoiser, line_gaussian(), noise(VE(), 12, seed=seed))
        levels = view.model.levels([-4.38, -1.5, -0.5, 0.2, 0.8, 1.4, 2.0, 2.6]) or ()
        for errors, one in ((loose, judged(view, levels)), (chosen, stiffened(judged(view, levels)))):
            errors.append(view.model.distance(walked(view.model, one.plan, fresh.start).end, fresh.end))
    assert sum(chosen) < 0.5 * sum(loose)


@pytest.mark.parametrize("read_as", ["a chain", "variance exploding"])
def test_the_reference_of_a_table_visits_every_trained_time_once(read_as):
    denoiser, schedule = Discrete(LINE, CHAIN), CHAIN
    if read_as == "variance exploding":
        schedule = VE(*CHAIN.noise_to_signal(torch.tensor([1.0, 200.0], dtype=torch.float64)).tolist())
        denoiser = Rescheduled(denoiser, schedule)
    model = WhitenedModel(denoiser, line_gaussian(), noise(schedule, 8))
    visited = torch.tensor([at.lam for at in reference_levels(model, None)])
    trained = CHAIN.lam(torch.arange(200, 0, -1, dtype=torch.float64)).float()
    torch.testing.assert_close(visited, trained, rtol=0, atol=1e-5)


def test_levels_in_a_table_are_refined_as_well_as_in_continuous_time():
    """The same denoiser at 200 times and at all, from the same poor levels; the same starts and reference levels."""
    schedule = VE(*CHAIN.noise_to_signal(torch.tensor([1.0, 200.0], dtype=torch.float64)).tolist())
    x_start, lams = noise(schedule, 64), [-0.5, 0.5, 1.5]
    table = view_of(Rescheduled(Discrete(LINE, CHAIN), schedule), line_gaussian(), x_start)
    continuous = view_of(ExactDenoiser(LINE, schedule), line_gaussian(), x_start)
    started = [judged(view, view.model.levels(lams) or ()) for view in (table, continuous)]
    ended = [polish(one, 8) for one in started]
    assert ended[0].error < 0.5 * started[0].error
    assert ended[0].error < 1.1 * ended[1].error
    moves = [b.lam - a.lam for a, b in zip(started[0].plan.levels, ended[0].plan.levels, strict=True)]
    assert max(map(abs, moves)) > 0.05


def test_the_weights_of_a_step_belong_to_its_rounded_levels():
    """They solve the normal equations given the levels' moves."""
    view = view_of(Discrete(LINE, CHAIN), line_gaussian(), noise(CHAIN, 8))
    plan = judged(view, instants(CHAIN, torch.tensor([150.0, 60.0, 10.0], dtype=torch.float64))).plan
    names = [(0, 0), (1, 0), (1, 1), (1, -1)]
    draw = torch.Generator().manual_seed(0)
    A = torch.randn(4, 20, generator=draw, dtype=torch.float64)
    normal, right = A @ A.T, 0.1 * torch.randn(4, generator=draw, dtype=torch.float64)
    moved = stepped_plan(view.model, plan, names, normal, right)
    assert moved is not None
    step = torch.tensor([float(moved.weights[i, j] - plan.weights[i, j]) for i, j in names[:3]], dtype=torch.float64)
    step = torch.cat([step, torch.tensor([moved.levels[1].lam - plan.levels[1].lam], dtype=torch.float64)])
    torch.testing.assert_close((normal @ step)[:3], right[:3], rtol=0, atol=1e-12)


def test_a_step_beyond_the_start_of_the_schedule_stops_there():
    """A first level at the start that would have to be earlier does not stop the other parameters."""
    view = view_of(ExactDenoiser(LINE, VE()), line_gaussian(), noise(VE(), 8))
    start, end = view.model.start, view.model.end
    levels = view.model.levels([start.lam, 0.0, end.lam])
    assert levels is not None
    plan = judged(view, levels).plan
    names = [(0, -1), (1, -1), (2, -1), (1, 0)]
    moved = stepped_plan(view.model, plan, names, torch.eye(4).double(), torch.tensor([-9.0, 50.0, 9.0, 0.1]).double())
    assert moved is not None
    assert [moved.levels[0].lam, moved.levels[2].lam] == pytest.approx([start.lam, end.lam])
    assert moved.levels[1].lam == pytest.approx(0.4 * end.lam)
    assert float(moved.weights[1, 0] - plan.weights[1, 0]) == pytest.approx(0.1)
