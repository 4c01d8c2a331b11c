r"""The most likely reverse path of a trained denoiser: what bends it, and which charges it loses.

In the time :math:`u = (T^2 - t^2)/2` the reverse diffusion of a score :math:`\hat s = (D - x)/t^2` has the drift
:math:`2\hat s` and D = 1. Its Onsager-Machlup density :math:`L = |x' - 2\hat s|^2/4 + \nabla\cdot\hat s` has the
equation of motion

.. math::
    \tfrac12 x'' = F = \partial_u\hat s + \nabla\big(|\hat s|^2 + \nabla\cdot\hat s\big) + (J - J^T)\,x',
    \qquad J_{ij} = \partial_j\hat s_i .

The first two terms are the residual of the heat equation, the third is the curl. Both vanish for an exact score: the
path is straight in u and :math:`p + \hat s = x'/2` is conserved. For a trained one its rate of change is F, the energy
obeys :math:`E' = -\partial_u L`, and the angular momentum changes where data on a ring would conserve it.

To first order in :math:`\delta = \hat s - s`, the path leaves the straight one, :math:`x_*`, by y with
:math:`y'' = 2 F(x_*, x_*', u)` and y = 0 at both ends, and the action changes by :math:`\int (\hat L - L)\,du` along
:math:`x_*`.

Source: Vastola 2024, https://arxiv.org/abs/2504.09761, has the question; F is derived here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.denoisers import MLP, Preconditioned, seeded
from diffuscope.findings import Panel, largest, line
from diffuscope.schedules import VE
from diffuscope.theory.paths import (
    Dynamics,
    Lagrangian,
    LeastAction,
    Symmetry,
    energy_balance,
    least_action,
    rotation,
    translation,
)
from diffuscope.theory.paths.lagrangian import divergence
from diffuscope.training import fit, recipe

from .experiment import Experiment
from .noised_data import Ring
from .part import Part, largest_difference
from .path_panels import box_around, plane
from .reverse_diffusion_is_a_bridge import Case, levels, random_points

RING = Ring(5.0, 0.55)
T, EPSILON, INTERVALS = 20.0, 0.5, 200
EXAMPLES, STEPS, BATCH, WIDTH = 20_000, (200, 2000), 256, 64
SHARES = (0.25, 0.125, 0.0625)  # of the error of the score
DERIVED = "derived"
EXPERIMENT = Experiment(
    name="trained-denoiser",
    title="The most likely path of a trained denoiser",
    question="What becomes of straight paths and conserved charges when the score is learned?",
    source="Vastola 2024, https://arxiv.org/abs/2504.09761",
    seconds=25,
    settings={
        "data": "a ring of radius 5 and width 0.55, 20,000 examples",
        "network": "perceptron of width 64, 200 and 2,000 steps of 256 examples",
        "path": "T = 20, ε = 0.5, 200 intervals",
        "first order": "at 0.25, 0.125 and 0.0625 of the error of the score",
    },
)
Score = Callable[[Tensor, Tensor], Tensor]


def case(intervals: int = INTERVALS) -> Case:
    """From outside of the ring to a point of it."""
    start, end = torch.tensor([[0.0, 12.0], [4.0, 3.0]], dtype=torch.float64)
    return Case(RING, start, end, levels(T, EPSILON, intervals))


@cache
def trained(steps: int, seed: int) -> Score:
    """The score of a network after so many steps, in float64."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(EXAMPLES, generator=generator)
    ring = RING.radius * torch.stack([angle.cos(), angle.sin()], 1)
    data = ring + RING.width * torch.randn(EXAMPLES, 2, generator=generator)
    scale, reach = float(data.std()), largest_difference(data, 0)
    with seeded(seed):
        network = MLP((2,), width=WIDTH, depth=2)
    schedule = VE(sigma_min=0.01 * scale, sigma_max=40 * scale)
    untrained = Preconditioned(network, schedule, scale, event_shape=(2,), data_range=(-reach, reach))
    denoiser = fit(untrained, data, recipe(scale, steps=steps, batch_size=BATCH, seed=seed)).eval().double()
    return lambda x, t: (denoiser(x, t) - x) / t[:, None] ** 2


@dataclass(frozen=True, eq=False)
class Learned:
    """A score with its ends and noise levels."""

    case: Case
    score: Score

    @property
    def reverse(self) -> Dynamics:
        """f = 2 s, D = 1."""
        return Dynamics(lambda x, u: 2 * self.score(x, self.case.level(u)), 1.0)

    @cached_property
    def path(self) -> LeastAction:
        """The most likely path, sought from the straight one."""
        known = self.case
        return least_action(self.reverse, known.start, known.end, known.times, "OM", initial=known.bridge[None])

    def force(self, x: Tensor, v: Tensor, u: Tensor) -> Float[Tensor, "n d"]:
        """F, zero for an exact score."""
        x, u = x.clone().requires_grad_(), u.clone().requires_grad_()
        s = self.score(x, self.case.level(u))
        potential = s.square().sum(1) + divergence(s, x)
        (pull,) = torch.autograd.grad(potential.sum(), x, retain_graph=True)
        rows = [torch.autograd.grad(s[:, i].sum(), (x, u), retain_graph=True) for i in range(x.shape[1])]
        J, rate = torch.stack([by_x for by_x, _ in rows], 1), torch.stack([by_u for _, by_u in rows], 1)
        return rate + pull + ((J - J.mT) @ v[..., None])[..., 0]

    def pull_of_action(self, x: Tensor, v: Tensor, a: Tensor, u: Tensor) -> Float[Tensor, "n d"]:
        """d/du (dL/dv) - dL/dx at velocity v and acceleration a: a / 2 - F, by the derivatives of L."""
        x, v, u = (each.clone().requires_grad_() for each in (x, v, u))
        L = Lagrangian(self.reverse, "OM")(x, v, u)
        by_x, by_v = torch.autograd.grad(L.sum(), (x, v), create_graph=True)
        rates = []
        for i in range(x.shape[1]):
            along_x, along_v, along_u = torch.autograd.grad(by_v[:, i].sum(), (x, v, u), retain_graph=True)
            rates.append((along_x * v).sum(1) + (along_v * a).sum(1) + along_u)
        return (torch.stack(rates, 1) - by_x).detach()


def mixed(exact: Score, learned: Score, share: float) -> Score:
    """s + share (s_learned - s)."""
    return lambda x, t: exact(x, t) + share * (learned(x, t) - exact(x, t))


def bent(known: Case, force: Float[Tensor, "nodes d"]) -> Float[Tensor, "nodes d"]:
    """y with y'' = 2 F and y = 0 at both ends, by the same three-point rule on a mesh of unequal steps."""
    u = known.times
    h = u.diff()
    second = torch.zeros(len(u) - 2, len(u) - 2, dtype=torch.float64)
    second.diagonal().copy_(-2 / (h[1:] * h[:-1]))
    second.diagonal(1).copy_((2 / (h[1:] * (h[1:] + h[:-1])))[:-1])
    second.diagonal(-1).copy_((2 / (h[:-1] * (h[1:] + h[:-1])))[1:])
    y = torch.zeros_like(force)
    y[1:-1] = torch.linalg.solve(second, 2 * force[1:-1])
    return y


def momentum(learned: Learned, axis: int) -> Symmetry:
    """The translation along an axis with the gauge -s: its charge is p + s = x'/2."""
    a = torch.eye(2, dtype=torch.float64)[axis]
    return Symmetry(
        f"p + s along {'xy'[axis]}",
        xi=translation(a).xi,
        gauge=lambda x, u: -learned.score(x, learned.case.level(u)).detach() @ a,
    )


def unbalanced_momentum(learned: Learned) -> float:
    """d(p + s)/du - F between interior nodes, the mean square over that of its larger term."""
    found = learned.path
    u, x = found.times[1:-1], found.states[0, 1:-1]
    charge = torch.stack([momentum(learned, axis).charge(found)[0] for axis in range(2)], 1)
    middle, v = (x[1:] + x[:-1]) / 2, x.diff(dim=0) / u.diff()[:, None]
    force = learned.force(middle, v, (u[1:] + u[:-1]) / 2)
    rate = charge.diff(dim=0) / u.diff()[:, None]
    weights = u.diff()[:, None]
    return float(((rate - force).square() * weights).sum().sqrt() / (force.square() * weights).sum().sqrt())


def unbalanced_energy(learned: Learned) -> float:
    """E' + dL/du, the mean square over that of dL/du."""
    found = learned.path
    balance, at = energy_balance(found, Lagrangian(learned.reverse, "OM"))
    middles = (found.times[1:] + found.times[:-1]) / 2
    size = found.energy.diff(dim=1) / middles.diff()
    weights = middles.diff()
    assert len(at) == len(weights)
    return float((balance.square() * weights).sum().sqrt() / (size.square() * weights).sum().sqrt())


def refined(score: Score) -> tuple[Learned, Learned]:
    """A score on twice and on four times as many intervals."""
    return Learned(case(2 * INTERVALS), score), Learned(case(4 * INTERVALS), score)


@EXPERIMENT.part("What bends the path of a learned score?")
def force(part: Part) -> str:
    """The equation of motion at random states, for the exact score and the learned one."""
    known = case()
    x, v, u = random_points(known, part.generator)
    a = torch.randn(x.shape, dtype=torch.float64, generator=part.generator)
    learned, exact = Learned(known, trained(STEPS[-1], part.seed)), Learned(known, RING.score)
    F, sizes = learned.force(x, v, u), learned.pull_of_action(x, v, a, u)
    scale = float((a / 2 - F).norm())
    off = float((sizes - (a / 2 - F)).norm()) / scale
    title = "x″/2 − F is the derivative of the action of the learned score at random states, relative error"
    part.at_most("motion", title, off, 1e-11, "rounding", source=DERIVED)
    none = float(exact.force(x, v, u).norm() / exact.score(x, known.level(u)).norm())
    title = "F of the exact score at the same states, over |s|"
    part.at_most("exact", title, none, 1e-11, "rounding", source=DERIVED)
    title = "F of the learned score, over |s|"
    share = float(F.norm() / learned.score(x, known.level(u)).detach().norm())
    part.at_least("learned", title, share, 1e-6, "far above rounding", source=DERIVED)
    return "The residual of its heat equation and its curl, and nothing else; an exact score has neither."


@EXPERIMENT.part("What becomes of energy, momentum and angular momentum?")
def charges(part: Part) -> str:
    """Balances along the path on two meshes, and the charges that an exact score would conserve."""
    scores = {f"{steps:,} steps": trained(steps, part.seed) for steps in STEPS}
    order = "four: second order in the intervals"
    for name, score in scores.items():
        label, steps = name, name.split()[0].replace(",", "")
        coarse, fine = refined(score)
        of_energy = unbalanced_energy(coarse) / unbalanced_energy(fine)
        title = f"{label}: error of E′ = −∂L/∂u, ratio of {2 * INTERVALS} to {4 * INTERVALS} intervals"
        part.equals(f"energy-{steps}", title, of_energy, 4, 0.1, order, source=DERIVED)
        of_momentum = unbalanced_momentum(coarse) / unbalanced_momentum(fine)
        title = f"{label}: error of (p + s)′ = F, ratio of {2 * INTERVALS} to {4 * INTERVALS} intervals"
        part.equals(f"momentum-{steps}", title, of_momentum, 4, 0.2, order, source=DERIVED)
    known = case()
    subjects = {"exact": Learned(known, RING.score)} | {name: Learned(known, score) for name, score in scores.items()}
    paths = {name: subject.path for name, subject in subjects.items()}
    turning = {name: rotation().charge(found)[0] for name, found in paths.items()}
    drifts = {name: float(rotation().drift(found)) for name, found in paths.items()}
    title = "Exact score: drift of the angular momentum along the path"
    part.at_most("turning", title, drifts["exact"], 1e-9, "the midpoint rule conserves it exactly", source=DERIVED)
    title = "Learned scores: the smaller drift of the angular momentum"
    smaller = min(drift for name, drift in drifts.items() if name != "exact")
    part.at_least("lost", title, smaller, 1e-4, "far above that of the exact score", source=DERIVED)
    t = known.levels[1:-1]
    momenta = {name: momentum(subject, 0).charge(paths[name])[0] for name, subject in subjects.items()}
    states = {name: found.states[0] for name, found in paths.items()}
    part.chart(
        "Paths and charges of learned scores",
        plane("from noise (top) to the ring", states, box_around(*states.values())),
        Panel("angular momentum", "t", "x × p", tuple(line(t, Q, name) for name, Q in turning.items()), x_log=True),
        Panel("momentum", "t", "p + s along x", tuple(line(t, Q, n) for n, Q in momenta.items()), x_log=True),
        how_to_read="Time runs from right to left. An exact score conserves both charges; what a learned one gains and "
        "loses is the residual of its heat equation, which is where it is no score of diffused data. Lines have no "
        "sampling error.",
    )
    lost = ", ".join(f"{100 * drifts[name]:.3g} % after {name}" for name in scores)
    return f"Energy and momentum obey their balances; of the angular momentum, conserved on a ring, changes {lost}."


@EXPERIMENT.part("How far does the path bend?")
def deviation(part: Part) -> str:
    """The first order in the error of the score, against paths of the exact score with a share of the error."""
    known, learned = case(), trained(STEPS[-1], part.seed)
    whole = Learned(known, learned)
    straight, u = known.bridge, known.times
    v = ((known.end - known.start) / u[-1]).expand_as(straight)
    exact = Learned(known, RING.score)
    zero = exact.path  # off the straight path by the error of the mesh, which every share has
    slope = Learned(known, mixed(RING.score, learned, 1e-4)).force(straight, v, u) / 1e-4
    first = bent(known, slope)
    errors, actions, heights = [], [], []
    change = slope_of_action(exact, whole, known)
    for share in SHARES:
        found = Learned(known, mixed(RING.score, learned, share)).path
        y = found.states[0] - zero.states[0]
        errors.append(largest_difference(y, share * first) / share)
        actions.append(abs(float(found.action - zero.action) - share * change) / share)
        heights.append(largest_difference(y, 0))
    title = "Distance from the straight path minus its first order, over the share: ratio of halving the share"
    part.equals(
        "bend", title, errors[-2] / errors[-1], 2, 0.3, "two within 0.3: the next order is the square", source=DERIVED
    )
    title = "The same for the action"
    part.equals(
        "action",
        title,
        actions[-2] / actions[-1],
        2,
        0.3,
        "two within 0.3: the next order is the square",
        source=DERIVED,
    )
    found = whole.path
    y = found.states[0] - zero.states[0]
    t = known.levels
    part.chart(
        "How far the path of the learned score is from the straight one",
        *(
            Panel(
                f"along {'xy'[axis]}",
                "t",
                "distance",
                (line(t, y[:, axis], "learned"), line(t, first[:, axis], "first order", style="dashed")),
                x_log=True,
            )
            for axis in range(2)
        ),
        how_to_read="Time runs from right to left; both ends are fixed. The dashed line is computed from the learned "
        "score along the straight path alone.",
        shared_y=True,
    )
    off, predicted = largest(y.abs().flatten().tolist()), largest(first.abs().flatten().tolist())
    return (
        f"By {off:.3g} at most, where the first order says {predicted:.3g}, on a ring of radius {RING.radius:g}; the "
        f"action is {float(found.action - zero.action):+.3g} off, and {change:+.3g} to first order."
    )


def slope_of_action(exact: Learned, learned: Learned, known: Case) -> float:
    """The integral of the linear part of L_learned - L along the straight path, by the midpoint rule."""
    x, u = known.bridge, known.times
    middle, at = (x[1:] + x[:-1]) / 2, (u[1:] + u[:-1]) / 2
    v = ((known.end - known.start) / u[-1]).expand_as(middle)
    small = 1e-4
    some = Learned(known, mixed(exact.score, learned.score, small))
    L = [Lagrangian(each.reverse, "OM")(middle.requires_grad_(), v, at) for each in (some, exact)]
    return float(((L[0] - L[1]).detach() / small * u.diff()).sum())
