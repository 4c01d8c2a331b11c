"""Averages as trainers keep them are the network's parameters; its buffers are those of the raw weights beside them."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from diffuscope.denoisers import LoadedWeights, Weights, load_weights
from diffuscope.errors import InputError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def network():
    """Four trained parameters and one that is not, and the three buffers of a batch norm."""
    made = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    made.register_parameter("fixed", nn.Parameter(torch.ones(2), requires_grad=False))
    for value in [*made.parameters(), made[1].running_mean, made[1].running_var]:
        nn.init.uniform_(value, 1.0, 2.0)
    return made


def averages_of(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: 2 * value.detach() for name, value in network.named_parameters() if value.requires_grad}


def loaded(network: nn.Module, content: Any, prefix: str | None) -> tuple[nn.Module, LoadedWeights]:
    torch.save(content, "net.pt")
    fresh = copy.deepcopy(network)
    for value in fresh.parameters():
        nn.init.zeros_(value)
    return fresh, load_weights(fresh, Weights("net.pt", prefix))


def refusal(network: nn.Module, content: Any, prefix: str | None) -> str:
    with pytest.raises(InputError) as caught:
        loaded(network, content, prefix)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def without_dots(values: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + name.replace(".", ""): value for name, value in values.items()}


KEPT = {
    "in a list": ("ema", lambda raw, mean: {"model": raw, "ema": list(mean.values())}),
    "in a tuple": ("ema_params", lambda raw, mean: {"model": raw, "ema_params": tuple(mean.values())}),
    "by their names": ("ema", lambda raw, mean: {"model": raw, "ema": {"decay": 0.9, "shadow": mean}}),
    "of a parallel network": (
        "ema",
        lambda raw, mean: {"model": raw, "ema": {f"module.{name}": value for name, value in mean.items()}},
    ),
    "in one dictionary": (
        "ema_model",
        lambda raw, mean: {
            "state_dict": {
                **{f"model.{name}": value for name, value in raw.items()},
                **{f"ema_model.{name}": value for name, value in mean.items()},
            }
        },
    ),
    "without dots": (
        "model_ema",
        lambda raw, mean: {
            "state_dict": {
                **{f"model.unet.{name}": value for name, value in raw.items()},
                **without_dots(mean, "model_ema.unet"),
                "model_ema.decay": torch.tensor(0.9),
                "model_ema.num_updates": torch.tensor(7),
            }
        },
    ),
    "without dots, of the network itself": (
        "ema",
        lambda raw, mean: {"model": raw, "ema": {**without_dots(mean, ""), "decay": torch.tensor(0.9)}},
    ),
}


@pytest.mark.parametrize("kind", KEPT)
def test_averages_of_what_is_trained_take_the_rest_from_the_raw_weights(kind, network):
    prefix, content = KEPT[kind]
    mean = averages_of(network)
    fresh, said = loaded(network, content(network.state_dict(), mean), prefix)
    expected = {**network.state_dict(), **mean}
    assert all(torch.equal(value, expected[name]) for name, value in fresh.state_dict().items())
    assert "averages" in said.note
    assert "the others are those of " in said.note


def test_they_are_mentioned_where_raw_weights_are_taken(network):
    for content in ({"model": network.state_dict(), "ema": kept} for kept in (
        list(averages_of(network).values()), averages_of(network), without_dots(averages_of(network), ""),
    )):  # fmt: skip
        fresh, said = loaded(network, content, None)
        assert torch.equal(fresh.state_dict()["0.weight"], network.state_dict()["0.weight"])
        assert said.warnings == (
            "net.pt also has averaged weights, prefix ema (--weights-prefix ema); those under model were taken",
        )


def test_one_average_for_each_rate_is_found_by_its_place(network):
    state = network.state_dict()
    rates = [{name: rate * value for name, value in state.items()} for rate in (3, 5)]
    content = {"net": state, "ema": {"stds": [0.05, 0.1], "emas": rates}}
    assert torch.equal(loaded(network, content, "ema.emas.1")[0].state_dict()["0.weight"], 5 * state["0.weight"])
    assert "expected a prefix, 'ema.emas.0' or 'ema.emas.1'" in refusal(network, content, "emas")


def test_what_is_ambiguous_or_incomplete_is_refused(network):
    raw, mean = network.state_dict(), averages_of(network)
    other = {**raw, "1.running_mean": raw["1.running_mean"] + 1}
    assert "missing (fixed, 1.running_mean" in refusal(network, {"a": raw, "b": other, "ema": mean}, "ema")
    assert "missing (fixed, 1.running_mean" in refusal(network, {"ema": mean}, None)
    assert "missing" in refusal(network, {"average": raw, "model": mean}, "model")  # raw weights that lack buffers
    less = dict(list(mean.items())[:-1])
    for kept in (less, without_dots(less, ""), {**without_dots(mean, ""), "more": torch.ones(1)}):
        assert "missing" in refusal(network, {"model": raw, "ema": kept}, "ema")
    wider = {**mean, "0.bias": torch.ones(4)}
    assert "missing" in refusal(network, {"model": raw, "ema": without_dots(wider, "")}, "ema")
    assert "2 tensors without names for 5 parameters" in refusal(
        network, {"model": raw, "ema": [mean["0.bias"]] * 2}, "ema"
    )


def test_names_that_are_equal_without_dots_are_not_matched():
    class Twins(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.a1 = nn.ModuleList([nn.Linear(1, 1) for _ in range(12)]), nn.ModuleList([nn.Linear(1, 1)] * 2)

    twins = Twins()  # a.10 and a1.0
    kept = without_dots(averages_of(twins), "")
    assert len(kept) < len(averages_of(twins))
    assert "missing" in refusal(twins, {"model": twins.state_dict(), "ema": kept}, "ema")
