r"""Samplers that satisfy a constraint to rounding, and miss the posterior: in closed form, and on Burgers' equation.

Prior N(0, S) in the plane with variances 1 and correlation rho, the first coordinate known: :math:`x_1 = y`. The
posterior of the second is :math:`N(\rho y, 1 - \rho^2)`. The projected denoiser sets :math:`D_1 = y` and leaves D_2,
which learns of y only through the noisy :math:`x_{t,1} = y + \delta`. In :math:`s = \sigma^2`, with
:math:`\Delta = (1 + s)^2 - \rho^2`, the reverse SDE is
:math:`dx_2 = -[\rho x_1 - (1 + s) x_2]/\Delta\, ds + dB` and :math:`\delta` a Brownian motion in s, which gives

.. math::
    \mathrm{mean} &= \rho y\,\sqrt{1 - \rho^2} \int_1^\infty \frac{du}{(u^2 - \rho^2)^{3/2}}
                   = y\,\frac{1 - \sqrt{1 - \rho^2}}{\rho}, \\
    \mathrm{Var} &= \frac{1 - \rho^2}{2\rho} \log\frac{1 + \rho}{1 - \rho}
      + \frac{1 - \rho^2}{\rho^2} \int_1^\infty \Big(\frac{u}{\sqrt{u^2 - \rho^2}} - 1\Big)^2 du :

a constraint error of zero at any correlation, half of the mean for a weak one, and too large a variance.

For a nonlinear constraint the posterior of a *finite set* of fields is known: weights :math:`w_i p(y \mid x_i)`. Here
the fields are solutions of Burgers' equation whose final energy is known, and the sampler projects every denoised field
onto that energy by Gauss-Newton.

Source: the observation is that of https://github.com/cpfpengfei/PCFM issue 3 (constraint error about 0, moments of the
Burgers posterior far off); the closed forms are derived.
"""

import math

import torch
from jaxtyping import Float
from scipy.integrate import quad
from torch import Tensor

from diffuscope.denoisers import Denoiser, ExactDenoiser
from diffuscope.exact import Empirical, Gaussian
from diffuscope.findings import groups, largest, line
from diffuscope.physics import (
    GaussianGuide,
    Grid,
    NonlinearObservation,
    Projected,
    at_nodes,
    posterior,
    posterior_weights,
)
from diffuscope.physics.conditioning import GaussNewtonProjected
from diffuscope.physics.operators import Burgers
from diffuscope.samplers import DDPM, finish
from diffuscope.schedules import VE
from diffuscope.times import log_snr_times

from .affine_steps import LEFT, SCHEDULE, extrapolated
from .experiment import Experiment
from .part import Part, largest_difference, panel

Y = 1.0
CORRELATIONS = (0.3, 0.6, 0.9)
FIELDS, SAMPLES = 400, 128
STEPS = {"posterior": 400, "projected": 80}
NOISE, QUANTILE = 0.1, 0.95  # relative noise of the energy; where in the prior it is
EQUATION = Burgers(Grid((17, 16), (1.0, 1.0), (False, True)), 0.01)
LEVELS = VE(1e-3, 20.0)
EXPERIMENT = Experiment(
    name="constraint-is-not-posterior",
    title="Satisfying a constraint is not sampling the posterior",
    question="Are samples that satisfy a constraint to rounding samples of the posterior?",
    source="PCFM issue 3, https://github.com/cpfpengfei/PCFM/issues/3; derived",
    seconds=15,
    settings={
        "plane": "variances 1, correlations 0.3, 0.6, 0.9, x1 = 1",
        "Burgers": "400 trajectories on 17 x 16 nodes of time and space, periodic, viscosity 0.01",
        "observed": "the mean of u² at time 1, at the 95% quantile of the prior, noise 10%",
        "samples": "128 by DDPM from σ = 20 to 0.001, 400 steps for the posterior, 80 projected",
    },
)


def projected_limit(rho: float) -> tuple[float, float]:
    """Mean and variance of x_2 at which the projected SDE ends."""
    rest = float(quad(lambda u: (u / math.sqrt(u**2 - rho**2) - 1) ** 2, 1, math.inf)[0])
    mean = Y * (1 - math.sqrt(1 - rho**2)) / rho
    own = (1 - rho**2) / (2 * rho) * math.log((1 + rho) / (1 - rho))
    return mean, own + (1 - rho**2) / rho**2 * rest


@EXPERIMENT.part("What does a projected sampler end at?")
def plane(part: Part) -> str:
    """The limits of many steps with the projected denoiser and with the exact guide, over the correlation."""
    observation, y = at_nodes(torch.tensor([0]), (2,)), torch.tensor([Y], dtype=torch.float64)
    used, errors, table = {"projected": [], "exact guide": []}, [], {}
    for rho in CORRELATIONS:
        S = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
        prior = ExactDenoiser(Gaussian.from_covariance(torch.zeros(2, dtype=torch.float64), S), SCHEDULE)
        wanted = {"projected": projected_limit(rho), "exact guide": (rho * Y, 1 - rho**2)}
        made = {"projected": Projected(prior, observation, y), "exact guide": GaussianGuide(prior, observation, y)}
        for name, denoiser in made.items():
            end, change = extrapolated(denoiser, 2)
            table[rho, name] = float(end.mean[1]), float(end.covariance[1, 1])
            used[name].append(abs(table[rho, name][0] - wanted[name][0]) / (float(change.mean[1]) + LEFT))
            used[name].append(abs(table[rho, name][1] - wanted[name][1]) / (float(change.covariance[1, 1]) + LEFT))
            errors += [abs(float(end.mean[0]) - Y), largest_difference(end.covariance[0], 0)]
    title = "Error of the constraint: mean of x₁ − y and covariance with x₁, the largest over samplers and correlations"
    part.at_most("constraint", title, largest(errors), 1e-10, "rounding", source="derived")
    because = f"what the last doubling of the steps changed, and {LEFT:g} for the finite ends of the noise levels"
    title = (
        "The projected sampler ends at its closed form: largest distance of mean and variance in units of their bound"
    )
    part.at_most("limit", title, largest(used["projected"]), 1, because, source="derived")
    title = "The exact guide ends at the posterior, in the same units"
    part.at_most("guide", title, largest(used["exact guide"]), 1, because, source="derived")
    rho = CORRELATIONS[-1]
    mean, variance = projected_limit(rho)
    r = torch.linspace(0.02, 0.98, 49, dtype=torch.float64).tolist()
    limits = [projected_limit(each) for each in r]
    part.chart(
        "The moments of what is not constrained",
        panel("mean of x₂", "correlation", "", line(r, [m for m, _ in limits], "projected"), line(r, r, "posterior")),
        panel("variance of x₂", "correlation", "", line(r, [v for _, v in limits], "projected"),
              line(r, [1 - each**2 for each in r], "posterior")),
        how_to_read="Closed forms. Every sample of either satisfies x₁ = y exactly.",
    )  # fmt: skip
    return (
        f"At another distribution: with correlation {rho:g} the projected sampler gives x₂ mean {mean:.3f} and "
        f"variance {variance:.3f}, the posterior {rho * Y:.3f} and {1 - rho**2:.3f}. The constraint holds to "
        "rounding in both."
    )


def energy(fields: Tensor) -> Float[Tensor, "batch 1"]:
    """The mean of u^2 over space at time 1."""
    return fields[:, -1].square().mean(1, keepdim=True)


def draw(denoiser: Denoiser, steps: int, generator: torch.Generator) -> Tensor:
    """Samples of a denoiser by DDPM, of first order in the steps."""
    start = LEVELS.sigma_max * torch.randn(SAMPLES, *EQUATION.grid.shape, dtype=torch.float64, generator=generator)
    times = log_snr_times(LEVELS, LEVELS.sigma_max, LEVELS.sigma_min, steps)
    return finish(denoiser, DDPM(), start, times, noise=generator)


@EXPERIMENT.part("And for a nonlinear constraint on solutions of Burgers' equation?")
def burgers(part: Part) -> str:
    """A finite set of trajectories: the exact posterior, its samples, and those of the projected denoiser."""
    g = part.generator
    fields = EQUATION.solve(EQUATION.draw(FIELDS, generator=g))
    y = energy(fields).quantile(QUANTILE, dim=0) / NOISE  # in units of the noise
    noise = float(y) * NOISE
    observation = NonlinearObservation(lambda x: energy(x) / NOISE, EQUATION.grid.shape, noise)
    prior = Empirical(fields)
    known, weights = posterior(prior, observation, y), posterior_weights(prior, observation, y)
    made = {
        "posterior": ExactDenoiser(known, LEVELS),
        "projected": GaussNewtonProjected(ExactDenoiser(prior, LEVELS), observation, y),
    }
    samples = {name: draw(denoiser, STEPS[name], g) for name, denoiser in made.items()}
    title = "Largest relative error of the final energy of projected samples"
    violation = largest_difference(energy(samples["projected"]) / NOISE / y, 1)
    part.at_most("energy", title, violation, 1e-8, "Gauss-Newton, to rounding", source="derived")
    start = fields[:, 0].square().mean(1)
    wanted = float(weights @ start)
    spread = math.sqrt(float(weights @ (start - wanted).square()))
    found = {name: x[:, 0].square().mean(1) for name, x in samples.items()}
    apart = {name: (float(x.mean()) - wanted) / (spread / math.sqrt(SAMPLES)) for name, x in found.items()}
    title = f"Mean initial energy of {SAMPLES} samples of the exact posterior's denoiser, from that of Bayes' rule"
    because = "four standard errors, exceeded once in 16,000"
    part.at_most("exact", title, abs(apart["posterior"]), 4, because, source="Bayes' rule", unit="standard errors")
    title = "The same for projected samples"
    because = "our bar for a bias: six standard errors"
    part.at_least(
        "projected", title, abs(apart["projected"]), 6, because, source="measured here", unit="standard errors"
    )
    x, ess = EQUATION.space.along(0), 1 / float(weights.square().sum())
    means = {"Bayes' rule": wanted} | {name: float(values.mean()) for name, values in found.items()}
    part.chart(
        "Trajectories given their final energy",
        panel("initial energy", "", "", groups([*means], {"mean": [*means.values()]})),
        *(
            panel(f"starts, {name}", "x", "u", *(line(x, values[i, 0], "") for i in range(8)))
            for name, values in samples.items()
        ),
        how_to_read=f"The final energy, known to {NOISE:.0%}, is at the {QUANTILE:.0%} quantile of the prior. The "
        "projected samples have it to rounding, and initial conditions that hardly know of it.",
    )
    return (
        f"The projected samples miss the final energy by at most {violation:.0e}; their mean initial energy is "
        f"{means['projected']:.4f}, where the posterior has {wanted:.4f} (effective size {ess:.0f} of {FIELDS}): "
        f"{abs(apart['projected']):.0f} standard errors. Samples of the exact posterior: {abs(apart['posterior']):.1f}."
    )
