"""The calibration of patch sizes finds the size of a network that is an analytic denoiser itself."""

import pytest
import torch

from diffuscope.denoisers.analytic import PatchSizes, local_score, patch_composition, patch_sizes
from diffuscope.errors import InputError
from diffuscope.schedules import VE

SIZES = [5, 1, 3]


def images(n: int, seed: int) -> torch.Tensor:
    return torch.randn(n, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [local_score, patch_composition])
def test_the_size_of_an_analytic_denoiser_is_found_at_every_level(kind, generator):
    """The cosine with itself is 1, and that with any other size is less."""
    data, clean = images(8, 0), images(6, 1)

    def size(level):
        return 3 if level > 0.5 else 1

    found = patch_sizes(kind(data, VE(), size), data, clean, [0.2, 0.7], SIZES, kind=kind, generator=generator)
    assert found.candidates.tolist() == [1, 3, 5]
    assert found.sizes.tolist() == [size(level) for level in found.levels.tolist()] == [1, 3]
    best = found.medians.amax(1)
    torch.testing.assert_close(best, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert bool((found.medians.topk(2, dim=1).values[:, 1] < 1 - 1e-4).all())


def test_a_table_of_sizes_is_a_size():
    data, x = images(5, 2), images(3, 3)
    table = PatchSizes(
        torch.tensor([0.1, 10.0], dtype=torch.float64), torch.tensor([1, 5]), torch.eye(2).double()[:, :, None]
    )
    assert [table(level) for level in (0, 0.05, 0.99, 1.01, 50, float("inf"))] == [1, 1, 1, 5, 5, 5]
    for t, k in ((0.2, 1), (3.0, 5)):
        expected = local_score(data, VE(), k)(x, t)
        torch.testing.assert_close(local_score(data, VE(), table)(x, t), expected, rtol=0, atol=0)


def test_where_the_answers_are_the_mean_of_the_data_the_smallest_size_is_taken(generator):
    """One image: every size answers it, no cosine is defined, and none is preferred."""
    data = images(1, 4)
    network = local_score(data, VE(), 3)
    found = patch_sizes(network, data, images(3, 5), [1.0], SIZES, kind=local_score, generator=generator)
    assert found.sizes.tolist() == [1]
    assert float(found.cosines.abs().max()) == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"times": []}, "times: expected at least one, got none"),
        ({"sizes": []}, "sizes: expected at least one, got none"),
        ({"clean": images(0, 6)}, "clean: expected at least one, got none"),
        ({"clean": images(2, 6)[:, :4]}, r"clean: expected images of the shape \(5, 6\) of the data, got \(4, 6\)"),
        ({"clean": images(2, 8) * float("nan")}, "clean: expected finite values, got NaN or infinity"),
        ({"times": [0.0]}, "times: expected times at which alpha and sigma are > 0"),
        ({"times": [float("nan")]}, "times: expected times at which alpha and sigma are > 0"),
        ({"sizes": [2]}, "size: expected an odd number"),
        ({"data": images(3, 7) * float("nan")}, "data: expected finite values"),
    ],
)
def test_a_mistake_in_a_calibration_is_one_line(changed, message, generator):
    data = images(3, 7)
    given = {"data": data, "clean": images(2, 8), "times": [1.0], "sizes": [1, 3]} | changed
    with pytest.raises(InputError, match=message) as raised:
        patch_sizes(local_score(data, VE(), 1), **given, kind=local_score, generator=generator)
    assert "\n" not in str(raised.value)


def test_a_network_that_answers_nan_is_refused(generator):
    class Broken:
        schedule = VE()

        def __call__(self, x_t, t):
            del t
            return x_t * float("nan")

    with pytest.raises(InputError, match="network: expected finite answers, got NaN or infinity"):
        patch_sizes(Broken(), images(3, 9), images(2, 10), [1.0], [1], kind=local_score, generator=generator)
