"""A group is on one side of a split, and what a group is may come from a column, a folder or a file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from diffuscope.data import DataSet, data_from_arrays, load_data
from diffuscope.data.split import group_split
from diffuscope.errors import InputError
from immutable import long_positional, partly_printed

N = 60


def noise(n: int = N, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, 3))


def names(n: int = N, seed: int = 1) -> np.ndarray:
    return np.array([f"p{k}" for k in np.random.default_rng(seed).integers(0, 12, n)])


def ids(data: DataSet, train: bool = True) -> list[str]:
    groups = data.train_groups if train else data.heldout_groups
    assert groups is not None
    return [data.group_names[k] for k in groups]


def saved(path: Path, array: np.ndarray) -> str:
    np.save(path, array)
    return str(path)


def check(data: DataSet, expected: np.ndarray) -> None:
    """Each example has its own id, and no id is on both sides."""
    assert ids(data) == expected[data.train_index.numpy()].tolist()
    assert ids(data, train=False) == expected[data.heldout_index.numpy()].tolist()
    assert not set(ids(data)) & set(ids(data, train=False))
    assert sorted(torch.cat([data.train_index, data.heldout_index]).tolist()) == list(range(len(expected)))


@pytest.mark.parametrize("form", ["npy", "integers", "npz", "txt", "csv", "csv with a header"])
def test_ids_from_a_file_divide_a_random_split(tmp_path: Path, form: str):
    expected = names()
    group = tmp_path / f"ids.{form.split()[0]}"
    if form == "npy":
        np.save(group, expected)
    elif form == "integers":
        expected = np.array([name[1:] for name in expected])
        group = tmp_path / "ids.npy"
        np.save(group, expected.astype(np.int32))
    elif form == "npz":
        np.savez(group, patient=expected, other=np.zeros(3))
        group = Path(f"{group}:patient")
    else:
        group.write_text("\n".join([*(["patient"] if "header" in form else []), *expected]) + "\n")
    data = load_data(saved(tmp_path / "x.npy", noise()), group=str(group), heldout_fraction=0.3, seed=2)
    check(data, expected)
    # the nearest that whole groups in this order can come to
    assert abs(len(data.heldout) - 0.3 * N) <= max(np.unique(expected, return_counts=True)[1]) / 2 + 1
    part = data.subset(7, 5, seed=1)
    assert ids(part) == expected[part.train_index.numpy()].tolist()
    assert data.fingerprint() != load_data(str(tmp_path / "x.npy"), heldout_fraction=0.3, seed=2).fingerprint()


def test_arrays_in_memory_have_groups_of_numbers_or_texts():
    numbers = np.random.default_rng(1).integers(0, 12, N)
    for groups in (numbers, torch.from_numpy(numbers), numbers.astype(str)):
        check(data_from_arrays(noise(), groups=groups), numbers.astype(str))
    data = data_from_arrays(noise(), noise(4, seed=2), groups=numbers, heldout_groups=np.full(4, 99))
    assert ids(data, train=False) == ["99"] * 4
    with pytest.raises(InputError, match=r"groups: got float64 of shape \(60,\); expected whole numbers or texts"):
        data_from_arrays(noise(), groups=noise()[:, 0])
    with pytest.raises(InputError, match="there are 60 ids for 59 examples"):
        data_from_arrays(noise()[1:], groups=numbers)
    with pytest.raises(InputError, match="heldout_group: the array has no 'groups'"):
        data_from_arrays(noise(), noise(4, seed=2), groups=numbers)


def test_every_group_is_held_out_equally_often():
    groups = torch.arange(10).repeat_interleave(4)
    counts, seeds = torch.zeros(10), 1000
    for seed in range(seeds):
        _, heldout = group_split(groups, 0.3, seed, "data", "the array")
        counts[groups[heldout].unique()] += 1
    # a binomial count; five standard errors, for ten groups at once
    assert (counts / seeds - 0.3).abs().max() < 5 * (0.3 * 0.7 / seeds) ** 0.5


def test_ids_mean_the_same_in_training_and_heldout_examples(tmp_path: Path):
    x, held = saved(tmp_path / "x.npy", noise()), saved(tmp_path / "h.npy", noise(8, seed=5))
    group = saved(tmp_path / "g.npy", names())
    other = saved(tmp_path / "o.npy", np.array(["a"] * 4 + ["z"] * 4))
    data = load_data(x, heldout=held, group=group, heldout_group=other)
    assert ids(data) == names().tolist()
    assert ids(data, train=False) == ["a"] * 4 + ["z"] * 4
    with pytest.raises(InputError, match=r"heldout: 12 of the groups are in the training and in the held-out"):
        load_data(x, heldout=x, group=group, heldout_group=group)
    with pytest.raises(
        InputError, match=r"heldout: 1 of the groups are .*, one of them 'p3'; expected each group on one"
    ):
        load_data(x, heldout=held, group=group, heldout_group=saved(tmp_path / "o.npy", np.array(["a"] * 7 + ["p3"])))
    with pytest.raises(InputError, match="heldout_group: --heldout is given and no ids for it"):
        load_data(x, heldout=held, group=group)
    with pytest.raises(InputError, match=r"heldout_group: .* expected --group for the training ones"):
        load_data(x, heldout=held, heldout_group=other)
    with pytest.raises(InputError, match=r"heldout_group: .* expected --heldout with the examples"):
        load_data(x, group=group, heldout_group=other)


def test_one_file_has_the_ids_of_training_and_heldout_examples_of_one_archive(tmp_path: Path):
    np.savez(tmp_path / "a.npz", train=noise(6), test=noise(4, seed=3))
    (tmp_path / "g.txt").write_text("a\na\nb\nb\nc\nc\nd\nd\ne\ne\n")
    data = load_data(str(tmp_path / "a.npz"), group=str(tmp_path / "g.txt"))
    assert ids(data) == list("aabbcc")
    assert ids(data, train=False) == list("ddee")
    (tmp_path / "g.txt").write_text("a\na\nb\nb\nc\nd\nd\nd\ne\ne\n")
    with pytest.raises(InputError, match=r"data: 1 of the groups .* one of them 'd'"):
        load_data(str(tmp_path / "a.npz"), group=str(tmp_path / "g.txt"))


def images(folder: Path, paths: list[str]) -> str:
    for i, path in enumerate(paths):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (5, 4), dtype=np.uint8)).save(folder / path)
    return str(folder)


def test_the_folder_of_a_file_is_its_group_and_the_topmost_its_label(tmp_path: Path):
    paths = [f"{label}/{unit}/{i}.png" for label in ("cat", "dog") for unit in ("u", "v") for i in range(3)]
    data = load_data(images(tmp_path, paths), group="folder")
    expected = np.array([str(Path(path).parent.as_posix()) for path in sorted(paths)])
    check(data, expected)
    assert data.train_labels is not None
    assert data.train_labels.tolist() == [int(name.startswith("dog")) for name in ids(data)]


def test_a_csv_of_files_and_groups_may_be_in_any_order(tmp_path: Path):
    paths = [f"{name}.png" for name in "abcdef"]
    group = tmp_path / "groups.csv"
    group.write_text("file,group\n" + "\n".join(f"{path},{path < 'd'}" for path in reversed(paths)))
    check(load_data(images(tmp_path / "images", paths), group=str(group)), np.array(["True"] * 3 + ["False"] * 3))
    group.write_text("file,group\na.png,1\n")
    with pytest.raises(InputError, match=r"has no line for 5 of the files, the first 'b.png'"):
        load_data(str(tmp_path / "images"), group=str(group))
    group.write_text("file,group\na.png,1,2\n")
    with pytest.raises(InputError, match="has a line that is not a file and its group"):
        load_data(str(tmp_path / "images"), group=str(group))


def test_a_group_that_is_none_is_one_line(tmp_path: Path):
    x = saved(tmp_path / "x.npy", noise())
    cases = {
        saved(tmp_path / "short.npy", names(N - 1)): "has 59 ids; expected 60, one for each example",
        saved(
            tmp_path / "floats.npy", noise()[:, 0]
        ): "has dtype float64 and shape (60,); expected whole numbers or texts",
        saved(tmp_path / "flat.npy", np.zeros((N, 2), int)): "shape (60, 2)",
        "nowhere": "group: got 'nowhere'; expected a file (.npy, .npz:NAME, .csv, .txt)",
        x: "has dtype float64",
        str(tmp_path): "expected a file",
    }
    (tmp_path / "gap.txt").write_text("a\n" * 30 + "\n" + "b\n" * 29)
    cases[str(tmp_path / "gap.txt")] = "1 examples of"
    (tmp_path / "bad.npy").write_bytes(b"no array")
    cases[str(tmp_path / "bad.npy")] = "bad.npy cannot be read"
    (tmp_path / "two.csv").write_text("a,b\n" * N)
    cases[str(tmp_path / "two.csv")] = "has several columns; expected one"
    (tmp_path / "odd.json").write_text("[]")
    cases[str(tmp_path / "odd.json")] = "is of unknown kind; expected .npy"
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe\xff" * N)
    cases[str(tmp_path / "latin.txt")] = "latin.txt cannot be read"
    objects = np.array([{}] * N, dtype=object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    cases[str(tmp_path / "objects.npy")] = "objects.npy cannot be read"
    (tmp_path / "one.txt").write_text("a\n" * N)
    cases[str(tmp_path / "one.txt")] = "60 examples in 1 groups; expected groups that leave at least 2"
    for group, told in cases.items():
        with pytest.raises(InputError) as refused:
            load_data(x, group=group)
        assert told in str(refused.value)
        assert "\n" not in str(refused.value)
        assert "expected" in str(refused.value)


def test_a_file_of_ids_beside_a_table_leaves_all_columns_in(tmp_path: Path):
    (tmp_path / "a.csv").write_text("x,y\n" + "".join(f"{i * i},{i % 7}\n" for i in range(N)))
    (tmp_path / "g.txt").write_text("\n".join(names()))
    data = load_data(str(tmp_path / "a.csv"), group=str(tmp_path / "g.txt"))
    check(data, names())
    assert data.table is not None
    assert [column.name for column in data.table.columns] == ["x", "y"]
    assert data.table.left_out == ()


def test_folders_that_are_groups_are_no_labels_and_folders_above_them_are(tmp_path: Path):
    patients = [f"{k // 2:02d}/{k % 2}.png" for k in range(12)]
    assert load_data(images(tmp_path / "patients", patients), group="folder").train_labels is None
    of_sides = [f"{side}/{side}{name}" for side in ("train", "test") for name in patients]
    data = load_data(images(tmp_path / "sides", of_sides), group="folder")
    assert data.train_labels is None
    assert data.heldout_labels is None
    assert data.heldout_groups is not None
    of_classes = [f"{kind}/{name}" for kind in ("healthy", "ill") for name in patients]
    assert load_data(images(tmp_path / "classes", of_classes), group="folder").train_labels is not None


def test_long_records_of_data_are_made_by_names():
    assert long_positional("data") == {"DataSet", "ExampleStream", "Examples"}


def test_of_a_record_of_data_all_arrays_are_printed_or_none():
    assert partly_printed("data") == set()
