r"""Darcy flow from 3% of the pressures: permeability and pressure by an exact posterior, a Gaussian process, and DPS.

.. math::  -\nabla\cdot(a\nabla u) = 1, \qquad u = 0 \text{ on the boundary}.

The *pressure* u is observed at 3% of the nodes, at random places, with noise; both the pressure at all nodes and the
coefficient a, which is never observed, are graded. Public fields of 16 x 16 (their own train-test split; 8 nodes
observed), and fields of our own solver of 32 x 32 (31 nodes). The methods are those of `sparse_fields`.

Source: the task of DiffusionPDE (Huang et al. 2024, https://arxiv.org/abs/2406.17763) on fields small enough that a
posterior is exact; data of Li et al. 2021, https://arxiv.org/abs/2010.08895.
"""

from diffuscope.errors import InputError
from diffuscope.physics.problems import darcy
from diffuscope.physics.public_fields import public_fields

from .experiment import Experiment
from .part import Part
from .sparse_fields import DRAWS, NFE, Data, charts, claims, compare, table

CHANNELS = ("coefficient", "pressure")
NOISE = 0.01
PUBLIC_TRAIN, PUBLIC_VALIDATION, PUBLIC_TEST = 800, 100, 40
OWN_TRAIN, OWN_VALIDATION, OWN_TEST = 400, 40, 24
EXPERIMENT = Experiment(
    name="darcy-sparse",
    title="Darcy flow from 3% of the pressures",
    question="Is an exact posterior of a simple prior as good as a Gaussian process and tuned DPS?",
    source="Huang et al. 2024, https://arxiv.org/abs/2406.17763; data of Li et al. 2021",
    seconds=90,
    settings={
        "observed": "the pressure at 3% of the nodes, noise 0.01 of its scale",
        "graded": "coefficient and pressure at all nodes",
        "public fields": "800 of 16 x 16 for training, 100 for validation (8 for the weight of DPS), 40 to test",
        "own fields": "400 of 32 x 32, 40 and 24",
        "samples": f"{DRAWS} a problem, {NFE} network calls each (SDE-DPM-Solver++(2M))",
    },
    notes=(
        "The part on public fields needs darcy_neuraloperator.npz in the folder that DIFFUSCOPE_DATA names. Without it "
        "the part says so and claims nothing.",
    ),
)


@EXPERIMENT.part("On public fields of 16 x 16?")
def public(part: Part) -> str:
    """The published split; validation fields are the last of the training set."""
    try:
        fields = public_fields("darcy_neuraloperator")
    except InputError as error:
        return f"Not run, and nothing is claimed. {error}."
    end = PUBLIC_TRAIN + PUBLIC_VALIDATION
    data = Data(fields.train[:PUBLIC_TRAIN], fields.train[PUBLIC_TRAIN:end], fields.heldout[:PUBLIC_TEST], CHANNELS,
                observed=1, seen=8, noise=NOISE)  # fmt: skip
    found = compare(data, part.seed, part.generator)
    claims(part, found, "public-")
    charts(part, found, "public-")
    return table(found)


@EXPERIMENT.part("And on our own of 32 x 32?")
def own(part: Part) -> str:
    """Two-phase media and the solutions of our own finite volumes."""
    drawn = darcy(32).fields(OWN_TRAIN + OWN_VALIDATION + OWN_TEST, generator=part.generator)
    fields = drawn / drawn.std((0, 2, 3), keepdim=True)
    train, validation, test = fields.split([OWN_TRAIN, OWN_VALIDATION, OWN_TEST])
    data = Data(train, validation, test, CHANNELS, observed=1, seen=31, noise=NOISE)
    found = compare(data, part.seed, part.generator)
    claims(part, found, "own-")
    charts(part, found, "own-")
    return table(found)
