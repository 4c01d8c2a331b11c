"""The dataclasses of every subpackage: frozen but for those that count, and compared as their fields can be."""

import pytest

from immutable import by_identity, compared_other_than_their_fields, mutable_dataclasses
from test_public_names import SUBPACKAGES

# those that count, listen or are filled
MUTABLE = {
    "adapters": {"_Model"},
    "certify": {"SharedBudget", "Listening"},
    "denoisers": {"CountingDenoiser"},
    "exact": {"TrackedScores", "Work", "_Block"},
    "training": {"EpochPermutations"},
}
# by their fields: a sampler, a law or a distribution of the library may have an `==` of its own, and a denoiser is the
# same or another one
BY_FIELDS = {
    "adapters": {"TeleportGrid", "Trained", "TrainedNetwork", "_Denoiser", "_Guided", "_Model", "_Walk"},
    "certify": {"Drawn", "OracleProblem", "Place", "RowDraw"},
    "denoisers": {"Checked", "ExactDenoiser", "Rescheduled"},
    "densities": {"BetweenSteps"},
    "physics": {"DDPMChain", "Entry", "ExactChain", "Inverse", "LatticeLaw", "LevyProcess", "Problem", "_Run"},
    "samplers": {"Langevin", "MetropolisLangevin", "OptimalVariance", "Restart"},
    "theory": {"Products"},
    "training": {"TrainingSettings"},
}
# by identity: they hold numbers and functions alone
BY_IDENTITY = {
    "denoisers": {"BoundaryAware", "Circular", "WindowSize"},
    "densities": {"FokkerPlanck"},
    "physics": {"NonlinearObservation"},
    "theory": {"FoundSymmetry", "Rate"},
}
FOLDERS = sorted({*SUBPACKAGES, "cli"} - {"times"})


@pytest.mark.parametrize("subpackage", FOLDERS)
def test_dataclasses_are_frozen(subpackage):
    assert mutable_dataclasses(subpackage) == MUTABLE.get(subpackage, set())


@pytest.mark.parametrize("subpackage", FOLDERS)
def test_what_holds_arrays_compares_by_identity_and_what_does_not_by_its_fields(subpackage):
    found = {cls.__name__: by_identity(cls) for cls in compared_other_than_their_fields(subpackage)}
    assert {name for name, alone in found.items() if not alone} == BY_FIELDS.get(subpackage, set())
    assert {name for name, alone in found.items() if alone} == BY_IDENTITY.get(subpackage, set())
