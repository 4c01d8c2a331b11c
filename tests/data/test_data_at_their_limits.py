"""Ranges, splits, tables and statistics exactly where one answer passes into another; and work done in blocks."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffuscope.data import as_tensors, data_statistics, examples, fit_table, open_stream, picture_cache, statistics_of
from diffuscope.data.array_file import _listed
from diffuscope.data.dataset import drawn
from diffuscope.data.examples import Examples, _require_finite, checked_labels, extremes
from diffuscope.data.places import require_file
from diffuscope.data.range_of import ROUNDING, UNIT_RATIO, _range_of_values, _require_one_unit
from diffuscope.data.ranks import EXACT, KNOTS, ranks_of
from diffuscope.data.raw_column import LARGEST, raw_column
from diffuscope.data.split import group_split, random_split
from diffuscope.data.statistics_of import _names
from diffuscope.data.stream import VALUES, ExampleStream
from diffuscope.data.table import MOST, _one_form, as_frame, listed
from diffuscope.data.table_column import FARTHEST
from diffuscope.data.toys import read_toy
from diffuscope.data.value_range import checked_range
from diffuscope.errors import InputError


def images(*values):
    """Four pixels each."""
    rows = np.array(values, dtype=np.float32)[:, None, None, None]
    return Examples("data", "x", np.broadcast_to(rows, (len(values), 1, 2, 2)), kind="images")


# ranges and labels


def test_images_of_one_value_have_no_units_and_fifty_times_is_not_yet_another_unit():
    constant, unit, fifty = images(0.0, 0.0), images(0.0, 1.0), images(0.0, 50.0)
    _require_one_unit([constant, unit], [(0, 0), (0, 1)])
    _require_one_unit([unit, fifty], [(0, 1), (0, UNIT_RATIO)])
    with pytest.raises(InputError, match="expected both in the same units"):
        _require_one_unit([unit, fifty], [(0, 1), (0, 50.1)])


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(-ROUNDING, 1 + ROUNDING, (0.0, 1.0)), (-1 - ROUNDING, 1 + ROUNDING, (-1.0, 1.0)), (-2 * ROUNDING, 1.0, (-1, 1))],
)
def test_values_may_leave_their_range_by_rounding(low, high, found):
    assert _range_of_values([images(low, high)], low, high) == found


def test_a_range_has_a_width():
    with pytest.raises(InputError, match="x: got 1 1, expected two finite numbers, the lower first"):
        checked_range((1, 1), "x")


def test_the_largest_numbers_of_their_types_are_taken():
    largest = np.iinfo(np.int64).max
    assert checked_labels(np.array([largest], dtype=np.uint64), 1, "data", "x") == [largest]
    with pytest.raises(InputError, match="expected numbers below 2"):
        checked_labels(np.array([largest + 1], dtype=np.uint64), 1, "data", "x")
    top = float(np.finfo(np.float32).max)
    _require_finite(np.array([-top, top]), "data", "x")
    for beyond in (-1e39, 1e39):
        with pytest.raises(InputError, match="expected the range of float32"):
            _require_finite(np.array([0.0, beyond]), "data", "x")
    assert raw_column([LARGEST, -LARGEST], "data", "x").form == "numbers"
    for beyond in (-1e151, 1e151):
        with pytest.raises(InputError, match="has 1 numbers that are infinite or beyond 1e150"):
            raw_column([0.0, beyond], "data", "x")


def test_six_names_are_listed_and_a_seventh_is_counted():
    names = list("abcdefg")
    assert _listed(names[:6]) == "a, b, c, d, e, f"
    assert _listed(names) == "a, b, c, d, e, f and 1 more"
    assert listed(names[:6]).endswith("'e', 'f'")
    assert listed(names).endswith("'f' and 1 more")


def test_the_labels_of_a_parquet_file_are_the_classes_that_it_names():
    pyarrow = pytest.importorskip("pyarrow")
    from diffuscope.data.arrow_table import _labels

    features = {"label": {"_type": "ClassLabel", "names": ["a", "b"]}}
    for labels, known in (([0, 1], ("a", "b")), ([0, 2], ()), ([-1, 1], ())):
        table = pyarrow.table({"x": [1.0, 2.0], "label": labels})
        assert _labels(table, ["x", "label"], features, "data", "x", "x")[0] == known


@pytest.mark.parametrize("values", [np.zeros(50_000, dtype=np.int64), np.random.default_rng(0).random(2000)])
def test_the_memory_of_a_parquet_file_is_that_of_its_values(values, tmp_path, monkeypatch):
    """A number that all rows share takes next to nothing in the file, and 8 bytes in each row."""
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    from diffuscope.data import parquet_file

    claimed = []
    monkeypatch.setattr(parquet_file, "require_memory", lambda size, *_: claimed.append(size))
    parquet.write_table(pyarrow.table({"x": values, "y": values}), tmp_path / "x.parquet")
    with pytest.raises(InputError, match="expected a column of images or of lists of numbers"):
        parquet_file.read_parquet(tmp_path / "x.parquet", "x", "data")
    assert claimed[0] >= (8 if values.dtype == np.int64 else 2 * 2 * 8) * len(values)


# splits and draws


def test_all_examples_there_are_can_be_drawn_and_two_at_the_least():
    assert drawn(2, 2, "n", 0).sort().values.tolist() == [0, 1]
    assert len(drawn(5, 2, "n", 0)) == 2
    for n in (1, 6):
        with pytest.raises(InputError, match=f"n: got {n}, expected 2 to 5"):
            drawn(5, n, "n", 0)
    assert len(read_toy("rings", "data", 0, 2, 2).train.values) == 2  # pyright: ignore[reportAttributeAccessIssue]


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_have_63_bits(seed):
    with pytest.raises(InputError, match="seed: got"):
        read_toy("rings", "data", seed, 2, 2)


def test_two_examples_remain_on_either_side():
    assert [len(part) for part in random_split(4, 0.5, 0, "data", "x")] == [2, 2]
    for fraction in (0.1, 0.9):
        with pytest.raises(InputError, match="expected at least 2 to train on and 2 to hold out"):
            random_split(4, fraction, 0, "data", "x")
    groups = torch.tensor([0, 0, 1, 1])
    assert [len(part) for part in group_split(groups, 0.5, 0, "data", "x")] == [2, 2]
    with pytest.raises(InputError, match="expected groups that leave at least 2 examples"):
        group_split(groups[1:], 0.5, 0, "data", "x")


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_a_fraction_leaves_something_on_both_sides(fraction):
    with pytest.raises(InputError, match=f"heldout_fraction: got {fraction:g}, expected a number between 0 and 1"):
        random_split(10, fraction, 0, "data", "x")


# columns of tables


def test_ranks_beyond_the_data_lead_to_values_beyond_them():
    """Ranks 1/4 and 3/4 of 0 and 1; the width of the data is a rank of 1."""
    ranks = ranks_of(np.array([0.0, 1.0]))
    found = ranks.inverse(np.array([0.0, 0.25, 0.4, 0.6, 0.75, 1.0]))
    assert found == pytest.approx([-0.25, 0.0, 0.3, 0.7, 1.0, 1.25])
    assert ranks.inverse(np.array([0.25 + EXACT, 0.75 - EXACT])).tolist() == [0.0, 1.0]


def test_as_many_values_as_there_are_knots_are_all_kept():
    assert len(ranks_of(np.arange(float(KNOTS))).knots) == KNOTS
    often = np.arange(float(KNOTS)).repeat([1] * (KNOTS - 1) + [9 * KNOTS])  # F jumps by nine tenths at the last
    assert len(ranks_of(often).knots) == KNOTS


def test_of_more_values_both_sides_of_equally_spaced_ranks_are_kept():
    """A value that nine tenths of the rows have: its rank, those around it, and both ends are kept."""
    values = np.arange(2.0 * KNOTS).repeat([1] * KNOTS + [18 * KNOTS] + [1] * (KNOTS - 1))
    full, thin = len(values), ranks_of(values)
    assert len(thin.knots) < KNOTS
    assert {0.0, KNOTS - 1.0, float(KNOTS), 2.0 * KNOTS - 1} <= set(thin.knots.tolist())
    assert (thin.ranks[0], thin.ranks[-1]) == (0.5 / full, 1 - 0.5 / full)
    assert thin(np.array([float(KNOTS)])) == (KNOTS + 9 * KNOTS) / full


def kept(name, values):
    """Whether a column is compared, beside another one."""
    table = fit_table({"other": np.arange(9.0).repeat(500)[: len(values)], name: values})
    return name in [column.name for column in table.columns]


@pytest.mark.parametrize(
    ("different", "rows", "categories"),
    [(20, 20, True), (21, 21, False), (30, 100, True), (50, 100, True), (51, 100, False), (MOST, 3 * MOST, True)],
)
def test_texts_are_categories_if_they_are_few_or_half_of_them_repeat(different, rows, categories):
    texts = [f"text {k % different}" for k in range(rows)]
    assert kept("texts", texts) == categories


@pytest.mark.parametrize("rows", [20, 21])
def test_more_than_twenty_rows_can_be_numbered(rows):
    assert kept("number", np.arange(rows)) == (rows == 20)


def test_dates_and_texts_that_are_dates_are_dates():
    days = np.array(["2024-05-01", "2024-05-09"], dtype="datetime64[D]")
    frames = [as_frame({"day": values}, "data", "x") for values in (days, ["2024-05-01", "2024-05-02"])]
    assert _one_form("day", frames)[0] == "date"


def test_categories_without_missing_values_have_one_coordinate_each():
    (column,) = fit_table({"c": ["a", "b"] * 4}).columns
    assert (column.width, column.missing) == (2, 0.0)


def test_a_missing_value_of_a_constant_is_not_blown_up():
    values = {"x": np.r_[np.full(999, 7.0), np.nan], "y": np.arange(1000.0) ** 2}
    rows = fit_table(values).encode(values)[:, :-1].double()
    assert float((rows[0] - rows[-1]).square().sum()) == pytest.approx(FARTHEST, rel=1e-6)


@pytest.mark.parametrize("values", [[0.0] * 98 + [1.0, math.nan], [0.0] * 50 + [9.0] * 2 + [math.nan] * 48])
def test_no_missing_value_is_farther_than_the_values_from_each_other(values):
    """M^2 + V <= (max - min)^2 for the distance M of the mean to the farther end (Bhatia and Davis)."""
    columns = {"x": np.array(values), "y": np.arange(float(len(values))) ** 2}
    rows = fit_table(columns).encode(columns)[:, :-1].double()
    present = rows[~np.isnan(values)]
    assert torch.cdist(rows, rows).max() == torch.cdist(present, present).max() <= (FARTHEST * (1 + 1e-6)) ** 0.5


# statistics, and work in blocks


def moments(x, **options):
    return data_statistics(np.asarray(x, dtype=float), **options)


def test_rank_zero_is_isotropic():
    assert len(moments([[0, 1], [2, 6], [4, 2]], rank=0).gaussian.eigenvalues) == 0


def test_two_examples_of_freedom_are_enough_for_a_pooled_covariance():
    found = moments([[0, 0], [2, 0], [9, 9]], classes="pooled", labels=np.array([0, 0, 1]))
    assert found.classes is not None
    assert found.classes.gaussians[0].count == 2
    with pytest.raises(InputError, match="expected a class with two examples"):
        moments([[0, 0], [9, 9]], classes="pooled", labels=np.array([0, 1]))


def test_two_examples_have_a_covariance_that_is_too_uncertain():
    with pytest.raises(InputError, match="too few"):
        moments([[0, 0, 1], [2, 0, 3], [9, 9, 9], [7, 7, 1]], classes="separate", labels=np.array([0, 0, 1, 1]))


def stream_of(values, names=()):
    return ExampleStream("x", values, (0.0, 1.0), "vectors", label_names=names)


def test_labels_have_their_names_from_zero_on():
    assert _names(stream_of(np.zeros((2, 3)), ("a", "b")), torch.tensor([0, 1, 2, -1])) == ("a", "b", "2", "-1")


def test_a_batch_has_one_example_at_least():
    assert stream_of(np.broadcast_to(0.0, (2, VALUES + 1))).batch_size == 1
    assert stream_of(np.broadcast_to(0.0, (2, VALUES // 3))).batch_size == 3


def test_guidance_of_rank_one_has_one_pair():
    x, labels = np.random.default_rng(0).normal(size=(30, 3)), np.arange(30) % 2
    found = moments(x, classes="pooled", labels=labels)
    assert len(found.guided(1, 2.0, rank=1).conditional.eigenvalues) == 1
    assert len(found.guided(1, 2.0, rank=99).conditional.eigenvalues) == 3


@pytest.fixture
def asked(monkeypatch):
    """The memory that statistics ask for; beyond ten dimensions they are not dense."""
    sizes = []
    monkeypatch.setattr(statistics_of, "require_memory", lambda size, *_: sizes.append(size))
    monkeypatch.setattr(statistics_of, "LARGEST_DENSE", 10)

    def of(n, dimension, rank=None):
        stream = open_stream(
            np.arange(float(n * dimension)).reshape(n, dimension), data_range=None, kind="auto", labels=None, seed=0
        )
        statistics_of._Fit(stream, rank, 1, 0, False).require_memory(1)
        return sizes.pop()

    return of


def test_ten_dimensions_are_dense():
    x = np.random.default_rng(0).normal(size=(30, 4))
    for largest, kept in ((4, 4), (3, None)):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(statistics_of, "LARGEST_DENSE", largest)
            stream = open_stream(x, data_range=None, kind="auto", labels=None, seed=0)
            assert statistics_of._Fit(stream, None, 1, 0, False).dense == (kept is not None)


def test_the_memory_of_a_few_pairs_is_not_that_of_a_covariance_and_never_more(asked):
    assert asked(40, 300, rank=1) < 8 * 300**2
    assert asked(40, 300, rank=1) < asked(40, 300, rank=30)
    # leading pairs without number are those of a dense fit
    whole = asked(400, 10)
    assert asked(400, 10, rank=10) == asked(400, 10, rank=400) == whole
    assert asked(400, 11, rank=11) < 1.3 * whole
    assert asked(400, 10, rank=1) < whole


def test_the_memory_of_a_batch_is_that_of_all_examples_at_most(asked, monkeypatch):
    assert asked(20, 3) < asked(200, 3)
    monkeypatch.setattr("diffuscope.data.stream.VALUES", 7 * 3)
    assert asked(20, 3) == asked(200, 3)


class Blocks(np.ndarray):
    """An array that keeps the lengths of its slices."""

    lengths: list[int]

    def __getitem__(self, key):
        if isinstance(key, slice):
            self.lengths.append(len(range(*key.indices(len(self)))))
        return super().__getitem__(key)


@pytest.mark.parametrize(("held", "lengths"), [(6, [2, 2, 1]), (1, [1] * 5), (100, [5])])
def test_values_are_read_in_blocks_of_one_example_at_least(held, lengths, monkeypatch):
    rows = np.arange(15.0).reshape(5, 3).view(Blocks)
    rows.lengths = []
    monkeypatch.setattr(examples, "BLOCK", held)
    assert extremes(rows) == (0.0, 14.0)
    assert rows.lengths == lengths


@pytest.mark.parametrize("held", [1, 6, 100])
def test_examples_converted_in_blocks_are_those_at_once(held, monkeypatch):
    monkeypatch.setattr(as_tensors, "BLOCK", held)
    made = Examples("data", "x", np.arange(15.0).reshape(5, 3))
    assert as_tensors.in_float32(made, torch.tensor([4, 0, 2])).tolist() == [[12, 13, 14], [0, 1, 2], [6, 7, 8]]


@pytest.mark.parametrize(("free", "room"), [(60, True), (59, False)])
def test_a_disk_that_pictures_fill_has_room_for_them(free, room, tmp_path, monkeypatch):
    monkeypatch.setattr(picture_cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    arguments = tmp_path, tmp_path / "part", (5, 3, 4), "data", "x"
    if room:
        picture_cache._require_room(*arguments)
    else:
        with pytest.raises(InputError, match="GB decoded; expected as much room"):
            picture_cache._require_room(*arguments)


def test_a_file_is_looked_for_in_the_subfolders_of_the_folder_that_the_variable_names(tmp_path, monkeypatch):
    monkeypatch.setenv("DIFFUSCOPE_DATA", str(tmp_path))
    monkeypatch.setattr("diffuscope.data.places.cache_folder", lambda: tmp_path / "cache")
    with pytest.raises(InputError) as refused:
        require_file("x.npz", "weights", ("", "deep"))
    places = [tmp_path / "x.npz", tmp_path / "deep/x.npz", tmp_path / "cache/x.npz", tmp_path / "cache/deep/x.npz"]
    assert str(refused.value).startswith(f"weights: x.npz was looked for as {', '.join(map(str, places))}; expected it")
    for path in places[::-1]:  # the first of them is taken
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        assert require_file("x.npz", "weights", ("", "deep")) == path
