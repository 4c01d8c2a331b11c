"""Canaries: the marginals of the data without their correlations, fair coins, files, and what is refused."""

import numpy as np
import pytest
import torch

from diffuscope.data import data_from_arrays, load_canaries, load_data, load_owners, make_canaries, training_arrays
from diffuscope.data.canaries import Canaries
from diffuscope.errors import InputError


@pytest.fixture(scope="module")
def correlated():
    """Two coordinates of correlation 0.9, uniform on [-1, 1] to 0.1."""
    rng = np.random.default_rng(0)
    first = rng.uniform(-0.9, 0.9, 4000)
    return data_from_arrays(np.stack([first, first + rng.uniform(-0.1, 0.1, 4000)], 1).astype(np.float32))


def test_coordinates_have_the_marginals_of_the_data_and_are_independent(correlated):
    """Of 3,000 canaries: means and variances within four standard errors, the correlation too (1 / sqrt 3,000)."""
    train = correlated.train.double()
    canaries = make_canaries(correlated, 3000, seed=3).examples.double()
    error = train.std(0) / 3000**0.5
    assert ((canaries.mean(0) - train.mean(0)).abs() < 4 * error).all()
    assert torch.allclose(canaries.var(0), train.var(0), rtol=4 * (2 / 3000) ** 0.5, atol=0)
    assert abs(float(torch.corrcoef(canaries.T)[0, 1])) < 4 / 3000**0.5
    assert float(torch.corrcoef(train.T)[0, 1]) > 0.98
    for column in range(2):
        assert torch.isin(canaries[:, column], train[:, column]).all()


def test_coins_are_fair_and_independent_of_the_canaries(correlated):
    """Of 3,000 coins: heads within four standard errors, and no shift of the canaries between the two sides."""
    canaries = make_canaries(correlated, 3000, seed=4)
    heads = canaries.included.double().mean()
    assert abs(float(heads) - 0.5) < 4 * 0.5 / 3000**0.5
    inside, outside = canaries.examples[canaries.included], canaries.examples[~canaries.included]
    error = correlated.train.std(0) * (4 / 3000) ** 0.5
    assert ((inside.mean(0) - outside.mean(0)).abs() < 4 * error).all()
    assert torch.equal(make_canaries(correlated, 3000, seed=4).included, canaries.included)
    assert not torch.equal(make_canaries(correlated, 3000, seed=5).included, canaries.included)


def test_the_training_file_holds_every_example_and_the_included_canaries_once():
    data = load_data("digits")
    canaries = make_canaries(data, 50, seed=1)
    arrays = training_arrays(data, canaries, seed=1)

    def rows(x):
        return sorted(map(bytes, np.asarray(x).reshape(len(x), -1)))

    assert rows(arrays["train"]) == sorted(
        rows(data.train.numpy()) + rows(canaries.examples[canaries.included].numpy())
    )
    assert rows(arrays["heldout"]) == rows(data.heldout.numpy())
    assert data.train_labels is not None
    labels = dict(zip(map(bytes, data.train.flatten(1).numpy()), data.train_labels.tolist(), strict=True))
    for row, label in zip(map(bytes, arrays["train"].reshape(-1, 64)), arrays["train_labels"], strict=True):
        assert labels.get(row, int(label)) == label
    # in random order: the included canaries are not at the end
    assert set(map(bytes, arrays["train"][-20:].reshape(20, -1))) - set(rows(canaries.examples.numpy()))


def test_a_file_read_again_has_the_same_canaries_in_the_range_of_the_model(tmp_path):
    data = load_data("digits")
    canaries = make_canaries(data, 30, seed=2)
    canaries.save(tmp_path / "canaries.npz")
    again = load_canaries(tmp_path / "canaries.npz", like=data)
    assert torch.equal(again.examples, canaries.examples)
    assert torch.equal(again.included, canaries.included)
    mapped = load_canaries(tmp_path / "canaries.npz", like=data.in_range(-1.0, 1.0))
    assert torch.allclose(mapped.examples, canaries.examples / 8 - 1)
    assert mapped.data_range == (-1.0, 1.0)


def refusal(tmp_path, like=None, **arrays):
    path = tmp_path / "canaries.npz"
    whole = {
        "canaries": np.zeros((30, 1, 8, 8), np.float32),
        "included": np.zeros(30, bool),
        "data_range": np.array([0.0, 16.0]),
    } | arrays
    np.savez(path, **{name: array for name, array in whole.items() if array is not None})
    with pytest.raises(InputError) as caught:
        load_canaries(path, like=like or load_data("digits"))
    message = str(caught.value)
    assert message.startswith("canaries: ")
    assert "\n" not in message
    return message


def test_other_files_are_refused_in_one_line(tmp_path):
    assert "does not hold" in refusal(tmp_path, included=None)
    assert "shape (1, 4, 4)" in refusal(tmp_path, canaries=np.zeros((30, 1, 4, 4), np.float32))
    assert "other types" in refusal(tmp_path, included=np.zeros(30))
    assert "NaN" in refusal(tmp_path, canaries=np.full((30, 1, 8, 8), np.nan, np.float32))
    assert "expected" in refusal(tmp_path, included=np.zeros(31, bool))
    assert "at least 20" in refusal(tmp_path, canaries=np.zeros((19, 1, 8, 8), np.float32), included=np.zeros(19, bool))
    data = load_data("digits")
    (tmp_path / "damaged.npz").write_bytes(b"PK\x03\x04 and no more")
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "pickle.npz", canaries=np.array([{}]), included=np.zeros(1, bool), data_range=np.zeros(2))
    for name in ("absent.npz", "damaged.npz", "array.npy", "pickle.npz", "."):
        with pytest.raises(InputError, match=r"^canaries: "):
            load_canaries(tmp_path / name, like=data)


def test_data_of_too_few_values_and_too_few_canaries_are_refused():
    binary = data_from_arrays(
        np.tile(np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), (40, 1)), np.array([[0.5, 0.5], [0.0, 0.5]], np.float32)
    )
    with pytest.raises(InputError, match="data: expected more different values: 36 of 40 canaries would repeat others"):
        make_canaries(binary, 40, seed=0)
    with pytest.raises(InputError, match="number: expected at least 20, got 19"):
        make_canaries(load_data("digits"), 19, seed=0)
    with pytest.raises(InputError, match="included: expected one per canary"):
        Canaries(torch.zeros(30, 2), torch.zeros(29, dtype=torch.bool), (0.0, 1.0))


def test_owners_are_matched_to_the_examples_by_their_places_in_the_source(tmp_path):
    """The owner of digit i is i: after the random split, and after a limit on the training examples."""
    np.savez(tmp_path / "owners.npz", train=np.arange(1797))
    data = load_data("digits")
    for subset in (data, data.subset(50, 60)):
        train, heldout = load_owners(tmp_path / "owners.npz", like=subset)
        assert torch.equal(train, subset.train_index)
        assert torch.equal(heldout, subset.heldout_index)
    np.savez(tmp_path / "both.npz", train=np.arange(1797), heldout=7 + 0 * np.arange(1797))
    assert (load_owners(tmp_path / "both.npz", like=data)[1] == 7).all()
    np.savez(tmp_path / "short.npz", train=np.arange(10))
    np.savez(tmp_path / "real.npz", train=np.arange(1797.0))
    np.savez(tmp_path / "names.npz", train=np.array(["a"] * 1797))
    for name, message in (("short", "has 10 owners; expected at least"), ("real", "holds other arrays"),
                          ("names", "holds other arrays"), ("absent", "does not exist")):  # fmt: skip
        with pytest.raises(InputError, match=f"owners: .*{message}"):
            load_owners(tmp_path / f"{name}.npz", like=data)
