r"""Burgers' equation from 3% of space and time: an exact posterior, a Gaussian process, and DPS; and their residuals.

.. math::  u_t + (u^2/2)_x = \nu u_{xx}, \qquad \nu = 0.01, \text{ periodic.}

Trajectories of 17 times and 16 points, of which 8 values at random places are observed with noise; all values, the
initial condition included, are graded. Fronts make the fields far from Gaussian, so that the best linear estimate, a
Gaussian process with their covariance, is far from the best. The methods are those of `sparse_fields`.

The residual is that of our scheme on this coarse grid, which the published trajectories, computed on a finer one, do
not satisfy either: samples are compared with them.

Source: the task of DiffusionPDE (Huang et al. 2024, https://arxiv.org/abs/2406.17763); data of Li et al. 2021.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from diffuscope.errors import InputError
from diffuscope.findings import groups
from diffuscope.physics.problems import burgers
from diffuscope.physics.public_fields import public_fields

from .experiment import Experiment
from .part import Part, panel
from .sparse_fields import DRAWS, NFE, OURS, Data, charts, claims, compare, table

NOISE, SEEN = 0.01, 8
VALIDATION, TEST = 100, 40
OWN_TRAIN = 400
EQUATION = burgers().equation
EXPERIMENT = Experiment(
    name="burgers-sparse",
    title="Burgers' equation from 3% of space and time",
    question="How much does a prior with fronts gain over a Gaussian process and tuned DPS?",
    source="Huang et al. 2024, https://arxiv.org/abs/2406.17763; data of Li et al. 2021",
    seconds=45,
    settings={
        "observed": "8 of 272 values, noise 0.01; for our own 0.01 of their standard deviation",
        "public fields": "700 for training, 100 for validation (24 for the weight of DPS), 40 of the test set",
        "own fields": "400, 50 and 20",
        "samples": f"{DRAWS} a problem, {NFE} network calls each (SDE-DPM-Solver++(2M))",
    },
    notes=(
        "The part on public fields needs burgers_neuraloperator.npz in the folder that DIFFUSCOPE_DATA names. Without "
        "it the part says so and claims nothing.",
    ),
)


def residual(fields: Tensor) -> Float[Tensor, " batch"]:
    """The root mean square residual of each field."""
    u = fields[:, 0]
    return EQUATION.residual(u, u[:, 0]).square().mean((1, 2)).sqrt()


def answer(part: Part, data: Data, prefix: str) -> str:
    """Errors, coverage and residuals."""
    found = compare(data, part.seed, part.generator, tuned_on=24)
    claims(part, found, prefix)
    charts(part, found, prefix)
    sizes = {name: torch.stack([residual(each.draws).mean() for each in all_]) for name, all_ in found.results.items()}
    truth = residual(data.test)
    heights = {name: float(values.mean()) for name, values in sizes.items()} | {"held-out fields": float(truth.mean())}
    for other in sizes:
        if other != OURS:
            apart = sizes[OURS] - sizes[other]
            errors = float(apart.mean()) / (float(apart.std()) / math.sqrt(len(apart)))
            title = f"Residual of samples of the {OURS} minus that of {other}"
            key = f"{prefix}residual-{other.split()[0].lower()}"
            because = "not larger beyond two paired standard errors"
            part.at_most(key, title, errors, 2, because, source="our bar", unit="standard errors")
    part.chart(
        f"Residuals of samples, {prefix.rstrip('-')} fields",
        panel("root mean square residual", "", "", groups([*heights], {"residual": [*heights.values()]})),
        how_to_read="Of samples of each method, and of the held-out fields themselves on this grid.",
    )
    told = ", ".join(f"{name} {height:.3f}" for name, height in heights.items())
    return f"{table(found)} Residuals: {told}."


@EXPERIMENT.part("On public trajectories?")
def public(part: Part) -> str:
    """The published split; validation fields are the last of the training set."""
    try:
        fields = public_fields("burgers_neuraloperator")
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    train, validation = fields.train[:-VALIDATION], fields.train[-VALIDATION:]
    return answer(part, Data(train, validation, fields.heldout[:TEST], ("velocity",), 0, SEEN, NOISE), "public-")


@EXPERIMENT.part("And on our own?")
def own(part: Part) -> str:
    """Solutions of our own scheme, whose residual is zero."""
    parts = [OWN_TRAIN, VALIDATION // 2, TEST // 2]
    u = EQUATION.solve(EQUATION.draw(sum(parts), generator=part.generator))
    train, validation, test = u[:, None].split(parts)
    noise = NOISE * float(u.std())  # not a scaled u, which would solve another equation
    return answer(part, Data(train, validation, test, ("velocity",), 0, SEEN, noise), "own-")
