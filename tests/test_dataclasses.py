"""The dataclasses of every subpackage: frozen but for those that count, and compared as their fields can be."""

import pytest

from immutable import compared_as_their_fields_are_not, mutable_dataclasses
from test_public_names import SUBPACKAGES

# those that count, listen or are filled
MUTABLE = {
    "adapters": {"_Model"},
    "certify": {"SharedBudget", "Listening"},
    "denoisers": {"CountingDenoiser"},
    "exact": {"TrackedScores", "Work", "_Block"},
    "training": {"EpochPermutations"},
}
# by identity though they hold numbers and functions alone
ALONE = {
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
    assert compared_as_their_fields_are_not(subpackage) == ALONE.get(subpackage, set())
