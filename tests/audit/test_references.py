"""The exact models of the data: their closed forms, and what cannot be fitted."""

import pytest
import torch

from diffuscope.audit import fit_references
from diffuscope.errors import InputError

TWO = torch.tensor([[0.0, 0.0], [6.0, 8.0]]).repeat(10, 1)


def test_of_two_points_every_model_has_a_closed_form():
    """At x = alpha (3, 4) + h (3, 4) and noise s: mean (3, 4) + lambda alpha / (lambda alpha^2 + s^2) h (3, 4)."""
    references = fit_references(TWO, TWO, 2, torch.Generator().manual_seed(0))
    alpha, s, h = 0.5, 5.0, 0.3
    along = torch.tensor([[3.0, 4.0]]).double()
    x = (alpha + h) * along
    for name, variance in (("isotropic", 12.5), ("Gaussian", 25.0)):
        gain = variance * alpha / (variance * alpha**2 + s**2)
        torch.testing.assert_close(references.models[name].denoise(x, alpha, s), (1 + gain * h) * along)
    # two points m -+ m at weights of log odds (2 alpha m).x / s^2, from the middle
    expected = (1 + torch.tanh(torch.tensor(25 * alpha * h / s**2).double())) * along
    torch.testing.assert_close(references.models["empirical"].denoise(x, alpha, s), expected)


@pytest.mark.parametrize(
    ("train", "heldout", "components", "message"),
    [
        (TWO, TWO, 0, "components: expected at least 1, got 0"),
        (TWO, torch.zeros(20, 3), 2, r"heldout: expected examples of shape \(2,\) as in train, got \(3,\)"),
        (TWO[:1], TWO, 2, "expected at least two examples"),
        (TWO / 0, TWO, 2, "expected finite values"),
    ],
)
def test_mistakes_are_one_line(train, heldout, components, message):
    with pytest.raises(InputError, match=message):
        fit_references(train, heldout, components, torch.Generator().manual_seed(0))
