"""Numbers that data and their statistics state: at their boundaries, and for columns of few values."""

import datetime

import numpy as np
import pytest
import torch

from diffuscope.data import data_statistics, fit_table, open_stream, statistics_of
from diffuscope.data.raw_column import raw_column
from diffuscope.errors import InputError


def mean_square_of_pairs(rows: torch.Tensor) -> float:
    """Over all ordered pairs, a row and itself included."""
    return float((torch.cdist(rows.double(), rows.double()) ** 2).mean())


@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_constant_with_missing_values_contributes_one_to_the_square_of_a_distance(missing):
    """Shares m and 1 - m are at one distance d: 2 m (1 - m) d^2 = 1."""
    column = {"x": np.r_[np.full(4 - missing, 7.0), np.full(missing, np.nan)], "y": np.arange(4.0)}
    rows = fit_table(column).encode(column)
    alone = rows[:, : rows.shape[1] - 1]
    assert mean_square_of_pairs(alone) == pytest.approx(1, rel=1e-6)
    m = missing / 4
    apart = (alone[0] - alone[-1]).double().square().sum()
    assert float(apart) == pytest.approx(1 / (2 * m * (1 - m)), rel=1e-6)


def test_numbers_some_of_which_are_missing_contribute_one():
    x = np.r_[np.random.default_rng(1).random(70) ** 3, np.full(30, np.nan)]
    rows = fit_table({"x": x}).encode({"x": x})
    assert mean_square_of_pairs(rows) == pytest.approx(1, rel=2e-3)


def test_texts_in_one_table_and_dates_in_another_are_dates():
    """A column that is dates in the fitted rows takes texts that are dates, and the same day is the same point."""
    days = [datetime.datetime(2024, 5, day, tzinfo=datetime.UTC) for day in (1, 4, 9, 30)]
    table = fit_table({"day": days})
    texts = [f"2024-05-{day:02d}" for day in (1, 4, 9, 30)]
    assert torch.equal(table.encode({"day": texts}), table.encode({"day": days}))


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ([None, 2, 3.5], "numbers"),
        ([None, None], "nothing"),
        ([None, "a", 3], "texts"),
        ([True, None], "texts"),
        ([datetime.date(2024, 5, 1), None], "dates"),
        (["", None], "nothing"),
    ],
)
def test_objects_are_numbers_dates_or_texts(values, form):
    column = raw_column(values, "table", "the table")
    assert column.form == form
    assert column.missing.tolist() == [value is None or not str(value) for value in values]


@pytest.mark.parametrize("kind", ["pictures", ""])
def test_a_kind_that_there_is_not_is_one_line_for_statistics_too(kind):
    expected = f"^kind: got {kind!r}, expected one of auto, vectors, series, images, volumes, latents, table$"
    with pytest.raises(InputError, match=expected):
        open_stream(np.eye(3), kind=kind)
    with pytest.raises(InputError, match=expected):
        data_statistics(np.eye(3), kind=kind)


@pytest.mark.parametrize(("examples", "batches"), [(7, 3), (6, 2), (5, 2), (3, 1), (2, 1)])
def test_the_bar_counts_the_batches_that_come(examples, batches, monkeypatch):
    """Batches of three examples: the last one may be short."""
    told = []

    def watched(batches, *, total, **_):
        rows = list(batches)
        told.append((total, [len(row) for row in rows]))
        return rows

    monkeypatch.setattr(statistics_of, "progress_bar", watched)
    monkeypatch.setattr("diffuscope.data.stream.VALUES", 12)
    data_statistics(np.random.default_rng(0).random((examples, 4)))
    ((total, sizes),) = told
    assert (total, len(sizes), sum(sizes)) == (batches, batches, examples)


def test_the_memory_that_is_asked_for_holds_a_batch_and_the_covariance(monkeypatch):
    asked = []
    monkeypatch.setattr(statistics_of, "require_memory", lambda size, *_: asked.append(size))
    rng = np.random.default_rng(0)
    data_statistics(rng.random((20_000, 3)))  # one batch in float64, and that without its mean
    assert 2 * 8 * 20_000 * 3 <= asked[-1] <= 40 * 8 * 20_000 * 3
    data_statistics(rng.random((5, 300)))  # a covariance, its eigenvectors, and the room of LAPACK
    assert 3 * 8 * 300**2 <= asked[-1] <= 20 * 8 * 300**2
    for classes in (4, 2):  # before it is found that they are too few
        with pytest.raises(InputError, match="too few for 300 dimensions"):
            data_statistics(rng.random((40, 300)), classes="separate", labels=np.arange(40) % classes)
    assert asked[-2] - asked[-1] == 8 * 2 * 300**2  # the eigenvectors of two classes more
