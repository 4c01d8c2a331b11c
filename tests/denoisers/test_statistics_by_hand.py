"""How well statistics fit a model or data, at the very bounds of what is accepted."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from counting_denoisers import Multiple
from diffuscope.denoisers import require_fits_data, require_fits_model, require_shape_and_range
from diffuscope.denoisers.devices import carry
from diffuscope.denoisers.statistics_fit import _mahalanobis
from diffuscope.denoisers.weights_file import DEEPEST, MOST, _collect, _collect_list, _is_text, _what
from diffuscope.errors import InputError
from diffuscope.exact import Gaussian
from diffuscope.schedules import VE, RectifiedFlow

CUBE = Gaussian.isotropic(torch.zeros(3), 4.0)


@pytest.mark.parametrize(("variance", "time"), [(4.0, 2.0), (0.01, 0.5), (100.0, 3.0)])
def test_a_model_is_asked_at_the_noise_of_the_largest_deviation_as_far_as_its_levels_reach(variance, time):
    for gaussian in (
        Gaussian.isotropic(torch.zeros(3), variance),
        Gaussian(torch.zeros(3), torch.eye(3)[:, :1], torch.tensor([variance]), tail_variance=variance / 4),
    ):
        asked = Multiple(0.3 * variance / (variance + time**2), VE(0.5, 3.0))
        require_fits_model(gaussian, asked)
        assert [float(t) for _, t in asked.asked] == pytest.approx([time])


def test_a_model_without_a_least_noise_is_asked_at_a_millionth():
    asked = Multiple(1.0, RectifiedFlow(epsilon=0.0))
    with pytest.raises(InputError, match="is inf times the distance"):  # of a single value, from which none differs
        require_fits_model(Gaussian.isotropic(torch.zeros(3), 0.0), asked)
    assert [float(t) for _, t in asked.asked] == pytest.approx([1e-6], rel=1e-5, abs=0)


def test_a_model_that_says_nothing_but_the_mean_misses_by_exactly_as_much_as_the_statistics_explain():
    with pytest.raises(InputError, match=r"at noise 2 the squared distance .* is 1 times the distance"):
        require_fits_model(CUBE, Multiple(0.0, VE(0.5, 3.0)))
    require_fits_model(CUBE, Multiple(0.001, VE(0.5, 3.0)))


def test_squared_distances_are_relative_to_their_mean_under_the_statistics():
    """Variances 6 and 2, so v = 4: 1 / 10 + 4 / 6, over 6 / 10 + 2 / 6."""
    gaussian = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([6.0, 2.0]))
    found = _mahalanobis(gaussian, torch.tensor([[1.0, 2.0]]), 4.0)
    assert float(found) == pytest.approx((1 / 10 + 4 / 6) / (6 / 10 + 2 / 6), rel=1e-12, abs=0)


def of_square(square: float) -> Tensor:
    """Four examples of this squared length, whose distance is a twelfth of it for `CUBE`."""
    return torch.tensor([math.sqrt(square), 0.0, 0.0]).double().expand(4, 3)


def test_data_may_be_half_as_far_again_as_expected_or_two_thirds_as_far():
    exactly = torch.tensor([[3.0, 3.0, 0.0], [2.0, 2.0, 0.0]]).double()  # 18 / 12 and 8 / 12
    for examples in (exactly[:1].expand(4, 3), exactly[1:].expand(4, 3), of_square(17.99), of_square(8.01)):
        require_fits_data(CUBE, examples)
    for examples in (of_square(18.01), of_square(7.99)):
        with pytest.raises(InputError, match=r"distance of the data is .* expected 0\.67 to 1\.5: statistics of these"):
            require_fits_data(CUBE, examples)


@pytest.mark.parametrize("center", [1.6, 2 / 3 - 0.1])
def test_data_miss_by_four_standard_errors(center: float):
    """Distances center +- delta in equal number: their standard error is delta / sqrt(n - 1), here with n = 16."""
    for share, fits in ((0.98, False), (1.02, True)):
        delta = share * 0.1 / 4 * math.sqrt(15)
        squares = [12 * (center + delta), 12 * (center - delta)]
        examples = torch.cat([of_square(square) for square in squares for _ in range(2)])
        if fits:
            require_fits_data(CUBE, examples)
        else:
            with pytest.raises(InputError, match="distance of the data is"):
                require_fits_data(CUBE, examples)


def test_statistics_of_few_examples_may_miss_by_their_inflation_more():
    """22 examples of two variances of 9: a tenth at noise 3, so that 1.65 times 18 is accepted."""
    fitted = Gaussian(torch.zeros(2), torch.eye(2), torch.tensor([9.0, 9.0]), count=22)
    require_fits_data(fitted, of_square(29.6)[:, :2])
    with pytest.raises(InputError, match=r"expected 0\.67 to 1\.7"):
        require_fits_data(fitted, of_square(29.8)[:, :2])


class Ranged:
    """A model that knows its range."""

    def __init__(self, low: float, high: float) -> None:
        self.data_range = (low, high)


def test_a_range_may_be_off_by_a_millionth_of_itself_at_either_end():
    gaussian = Gaussian(torch.zeros(1), torch.eye(1), torch.ones(1), data_range=(-2.0, 2.0))
    for low, high in ((-2.0, 2.0), (-2 + 3.9e-6, 2.0), (-2.0, 2 - 3.9e-6), (-2 - 3.9e-6, 2 + 3.9e-6)):
        require_shape_and_range(gaussian, Ranged(low, high))
    for low, high in ((-2 + 4.1e-6, 2.0), (-2 - 4.1e-6, 2.0), (-2.0, 2 - 4.1e-6), (-2.0, 2 + 4.1e-6)):
        with pytest.raises(InputError, match=r"expected statistics of values in \[-2, 2\], as of the model"):
            require_shape_and_range(gaussian, Ranged(low, high))


def test_a_file_may_have_as_many_entries_as_are_counted_and_no_more():
    """A dictionary of one tensor counts 2, and a list of one 1."""
    weight = torch.zeros(2)
    for before, kept in ((MOST - 2, True), (MOST - 1, False)):
        dicts, shadows = {}, {}
        assert _collect({"a": weight}, ("model",), dicts, shadows, before) == before + 2
        assert list(dicts) == (["model"] if kept else [])
    for before, kept in ((MOST - 1, True), (MOST, False)):
        dicts, shadows = {}, {}
        assert _collect_list([weight], ("shadow_params",), dicts, shadows, before) == before + 1
        assert list(shadows) == (["shadow_params"] if kept else [])


def test_dictionaries_are_opened_within_four_others_and_no_deeper():
    for depth, kept in ((DEEPEST, True), (DEEPEST + 1, False)):
        dicts, keys = {}, ("a",) * depth
        assert _collect({"w": torch.zeros(2)}, keys, dicts, {}, 7) == (9 if kept else 7)
        assert list(dicts) == ([".".join(keys)] if kept else [])


class Answering(nn.Module):
    """Answers with a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = [torch.zeros(1, device="meta")]

    def forward(self, _: Tensor) -> list[Tensor]:
        return self.answer


def test_an_answer_that_is_where_it_was_asked_for_is_the_models_own():
    model = Answering()
    carry(model, torch.device("meta"))
    assert model(torch.zeros(1, device="meta")) is model.answer


def test_a_pickle_by_its_name_is_none_that_is_damaged():
    for start in (b"PK\x03\x04", b"\x80\x02}q"):
        assert _what(Path("weights.pt"), start).startswith("truncated or damaged")
    assert _what(Path("weights.pkl"), b"\x80\x02}q").startswith("a plain pickle")
    assert _what(Path("weights.pt"), b"\x80\x04}q").startswith("a plain pickle")
    assert _what(Path("weights.pkl"), b"PK\x03\x04").startswith("truncated, damaged, or of an unknown kind")


def test_the_last_character_of_a_text_may_be_cut_and_no_more():
    """Of a character of four bytes three may be left."""
    assert _is_text(b"text\n\t" + "\N{GRINNING FACE}".encode()[:3])
    assert not _is_text(b"text" + 4 * b"\xff")
    assert not _is_text(b"text\x00")
