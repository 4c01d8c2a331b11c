"""Most likely paths against closed forms: Ornstein-Uhlenbeck, drift-diffusion, a kinetic oscillator, a ring."""

import math

import pytest
import torch
from scipy.integrate import quad_vec
from scipy.linalg import expm

from diffuscope.errors import InputError
from diffuscope.theory.paths import (
    Dynamics,
    Lagrangian,
    Symmetry,
    energy_balance,
    find_symmetries,
    least_action,
    rotation,
    scaling,
    time_shift,
    translation,
    violation,
)
from diffuscope.theory.paths.discrete_action import action, derivatives, quadratic

START, END = torch.tensor([-2.0, 2.0], dtype=torch.float64), torch.tensor([2.0, 2.0], dtype=torch.float64)


def mesh(T: float, N: int) -> torch.Tensor:
    return torch.linspace(0, T, N + 1, dtype=torch.float64)


def random_points(n: int, d: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    x, v = (torch.randn(n, d, dtype=torch.float64, generator=g) for _ in range(2))
    return x, v, torch.rand(n, dtype=torch.float64, generator=g) + 0.5


def ornstein_uhlenbeck() -> Dynamics:
    return Dynamics(lambda x: -x, 1.0)


def hopf(x: torch.Tensor) -> torch.Tensor:
    """Attraction to a circle, and rotation along it: no gradient, but isotropic."""
    r2 = x.square().sum(1, keepdim=True)
    return x * (1 - r2) + torch.stack([-x[:, 1], x[:, 0]], 1)


@pytest.mark.parametrize("T", [1.0, 10.0])
def test_the_ornstein_uhlenbeck_path_has_the_closed_form_action(T: float) -> None:
    found = least_action(ornstein_uhlenbeck(), START, END, mesh(T, 400))
    exact = float((END - START * math.exp(-T)).square().sum()) / (2 * (1 - math.exp(-2 * T)))
    assert float(found.action) == pytest.approx(exact, abs=2e-6 * T**2)  # second order in h = T / 400
    assert float(found.certificate.extrapolated) == pytest.approx(exact, abs=2e-8 * T**2)
    assert bool(found.certificate.minimum)
    assert float(found.certificate.residual) <= 1e-10


def test_the_ornstein_uhlenbeck_path_its_energy_and_its_angular_momentum_have_closed_forms() -> None:
    found, t = least_action(ornstein_uhlenbeck(), START, END, mesh(1.0, 400)), mesh(1.0, 400)
    path = (START * torch.sinh(1 - t)[:, None] + END * torch.sinh(t)[:, None]) / math.sinh(1)
    assert float((found.states[0] - path).abs().max()) < 1e-6
    energy = (START.square().sum() + END.square().sum() - 2 * START @ END * math.cosh(1)) / math.sinh(1) ** 2
    assert float(energy) == pytest.approx(11.58498657546097, abs=1e-12)
    assert float((4 * found.energy - energy).abs().max()) < 1e-5  # E = (|v|^2 - |x|^2) / 4
    turning = 2 * rotation().charge(found)  # x p_y - y p_x with p = (v + x) / 2
    assert float((turning + 6.8073450259145725).abs().max()) < 1e-5


def test_the_midpoint_rule_conserves_charges_of_linear_symmetries_and_quadratic_energies_exactly() -> None:
    found = least_action(ornstein_uhlenbeck(), START, END, mesh(1.0, 60))
    assert float(time_shift().drift(found)) < 1e-9
    assert float(rotation().drift(found)) < 1e-9
    swirling = least_action(Dynamics(hopf, 0.3), 0.5 * START, 0.7 * END, mesh(2.0, 60))
    assert float(rotation().drift(swirling)) < 1e-9
    assert float(translation([1.0, 0.0]).drift(swirling)) > 0.1  # no symmetry, no conservation


def test_path_action_and_energy_converge_at_order_two() -> None:
    dynamics = Dynamics(hopf, 0.3)
    runs = [least_action(dynamics, 0.5 * START, 0.7 * END, mesh(2.0, N)) for N in (100, 200, 400)]
    drifts = [float(run.energy.std()) for run in runs]
    assert drifts[0] / drifts[1] == pytest.approx(4.0, abs=0.1)
    steps = [float(runs[i].action - runs[i + 1].action) for i in range(2)]
    assert steps[0] / steps[1] == pytest.approx(4.0, abs=0.1)
    moves = [float((runs[i].states - runs[i + 1].states[:, ::2]).norm(dim=2).max()) for i in range(2)]
    assert moves[0] / moves[1] == pytest.approx(4.0, abs=0.1)


def test_the_certificate_states_three_quarters_of_the_error() -> None:
    found = least_action(ornstein_uhlenbeck(), START, END, mesh(1.0, 50))
    exact = float((END - START * math.exp(-1)).square().sum()) / (2 * (1 - math.exp(-2)))
    assert float(found.certificate.action_change) == pytest.approx(0.75 * abs(float(found.action) - exact), rel=1e-3)


def test_a_constant_drift_gives_a_straight_path_of_the_published_momentum() -> None:
    dynamics = Dynamics(lambda x: torch.full_like(x, 0.1), 0.5)
    found = least_action(dynamics, torch.tensor([0.5]), torch.tensor([-1.0]), mesh(1.0, 40))
    assert float((found.momenta + 1.6).abs().max()) < 1e-12
    assert float(found.states.diff(n=2, dim=1).abs().max()) < 1e-12


@pytest.mark.parametrize("functional", ["FW", "OM"])
def test_a_path_is_stationary_under_any_variation_that_keeps_its_ends(functional: str) -> None:
    dynamics = Dynamics(lambda x, t: hopf(x) * (1 + 0.3 * torch.sin(3 * t))[:, None], torch.tensor([0.3, 0.8]))
    t = mesh(1.5, 50)
    density = Lagrangian(dynamics, functional)  # pyright: ignore
    found = least_action(dynamics, 0.5 * START, 0.7 * END, t, functional)  # pyright: ignore
    push = torch.randn(found.states.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    push[:, [0, -1]] = 0
    values = [float(action(density, found.states + e * push, t)) for e in (-1e-5, 0.0, 1e-5)]
    slope, second = (values[2] - values[0]) / 2e-5, (values[2] + values[0] - 2 * values[1]) / 1e-10
    assert abs(slope) < 1e-6 * second  # the least is within 1e-6 of the path


def test_gradient_and_hessian_are_those_of_the_action_by_autograd() -> None:
    dynamics = Dynamics(lambda x, t: hopf(x) * (1 + t)[:, None], lambda x: torch.diag_embed(1 + x.square()))
    t = torch.tensor([0.0, 0.2, 0.5, 0.6, 1.0], dtype=torch.float64)
    x = torch.randn(1, 5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    density = Lagrangian(dynamics)

    for weight in (0.5, 0.0):

        def value(inner: torch.Tensor, w: float = weight) -> torch.Tensor:
            nodes = torch.cat([x[0, :1], inner.reshape(3, 2), x[0, -1:]])
            state, velocity = (1 - w) * nodes[:-1] + w * nodes[1:], nodes.diff(dim=0) / t.diff()[:, None]
            return density(state, velocity, (1 - w) * t[:-1] + w * t[1:]) @ t.diff()

        inner = x[0, 1:-1].reshape(-1)
        h = t.diff()[:, None]
        state, velocity = (1 - weight) * x[0, :-1] + weight * x[0, 1:], x[0].diff(dim=0) / h
        edges = derivatives(density, state, velocity, (1 - weight) * t[:-1] + weight * t[1:])
        found = quadratic(edges, t, 1, weight)
        assert float(found.action) == pytest.approx(float(value(inner)), rel=1e-14)
        gradient = torch.func.jacrev(value)(inner)
        torch.testing.assert_close(found.gradient.reshape(-1), gradient, rtol=1e-12, atol=1e-12)
        hessian = torch.autograd.functional.hessian(value, inner)
        built = torch.block_diag(*found.diagonal[0])
        for i, block in enumerate(found.upper[0]):
            built[2 * i : 2 * i + 2, 2 * i + 2 : 2 * i + 4] = block
            built[2 * i + 2 : 2 * i + 4, 2 * i : 2 * i + 2] = block.T
        torch.testing.assert_close(built, hessian, rtol=1e-10, atol=1e-10)


def test_onsager_machlup_adds_half_the_divergence_along_the_path() -> None:
    x, v, t = random_points(20, 2)
    dynamics = Dynamics(hopf, 0.4)
    more = Lagrangian(dynamics, "OM")(x.clone().requires_grad_(), v, t) - Lagrangian(dynamics)(x, v, t)
    divergence = 2 - 4 * x.square().sum(1)
    torch.testing.assert_close(more.detach(), divergence / 2, rtol=1e-12, atol=1e-12)


def test_a_total_time_derivative_changes_no_path() -> None:
    """A gradient drift against its gauge partner: L = v^2 / 4D + D |grad U|^2 / 4 has the same paths."""
    dynamics = Dynamics(lambda x: -x.pow(3), 0.5)  # U = x^4 / (4 D), f = -D U'

    def partner(x: torch.Tensor, v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        del t
        return (v.square() / 2 + x.pow(6) / 2).sum(1)

    a, b, t = torch.tensor([[1.0]]), torch.tensor([[-0.5]]), mesh(1.0, 400)
    from diffuscope.theory.paths import least_of_density, straight

    found = least_action(dynamics, a[0], b[0], t)
    other, S = least_of_density(partner, straight(a.double(), b.double(), t), t)
    assert float((found.states - other).abs().max()) < 1e-5  # both of second order
    gained = (0.5**4 - 1.0**4) / (4 * 0.5) / 2  # the total derivative, U(b) - U(a) over 2
    assert float(found.action - S) == pytest.approx(gained, abs=1e-5)


def test_a_kinetic_oscillator_reaches_its_end_at_the_cost_of_its_gramian() -> None:
    """Noise in the velocity alone: S = m^T W^-1 m / 2 with W the controllability Gramian of 2D."""
    A, D, T = torch.tensor([[0.0, 1.0], [-1.0, -0.3]], dtype=torch.float64), 0.2, 3.0
    a, b = torch.tensor([1.0, 0.0], dtype=torch.float64), torch.tensor([-0.5, 1.0], dtype=torch.float64)
    noise = torch.diag(torch.tensor([0.0, D], dtype=torch.float64))

    def kernel(s: float) -> torch.Tensor:
        flow = torch.from_numpy(expm(A.numpy() * s))
        return flow @ (2 * noise) @ flow.T

    W = torch.as_tensor(quad_vec(lambda s: kernel(s).numpy(), 0, T, epsabs=1e-13)[0])
    m = b - torch.from_numpy(expm(A.numpy() * T)) @ a
    exact = float(m @ torch.linalg.solve(W, m)) / 2
    runs = [least_action(Dynamics(lambda x: x @ A.T, noise), a, b, mesh(T, N)) for N in (25, 50)]
    errors = [float(run.action) - exact for run in runs]
    assert errors[0] / errors[1] == pytest.approx(4.0, abs=0.1)
    assert float(runs[1].certificate.extrapolated) == pytest.approx(exact, abs=5e-3 * abs(errors[1]))
    state, velocity = (runs[1].states[0, 1:] + runs[1].states[0, :-1]) / 2, runs[1].states[0].diff(dim=0) * 50 / T
    assert float((velocity - state @ A.T)[:, 0].abs().max()) < 1e-9  # the position follows the velocity
    assert float((runs[1].energy - runs[1].energy.mean()).abs().max()) < 1e-7


def test_a_batch_of_ends_gives_each_its_own_path() -> None:
    dynamics, t = Dynamics(hopf, 0.3), mesh(1.0, 40)
    starts, ends = torch.stack([START, 0.3 * END, -END]), torch.stack([END, START, 0.1 * START])
    together = least_action(dynamics, starts, ends, t)
    for k in range(3):
        alone = least_action(dynamics, starts[k], ends[k], t)
        torch.testing.assert_close(together.states[k], alone.states[0], rtol=1e-7, atol=1e-7)


def test_of_several_initial_paths_the_least_action_is_kept() -> None:
    """Around a repelling hill on either side: the straight line is a saddle by symmetry, and says so."""
    hill = Dynamics(lambda x: 4 * x * torch.exp(-x.square().sum(1, keepdim=True)), 0.1)
    a, b, t = torch.tensor([-2.0, 0.0]), torch.tensor([2.0, 0.3]), mesh(6.0, 60)
    line = a + (t / 6)[:, None] * (b - a)
    bend = torch.sin(math.pi * t / 6)[:, None] * torch.tensor([0.0, 1.5])
    above, below = (least_action(hill, a, b, t, initial=(line + s * bend)[None]) for s in (1, -1))
    both = least_action(hill, a, b, t, initial=torch.stack([line - bend, line + bend]))
    assert float(above.action) < float(below.action) - 1e-3
    assert float(both.action) == pytest.approx(float(above.action), rel=1e-9)


def test_what_is_not_a_minimum_says_so() -> None:
    """Past the first focal time of dx = J x the straight stationary path of an inverted L is a saddle."""
    from diffuscope.theory.paths import least_of_density
    from diffuscope.theory.paths.discrete_action import MIDPOINT
    from diffuscope.theory.paths.newton import newton

    def oscillator(x: torch.Tensor, v: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        del t
        return (v.square() - x.square()).sum(1) / 2

    short = newton(oscillator, torch.zeros(1, 41, 1), mesh(3.0, 40), MIDPOINT)  # less than half a period: pi
    long = newton(oscillator, torch.zeros(1, 41, 1), mesh(3.3, 40), MIDPOINT)
    assert bool(short.minimum)
    assert not bool(long.minimum)
    for seed in range(8):  # of some the action grows to the largest number there is, which is no overflow
        initial = torch.rand(1, 41, 1, generator=torch.Generator().manual_seed(seed))
        with pytest.raises(InputError, match="times: no stationary path"):
            least_of_density(oscillator, initial, mesh(3.3, 40))


def test_symmetries_are_found_alone_and_in_combination() -> None:
    x, v, t = random_points(60, 3)

    def screw(x: torch.Tensor) -> torch.Tensor:
        z = x[:, 2]
        return torch.stack([torch.cos(z) - x[:, 0], torch.sin(z) - x[:, 1], torch.zeros_like(z)], 1)

    found = find_symmetries(Lagrangian(Dynamics(screw, 0.5)), x, v, t)
    named = [each.coefficients for each in found]
    assert {"time": 1.0} in named
    assert len(named) == 2
    helix = next(each for each in named if "time" not in each)
    assert helix.keys() == {"translation 2", "rotation 01"}
    assert helix["rotation 01"] == pytest.approx(helix["translation 2"], rel=1e-9)

    stretched = Lagrangian(Dynamics(lambda x: -x, torch.diag(torch.tensor([1.0, 1.0, 4.0]))))
    names = [set(each.coefficients) for each in find_symmetries(stretched, x, v, t)]
    assert {"rotation 01"} in names
    assert {"rotation 02"} not in names
    assert {"scaling"} not in names


def test_a_symmetry_that_does_not_hold_is_measured() -> None:
    x, v, t = random_points(50, 2)
    density = Lagrangian(Dynamics(hopf, 0.3))
    assert violation(density, rotation(), x, v, t) < 1e-14
    assert violation(density, scaling(), x, v, t) > 0.1
    free = Lagrangian(Dynamics(torch.zeros_like, 0.5))
    galilei = Symmetry("boost", xi=lambda _, t: t[:, None].expand(-1, 2), gauge=lambda x, _: x.sum(1))
    assert violation(free, galilei, x, v, t) < 1e-14  # invariant up to the gauge only
    assert violation(free, Symmetry("boost", xi=galilei.xi), x, v, t) > 0.1
    with pytest.raises(InputError, match="moves nothing"):
        violation(density, Symmetry("none"), x, v, t)


def test_without_time_invariance_the_energy_changes_by_the_explicit_time() -> None:
    dynamics = Dynamics(lambda x, t: -x * (1 + torch.sin(t))[:, None], 0.5)
    off = []
    for N in (100, 200):
        found = least_action(dynamics, START, END, mesh(2.0, N))
        off.append(float(energy_balance(found, Lagrangian(dynamics))[0].abs().max()))
    assert off[0] / off[1] == pytest.approx(4.0, abs=0.3)
    assert float(time_shift().drift(found)) > 0.1
    assert violation(Lagrangian(dynamics), time_shift(), *random_points(40, 2)) > 0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"times": mesh(1.0, 10).flip(0)}, "times: expected increasing"),
        ({"times": torch.tensor([0.0, 1.0])}, "times: expected at least three"),
        ({"times": torch.tensor([0.0, 0.5, float("nan")])}, "times: expected increasing"),
        ({"start": torch.tensor([float("nan"), 0.0])}, "start: expected finite"),
        ({"end": torch.zeros(3)}, "end: expected the shape of start"),
        ({"start": torch.tensor([5.0, 0.0])}, "start: expected a state in the domain"),
        ({"end": torch.tensor([0.0, -5.0])}, "end: expected a state in the domain"),
        ({"initial": torch.zeros(1, 7, 2)}, "initial: expected shape"),
        ({"dynamics": Dynamics(lambda x: x.detach() ** 2, 1.0)}, "drift: expected a function that autograd"),
        ({"dynamics": Dynamics(lambda x: x[:, :1], 1.0)}, "drift: expected states of shape"),
        ({"dynamics": Dynamics(lambda x: x / 0, 1.0)}, "drift: expected finite"),
        ({"dynamics": Dynamics(lambda x: -x, torch.eye(3))}, "diffusion: expected a matrix of 2 x 2"),
        (
            {"dynamics": Dynamics(lambda x: -x, lambda x: -torch.eye(2).expand(len(x), 2, 2))},
            "diffusion: expected symmetric positive definite",
        ),
        (
            {"dynamics": Dynamics(lambda x: -x, lambda x: torch.eye(2).expand(len(x), 2, 2)), "functional": "OM"},
            "functional: expected 'FW' where the diffusion depends",
        ),
        (
            {"dynamics": Dynamics(lambda x: -x, torch.diag(torch.tensor([1.0, 0.0])))},
            "end: no path reaches it along the directions without noise",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(arguments: dict, message: str) -> None:
    given = {
        "dynamics": Dynamics(lambda x: -x, 1.0, domain=(-3.0, 3.0)),
        "start": START,
        "end": END,
        "times": mesh(1.0, 10),
    } | arguments
    with pytest.raises(InputError, match=message) as caught:
        least_action(**given)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("diffusion", "message"),
    [
        (0.0, "not zero"),
        (-1.0, "D = G G"),
        (float("nan"), "finite"),
        (torch.tensor([[1.0, 1.0], [0.0, 1.0]]), "symmetric"),
        (torch.ones(2, 3), "a matrix"),
    ],
)
def test_a_diffusion_that_is_none_is_refused(diffusion: float, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Dynamics(lambda x: -x, diffusion)


def test_a_drift_of_three_arguments_is_refused() -> None:
    with pytest.raises(InputError, match="drift: expected a function"):
        Dynamics(lambda x, t, u: x + t + u, 1.0)
