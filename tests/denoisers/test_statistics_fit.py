"""Statistics of other data, of another shape and of another range are refused; their own are not."""

import numpy as np
import pytest
import torch

from diffuscope.data import data_from_arrays, data_statistics, load_data
from diffuscope.denoisers import ExactDenoiser, require_fits_data, require_fits_model
from diffuscope.errors import InputError
from diffuscope.exact import Empirical, Gaussian
from diffuscope.samplers import DDIM, Teleported, generate, suggest_sigma_skip, teleported_sample
from diffuscope.schedules import VE, VP


class Model(ExactDenoiser):
    """The perfect denoiser of finite data in [-1, 1], which knows its shape and range."""

    event_shape = (1, 8, 8)
    data_range = (-1.0, 1.0)


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return load_data("digits").in_range(-1, 1).train[:400]


def statistics(images: torch.Tensor) -> Gaussian:
    return data_statistics(images, data_range=(-1, 1)).gaussian


@pytest.mark.parametrize("schedule", [VE(), VP()], ids=lambda schedule: type(schedule).__name__)
def test_a_model_takes_the_statistics_of_its_data_and_not_those_of_turned_inverted_or_other_data(schedule, images):
    model = Model(Empirical(images), schedule)
    require_fits_model(statistics(images), model)
    require_fits_model(statistics(images).truncate(16), model)
    noise = torch.rand(400, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for others in (images.rot90(1, (2, 3)), -images, noise):
        with pytest.raises(InputError, match=r"gaussian: at noise .* expected less than 1: statistics of the model's"):
            require_fits_model(statistics(others), model)


def test_data_take_their_own_statistics_fresh_examples_included_and_no_others(images):
    """The bounds allow for few examples: those of 40 fit fresh ones by kappa / v, which is 4 here."""
    own = statistics(images)
    held = load_data("digits").in_range(-1, 1).heldout
    for examples in (images, held, held[:20]):
        require_fits_data(own, examples)
    require_fits_data(statistics(images[:40]), held)
    for others in (-held, held.rot90(1, (2, 3)), 0.3 * held):
        with pytest.raises(InputError, match="gaussian: the squared Mahalanobis distance of the data is"):
            require_fits_data(own, others)


def test_another_shape_is_named_with_both():
    other = data_statistics(np.random.default_rng(0).random((30, 1, 4, 4)))
    with pytest.raises(InputError, match=r"expected statistics of shape \(1, 8, 8\), as the model's, got \(1, 4, 4\)"):
        require_fits_model(other, Model(Empirical(torch.zeros(2, 1, 8, 8)), VE()))
    data = data_from_arrays(np.random.default_rng(0).random((30, 3)))
    with pytest.raises(InputError, match=r"expected statistics of shape \(3,\), as of array, got \(1, 4, 4\)"):
        require_fits_data(other, data)


def test_another_range_is_named_with_what_maps_it(images):
    in_pixels = statistics(images).in_range(0, 255)
    model = Model(Empirical(images), VE())
    message = (
        r"expected statistics of values in \[-1, 1\], as of the model, got \[0, 255\]; in_range\(-1, 1\) maps them"
    )
    with pytest.raises(InputError, match=message):
        require_fits_model(in_pixels, model)
    require_fits_model(in_pixels.in_range(-1, 1), model)
    with pytest.raises(InputError, match=r"as of digits, got \[0, 255\]"):
        require_fits_data(in_pixels, load_data("digits").in_range(-1, 1))


def test_where_statistics_are_used_a_wrong_range_is_noticed_without_an_evaluation(images):
    in_pixels, model = statistics(images).in_range(0, 255), Model(Empirical(images), VE())
    with pytest.raises(InputError, match="gaussian: expected statistics of values"):
        suggest_sigma_skip(model, in_pixels, 0.01, generator=torch.Generator().manual_seed(0))
    with pytest.raises(InputError, match="gaussian: expected statistics of values"):
        generate(model, 2, start=in_pixels)
    with pytest.raises(InputError, match="gaussian: expected statistics of values"):
        generate(model, 2, sampler=Teleported(DDIM(), in_pixels, 20.0))
    times = torch.tensor([80.0, 40.0, 20.0, 1.0], dtype=torch.float64)
    with pytest.raises(InputError, match="gaussian: expected statistics of values"):
        teleported_sample(Teleported(DDIM(), in_pixels, 20.0), model, torch.zeros(2, 1, 8, 8), times)


def test_data_that_are_not_finite_fit_no_statistics(images):
    spoiled = images.clone()
    spoiled[3, 0, 2, 2] = float("nan")
    with pytest.raises(InputError, match="gaussian: the squared Mahalanobis distance of the data is nan"):
        require_fits_data(statistics(images), spoiled)
