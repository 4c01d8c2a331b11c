"""Most likely paths: Newton on the action against fixed-step gradient descent on the same one, and SciPy's solve_bvp.

Gradient descent is how the published paths were found. It runs on the same discrete action from the same straight line,
with the largest step of a grid that does not diverge, until its action is within 1e-6 of the minimum; where it has not
come there after `STEPS` steps, the ratio is a lower bound and the error that is left is printed. CPU seconds, the
fastest of three runs of Newton, one of descent.
"""

import math
import time
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_bvp
from torch import Tensor

from diffuscope.theory.paths import Dynamics, geometric_action, least_action, least_of_density, straight
from diffuscope.theory.paths.discrete_action import MIDPOINT, at_edges

STEPS, NEAR = 60_000, 1e-6
WIDTH, RADIUS = 0.55, 5.0


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """CPU seconds of the fastest of some runs."""
    spent = []
    for _ in range(times):
        start = time.process_time()
        run()
        spent.append(time.process_time() - start)
    return min(spent)


def ring_density(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """The published density of a reverse diffusion from a noised ring, |v|^2 / 4t + t |s|^2."""
    variance = WIDTH**2 + t**2
    r = x.square().sum(1).sqrt()
    z = RADIUS * r / variance
    s = (RADIUS * torch.special.i1e(z) / torch.special.i0e(z) - r) / variance
    return v.square().sum(1) / (4 * t) + t * s**2


def ornstein_uhlenbeck(x: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """(v + x)^2 / 4."""
    del t
    return (v + x).square().sum(1) / 4


def descent(density: Callable[[Tensor, Tensor, Tensor], Tensor], x: Tensor, times: Tensor, goal: float) -> tuple:
    """(CPU seconds, steps, error left) of gradient descent with the largest stable step of a grid."""

    def action(nodes: Tensor) -> Tensor:
        state, velocity, at = at_edges(nodes, times, MIDPOINT)
        return density(state[0], velocity[0], at) @ times.diff()

    def run(step: float, steps: int) -> tuple[float, int, float]:
        nodes, start = x.clone(), time.process_time()
        value = math.inf
        for taken in range(steps):
            nodes = nodes.detach().requires_grad_()
            S = action(nodes)
            value = S.item()
            if not math.isfinite(value) or value - goal <= NEAR:
                return time.process_time() - start, taken, value - goal
            (gradient,) = torch.autograd.grad(S, nodes)
            gradient[:, [0, -1]] = 0
            nodes = nodes - step * gradient
        return time.process_time() - start, steps, value - goal

    grid = [10.0 ** (-k / 2) for k in range(13)]
    stable = next(step for step in grid if 0 <= run(step, 300)[2] < float(action(x)) - goal)
    return run(stable, STEPS)


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    print("| case | nodes | Newton, CPU s | descent, CPU s | steps | error left | ratio |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    ring_times = torch.logspace(-0.4, 1.5, 50, dtype=torch.float64)
    ou_times = torch.linspace(0, 1, 101, dtype=torch.float64)
    angle = math.pi / 4
    ring_ends = [[RADIUS * math.cos(angle), RADIUS * math.sin(angle)]], [[0.0, 2 * RADIUS]]
    cases = {
        "ring": (ring_density, ring_ends, ring_times),
        "Ornstein-Uhlenbeck": (ornstein_uhlenbeck, ([[-2.0, 2.0]], [[2.0, 2.0]]), ou_times),
    }
    for name, (density, ends, times) in cases.items():
        start, end = (torch.tensor(each, dtype=torch.float64) for each in ends)
        line = straight(start, end, times)
        _, S = least_of_density(density, line, times)
        ours = seconds(lambda d=density, x=line, t=times: least_of_density(d, x, t))
        theirs, steps, left = descent(density, line, times, float(S))
        bound = ">" if left > NEAR else ""
        row = f"| {name} | {len(times)} | {ours:.4f} | {theirs:.2f} | {steps:,} | {left:.1e} |"
        print(f"{row} {bound}{theirs / ours:.0f} |")
    dynamics, ends = Dynamics(lambda x: -x, 1.0), (torch.tensor([-2.0, 2.0]), torch.tensor([2.0, 2.0]))
    times = torch.linspace(0, 1, 401, dtype=torch.float64)
    ours = seconds(lambda: least_action(dynamics, *ends, times))

    def bvp() -> object:
        """Hamilton's equations of the Ornstein-Uhlenbeck process, x' = -x + 2p, p' = p, to a path error of 1e-6."""
        mesh = np.linspace(0, 1, 11)
        line = np.linspace([-2, 2, 0, 0], [2, 2, 0, 0], 11).T
        return solve_bvp(
            lambda _, y: np.vstack([-y[:2] + 2 * y[2:], y[2:]]),
            lambda a, b: np.array([a[0] + 2, a[1] - 2, b[0] - 2, b[1] - 2]),
            mesh,
            line,
            tol=1e-6,
        )

    print(f"\nleast_action with its certificate, N = 400, d = 2: {ours:.3f} s; solve_bvp to 1e-6: {seconds(bvp):.4f} s")

    def maier_stein(z: Tensor) -> Tensor:
        x, y = z[:, 0], z[:, 1]
        return torch.stack([x - x**3 - 10 * x * y**2, -(1 + x**2) * y], 1)

    s = torch.linspace(0, 1, 50, dtype=torch.float64)
    bend = torch.stack([s - 1, 0.3 * torch.sin(math.pi * s)], 1)
    stein = Dynamics(maier_stein, 0.5)
    spent = seconds(lambda: geometric_action(stein, torch.tensor([-1.0, 0.0]), torch.zeros(2), 200, initial=bend))
    print(f"geometric_action of Maier and Stein, beta = 10, 200 pieces: {spent:.3f} s")


if __name__ == "__main__":
    main()
