r"""With the full functional the most likely reverse path is straight in t squared, whatever the data are.

The reverse diffusion of noise level t, :math:`dx = 2 t\,s\,d\tau + \sqrt{2 t}\,dW` with :math:`\tau = T - t`, has
constant noise in the time :math:`u = (T^2 - t^2) / 2`,

.. math::  dx = 2\,s(x, t)\,du + \sqrt2\,dW_u , \qquad D = 1 .

The heat equation :math:`\partial_t \log p = t\,(\nabla\cdot s + |s|^2)` turns its Onsager-Machlup density into

.. math::
    L_\mathrm{OM} = \tfrac14 |x' - 2s|^2 + \nabla\cdot s = \tfrac14 |x'|^2 - \frac{d}{du} \log p(x, t) ,

free motion up to a total derivative: given its ends, the reverse diffusion is a Brownian bridge. The most likely path
is straight in u, and with :math:`p = x'/2 - s` the charge :math:`p + s` is conserved, the momentum of every translation
:math:`\xi = a` with the gauge :math:`\Lambda = -a\cdot s`. From x_T at T to x_0 at :math:`\epsilon`,

.. math::
    S = \frac{|x_T - x_0|^2}{2 (T^2 - \epsilon^2)} + \log \frac{p(x_T, T)}{p(x_0, \epsilon)} , \qquad
    |x \times p| = \frac{|x_0 \times x_T|}{T^2 - \epsilon^2} \text{ on a ring.}

The Freidlin-Wentzell density has no divergence, and its paths bend.

Source: Vastola 2024, https://arxiv.org/abs/2504.09761, figure 2, has the ring and another functional; the identity is
derived here.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.data import load_data
from diffuscope.findings import Line, Panel, farthest, largest, line
from diffuscope.theory.paths import (
    ActionDensity,
    Dynamics,
    Functional,
    Lagrangian,
    Symmetry,
    least_action,
    least_of_density,
    rotation,
    translation,
    violation,
)

from .experiment import Experiment
from .noised_data import Mixture, Noised, Ring
from .part import PIXEL_RANGE, Part, largest_difference
from .path_panels import along, box_around, plane

INTERVALS, DIGIT_INTERVALS = 400, 160
POINTS = 50
DERIVED = "derived"
EXPERIMENT = Experiment(
    name="reverse-diffusion-is-a-bridge",
    title="The most likely reverse diffusion is a bridge",
    question="Which path from noise to a sample is the most likely, and how does it depend on the data?",
    source="Vastola 2024, https://arxiv.org/abs/2504.09761",
    seconds=35,
    settings={
        "ring": "radius 5, width 0.55, T = 10^1.5, ε = 10^−0.4, 400 intervals",
        "mixture": "three modes of different widths, T = 8, ε = 0.1, 400 intervals",
        "digits": "899 of scikit-learn in [−1, 1], 64 dimensions, T = 8, ε = 0.3, 160 intervals",
        "identity": "at 50 random states of each",
    },
)


@dataclass(frozen=True, eq=False)
class Case:
    """Data, the two ends of a reverse path, and its noise levels from T down to epsilon."""

    data: Noised
    start: Float[Tensor, " d"]
    end: Float[Tensor, " d"]
    levels: Float[Tensor, " nodes"]

    @property
    def times(self) -> Float[Tensor, " nodes"]:
        """u = (T^2 - t^2) / 2."""
        return (self.levels[0] ** 2 - self.levels**2) / 2

    def level(self, u: Tensor) -> Tensor:
        """t of u."""
        return (self.levels[0] ** 2 - 2 * u).sqrt()

    @property
    def reverse(self) -> Dynamics:
        """f = 2 s, D = 1."""
        return Dynamics(lambda x, u: 2 * self.data.score(x, self.level(u)), 1.0)

    @property
    def bridge(self) -> Float[Tensor, "nodes d"]:
        """The straight path in u."""
        return self.start + (self.times / self.times[-1])[:, None] * (self.end - self.start)

    @property
    def action(self) -> float:
        """S of the bridge."""
        ends, levels = torch.stack([self.start, self.end]), self.levels[[0, -1]]
        at_noise, at_data = self.data.log_prob(ends, levels)
        return float((self.end - self.start).square().sum() / (4 * self.times[-1]) + at_noise - at_data)

    def off_bridge(self, path: Float[Tensor, "nodes d"]) -> float:
        """Largest distance of a coordinate from the bridge."""
        return largest_difference(path, self.bridge)

    def share(self, path: Float[Tensor, "nodes d"]) -> Float[Tensor, " nodes"]:
        """How far along the straight way from end to end."""
        way = self.end - self.start
        return (path - self.start) @ way / way.square().sum()


def levels(T: float, epsilon: float, intervals: int) -> Float[Tensor, " nodes"]:
    """From T to epsilon, at equal ratios."""
    return torch.logspace(math.log10(T), math.log10(epsilon), intervals + 1, dtype=torch.float64)


def ring_case() -> Case:
    """The published ends: from twice the radius at the top to the ring at 45 degrees."""
    end = 5 * torch.tensor([1.0, 1.0], dtype=torch.float64) / math.sqrt(2)
    return Case(Ring(), torch.tensor([0.0, 10.0], dtype=torch.float64), end, levels(10**1.5, 10**-0.4, INTERVALS))


def mixture_case() -> Case:
    """Between two modes at first, and into the third."""
    means = torch.tensor([[-2.0, 0.0], [2.0, 0.5], [0.0, -2.5]], dtype=torch.float64)
    data = Mixture(means, torch.tensor([0.09, 0.25, 0.49], dtype=torch.float64))
    start, end = torch.tensor([[-6.0, 7.0], [1.8, 0.3]], dtype=torch.float64)
    return Case(data, start, end, levels(8.0, 0.1, INTERVALS))


def digit_case(generator: torch.Generator) -> Case:
    """From noise to a digit."""
    data = load_data("digits").in_range(*PIXEL_RANGE).train.double().flatten(1)
    noise = torch.randn(2, data.shape[1], dtype=torch.float64, generator=generator)
    finite = Mixture(data, torch.zeros(len(data), dtype=torch.float64))
    return Case(finite, 8 * noise[0], data[0] + 0.3 * noise[1], levels(8.0, 0.3, DIGIT_INTERVALS))


def digit_density(case: Case, functional: Functional) -> ActionDensity:
    """L with the divergence in closed form: by autograd it takes 64 times as long."""
    data = case.data
    assert isinstance(data, Mixture)

    def density(x: Tensor, v: Tensor, u: Tensor) -> Float[Tensor, " n"]:
        t = case.level(u)
        free = (v - 2 * data.score(x, t)).square().sum(1) / 4
        return free + data.divergence(x, t) if functional == "OM" else free

    return density


def most_likely(case: Case, functional: Functional) -> tuple[Float[Tensor, "nodes d"], float]:
    """Path and action from a path that is straight in log t, not in u."""
    share = torch.linspace(0, 1, len(case.levels), dtype=torch.float64)[:, None]
    begin = (case.start + share * (case.end - case.start))[None]
    if len(case.start) > 2:
        path, action = least_of_density(digit_density(case, functional), begin, case.times)
        return path[0], float(action)
    found = least_action(case.reverse, case.start, case.end, case.times, functional, initial=begin)
    return found.states[0], float(found.action)


def cases(part: Part) -> dict[str, Case]:
    """The three data sets."""
    return {"ring": ring_case(), "mixture": mixture_case(), "digits": digit_case(part.generator)}


def random_points(case: Case, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """States near the bridge, velocities and times."""
    place = torch.randint(len(case.levels), (POINTS,), generator=generator)
    z, v = (torch.randn(POINTS, len(case.start), dtype=torch.float64, generator=generator) for _ in range(2))
    t = case.levels[place]
    return case.bridge[place] + t[:, None] * z, v / t[:, None], case.times[place]


def identity_error(case: Case, x: Tensor, v: Tensor, u: Tensor) -> float:
    """L_OM + (d/du) log p - |v|^2 / 4, root mean square over that of the sizes of its terms."""
    x, u = x.clone().requires_grad_(), u.clone().requires_grad_()
    L = Lagrangian(case.reverse, "OM")(x, v, u).detach()
    by_x, by_u = torch.autograd.grad(case.data.log_prob(x, case.level(u)).sum(), (x, u))
    terms = torch.stack([L, by_u, (v * by_x).sum(1), -v.square().sum(1) / 4])
    return float(terms.sum(0).square().mean().sqrt() / terms.abs().sum(0).square().mean().sqrt())


def gauged_translation(case: Case) -> Symmetry:
    """x -> x + epsilon a along the first coordinate, with the gauge -a s: its charge is (p + s) a."""
    a = torch.zeros(len(case.start), dtype=torch.float64)
    a[0] = 1
    gauge = lambda x, u: -case.data.score(x, case.level(u)) @ a  # noqa: E731
    return Symmetry("translation", translation(a).xi, gauge=gauge)


@EXPERIMENT.part("Is the full functional that of free motion?")
def free_motion(part: Part) -> str:
    """The identity and the symmetry, at random states, by automatic differentiation."""
    errors, violations = {}, {}
    for name, case in cases(part).items():
        points = random_points(case, part.generator)
        errors[name] = identity_error(case, *points)
        violations[name] = violation(Lagrangian(case.reverse, "OM"), gauged_translation(case), *points)
    title = f"L_OM = |x′|²/4 − (d/du) log p at {POINTS} random states of ring, mixture and digits, relative error"
    part.at_most("identity", title, largest(errors.values()), 1e-12, "rounding", source=DERIVED)
    title = "Every translation is a symmetry up to a gauge: relative violation at the same states"
    part.at_most("gauge", title, largest(violations.values()), 1e-12, "rounding", source=DERIVED)
    return f"Yes, to {largest(errors.values()):.0e}: the data enter by a total derivative, which changes no path."


@EXPERIMENT.part("Is the most likely path straight in t²?")
def straight_paths(part: Part) -> str:
    """Newton's method from paths that are not, for three kinds of data and both functionals."""
    known = cases(part)
    full = {name: most_likely(case, "OM") for name, case in known.items()}
    bent = {name: most_likely(case, "FW") for name, case in known.items()}
    order = "second order in the intervals"
    for name, case in known.items():
        off = case.off_bridge(full[name][0])
        title = f"{name.capitalize()}, {len(case.times) - 1} intervals: a coordinate is off the bridge by at most"
        part.at_most(name, title, off, 5e-4, order, source=DERIVED)
    error = largest_difference([full[name][1] / case.action for name, case in known.items()], 1)
    part.at_most("action", "Action of the three, relative error of S", error, 1e-3, order, source=DERIVED)
    off = min(case.off_bridge(bent[name][0]) for name, case in known.items())
    title = "Without the divergence paths bend: smallest of the three distances from the bridge"
    part.at_least("bend", title, off, 0.05, "far above the error of the mesh", source=DERIVED)
    part.chart(
        "How far along the straight way a path has come",
        *(shares(name, case, full[name][0], bent[name][0]) for name, case in known.items()),
        how_to_read="Horizontal: (T² − t²)/(T² − ε²), from noise to sample. The path of the full functional is on the "
        "diagonal for any data, to the width of the line (the claims state its distance); that of Freidlin and "
        f"Wentzell is not. Their actions on the ring are {full['ring'][1]:.4f} and {bent['ring'][1]:.4f}.",
        shared_y=True,
    )
    farthest_off = max(case.off_bridge(path) for case, (path, _) in zip(known.values(), full.values(), strict=True))
    return (
        f"Yes, to {farthest_off:.0e} for ring, mixture and the digits' exact score. Only without the "
        "divergence, which is not small at any noise level, do paths depend on the data."
    )


@EXPERIMENT.part("What is conserved on the ring?")
def ring_charges(part: Part) -> str:
    """Angular momentum for both functionals, and p + s for the full one."""
    case = ring_case()
    named: dict[str, Functional] = {"full": "OM", "Freidlin-Wentzell": "FW"}
    paths = {
        name: least_action(case.reverse, case.start, case.end, case.times, functional)
        for name, functional in named.items()
    }
    turning = {name: rotation().charge(path)[0] for name, path in paths.items()}
    cross = float(case.start[0] * case.end[1] - case.start[1] * case.end[0])
    exact = cross / float(case.levels[0] ** 2 - case.levels[-1] ** 2)
    value = farthest(turning["full"].tolist(), exact)
    because = "the digits that the source of the exact value prints"
    title = "x × p along the path, where it is farthest from x_T × x_0 / (T² − ε²)"
    part.equals("turning", title, value, exact, 1e-4 * abs(exact), because, source=DERIVED)
    t = case.levels[1:-1]
    angular = tuple(line(t, Q, name) for name, Q in turning.items())
    gauged = gauged_translation(case)
    momenta: list[Line] = [line(t, gauged.charge(path)[0], f"p + s, {name}") for name, path in paths.items()]
    momenta.append(line(t, translation([1.0, 0.0]).charge(paths["full"])[0], "p, full", style="dashed"))
    states = {name: path.states[0] for name, path in paths.items()}
    part.chart(
        "Paths and charges on the ring",
        plane("from noise (top) to the ring", states, box_around(*states.values())),
        Panel("angular momentum", "t", "x × p", angular, x_log=True),
        Panel("momentum along x", "t", "", tuple(momenta), x_log=True, y_range=(-0.05, 0.05)),
        how_to_read="Time runs from right to left. The ring's rotation symmetry conserves x × p for both functionals; "
        "the momentum p + s of a translation is conserved by the full one alone, as without data. Lines have no "
        f"sampling error; on {INTERVALS} intervals x × p is constant to {float(rotation().drift(paths['full'])):.0e}.",
    )
    return f"The angular momentum {value:.6f} for both, and with the full functional the momentum p + s as well."


def shares(name: str, case: Case, full: Float[Tensor, "nodes d"], bent: Float[Tensor, "nodes d"]) -> Panel:
    """How far each path has come, over how far the bridge has."""
    u = case.times / case.times[-1]
    series = {"full": (u, case.share(full)), "Freidlin-Wentzell": (u, case.share(bent)), "bridge": (u, u)}
    shown = along(name, "share of the way", series, ("bridge",))
    return Panel(name, "share of T² − t²", "share of the way", shown.marks)
