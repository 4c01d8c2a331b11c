"""Tables from files: the same table whatever its format, its group a column, and every fault one line."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from diffuscope.data import DataSet, fit_table, load_data, load_samples, read_samples
from diffuscope.errors import InputError

N = 80


def frame(n: int = N, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    weight = rng.normal(70, 10, n).round(1)
    weight[:7] = np.nan
    return pd.DataFrame(
        {
            "age": rng.integers(18, 90, n),
            "weight": weight,
            "smoker": rng.random(n) < 0.3,
            "color": rng.choice(["red", "green, or so", 'a "b"'], n),
            "visit": pd.Timestamp("2023-01-01") + pd.to_timedelta(rng.integers(0, 500, n), unit="D"),
            "patient": [f"p{k}" for k in rng.integers(0, 15, n)],
        }
    )


def written(path: Path, table: Any) -> str:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if ".tsv" in path.name else ",", date_format="%Y-%m-%d")
    return str(path)


def in_order(data: DataSet) -> torch.Tensor:
    return torch.cat([data.train, data.heldout])[torch.cat([data.train_index, data.heldout_index]).argsort()]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.csv.gz", "a.parquet", "A.CSV"])
def test_a_table_is_the_same_whatever_its_format(tmp_path: Path, name: str):
    table = frame()
    data = load_data(written(tmp_path / name, table), group="patient")
    assert data.kind == "table"
    assert data.table is not None
    assert [(column.name, column.kind) for column in data.table.columns] == [
        ("age", "numeric"), ("weight", "numeric"), ("smoker", "categorical"), ("color", "categorical"),
        ("visit", "date"),
    ]  # fmt: skip
    rest = table.drop(columns="patient")
    assert torch.equal(in_order(data), fit_table(rest).encode(rest))
    age, weight, smoker, color, visit = data.table.decode(in_order(data))
    assert np.array_equal(age, table["age"])
    assert np.array_equal(weight, table["weight"], equal_nan=True)
    assert smoker.tolist() == table["smoker"].astype(str).tolist()
    assert color.tolist() == table["color"].tolist()
    assert visit.tolist() == table["visit"].dt.strftime("%Y-%m-%d").tolist()
    assert in_order(data).aminmax() == data.data_range


def test_a_split_by_a_column_puts_no_patient_on_both_sides(tmp_path: Path):
    table = frame()
    data = load_data(written(tmp_path / "a.csv", table), group="patient", seed=4)
    assert data.train_groups is not None
    assert data.heldout_groups is not None
    told = [data.group_names[k] for k in torch.cat([data.train_groups, data.heldout_groups])]
    assert told == table["patient"].to_numpy()[torch.cat([data.train_index, data.heldout_index]).numpy()].tolist()
    assert not set(data.train_groups.tolist()) & set(data.heldout_groups.tolist())
    numbers = table.assign(patient=table["patient"].str[1:].astype(int))
    by_number = load_data(written(tmp_path / "b.csv", numbers), group="patient", seed=4)
    assert set(by_number.group_names) == {name[1:] for name in data.group_names}


def test_training_and_heldout_rows_are_encoded_together_and_samples_with_them(tmp_path: Path):
    rows = frame(120).drop(columns="patient")
    train, held = written(tmp_path / "a.csv", rows[:80]), written(tmp_path / "b.parquet", rows[80:])
    data = load_data(train, heldout=held)
    assert torch.equal(torch.cat([data.train, data.heldout]), fit_table(rows).encode(rows))
    mapped = data.in_range(-1.0, 1.0)
    assert mapped.table is not None
    # columns in another order, and rows of the training data: equal to the last bit
    samples = load_samples(written(tmp_path / "s.csv", rows[:40][rows.columns[::-1]]), None, like=mapped)
    assert torch.equal(samples, mapped.train[:40])
    assert mapped.table.decode(samples)[0].tolist() == rows["age"][:40].tolist()


def test_samples_may_have_the_column_of_the_groups_and_need_not(tmp_path: Path):
    table = frame()
    data = load_data(written(tmp_path / "a.csv", table), group="patient")
    with_it = load_samples(str(tmp_path / "a.csv"), None, like=data)
    without = load_samples(written(tmp_path / "s.csv", table.drop(columns="patient")), None, like=data)
    assert torch.equal(with_it, without)
    assert torch.equal(with_it, in_order(data))


def test_values_that_only_samples_have_are_counted(tmp_path: Path):
    table = frame().drop(columns="patient")
    data = load_data(written(tmp_path / "a.csv", table))
    odd = table[:20].copy()
    odd.loc[3, "color"] = "purple"
    odd.loc[4, "color"] = "mauve"
    odd["age"] = odd["age"].astype(float)
    odd.loc[5, "age"] = None
    samples = read_samples(written(tmp_path / "s.csv", odd), None, like=data)
    assert samples.notes == (
        "column 'age': 1 values are missing, of which the data have none",
        "column 'color': 2 of 20 values are of categories that the data do not have, such as 'mauve'",
    )
    assert read_samples(written(tmp_path / "s.csv", table), None, like=data).notes == ()


def test_what_is_left_out_is_noted(tmp_path: Path):
    table = frame()
    table["name"] = [f"somebody {i}" for i in range(N)]
    table["nothing"] = None
    table.to_csv(tmp_path / "a.csv")  # with the index of pandas
    data = load_data(str(tmp_path / "a.csv"))
    assert data.notes == (
        "column 'name' is left out: 80 of 80 texts are different, an identifier or free text",
        "column 'nothing' is left out: it has no value in any row",
    )
    assert data.table is not None
    assert [column.name for column in data.table.columns] == [*frame().columns]


def test_the_index_of_a_data_frame_is_no_column(tmp_path: Path):
    table = frame().sample(60, random_state=0).drop(columns="patient")
    table.to_csv(tmp_path / "a.csv")
    table.to_parquet(tmp_path / "a.parquet")
    assert "__index_level_0__" in pq.read_schema(tmp_path / "a.parquet").names
    for name in ("a.csv", "a.parquet"):
        data = load_data(str(tmp_path / name))
        assert torch.equal(in_order(data), fit_table(table).encode(table))
        # nor is one that samples have in addition
        assert torch.equal(load_samples(str(tmp_path / "a.csv"), None, like=data), in_order(data))


def test_an_array_can_be_a_table_of_numbered_columns(tmp_path: Path):
    x = np.random.default_rng(0).lognormal(size=(50, 3))
    np.save(tmp_path / "x.npy", x)
    data = load_data(str(tmp_path / "x.npy"), kind="table")
    assert data.table is not None
    assert [column.name for column in data.table.columns] == ["0", "1", "2"]
    assert torch.equal(
        in_order(data), fit_table({str(i): x[:, i] for i in range(3)}).encode({str(i): x[:, i] for i in range(3)})
    )
    assert torch.equal(load_samples(str(tmp_path / "x.npy"), None, like=data), in_order(data))


def test_pandas_own_types_are_read(tmp_path: Path):
    table = pd.DataFrame(
        {
            "whole": pd.array([1, None, 3, 4], dtype="Int64"),
            "flag": pd.array([True, None, False, True], dtype="boolean"),
            "text": pd.array(["a", None, "b", ""], dtype="string"),
            "kind": pd.Categorical(["x", "y", None, "x"]),
            "when": pd.to_datetime(["2024-01-01", None, "2024-01-03", "2024-01-04"], utc=True),
        }
    )
    table.to_parquet(tmp_path / "a.parquet")
    fitted = fit_table(table)
    whole, flag, text, kind, when = fitted.decode(fitted.encode(table))
    assert np.array_equal(whole, [1, np.nan, 3, 4], equal_nan=True)
    assert flag.tolist() == ["True", "", "False", "True"]
    assert text.tolist() == ["a", "", "b", ""]
    assert kind.tolist() == ["x", "y", "", "x"]
    assert when.tolist() == ["2024-01-01", "", "2024-01-03", "2024-01-04"]
    assert torch.equal(in_order(load_data(str(tmp_path / "a.parquet"))), fitted.encode(table))


@pytest.mark.parametrize("column", [None, "embedding"])
def test_lists_in_a_parquet_file_are_vectors(tmp_path: Path, column: str | None):
    x = np.random.default_rng(0).standard_normal((30, 5)).astype(np.float32)
    columns = {"embedding": list(x), "label": np.arange(30) % 3, "author": [f"a{i % 7}" for i in range(30)]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", row_group_size=11)
    spec = str(tmp_path / "a.parquet") + (f":{column}" if column else "")
    data = load_data(spec, group="author")
    assert data.kind == "vectors"
    assert torch.equal(in_order(data), torch.from_numpy(x))
    assert data.train_labels is not None
    assert torch.equal(data.train_labels, data.train_index % 3)
    assert {data.group_names[k] for k in data.train_groups.tolist()}  # pyright: ignore[reportOptionalMemberAccess]


BAD = {
    "empty.csv": ("", "is empty; expected a table with columns and rows"),
    "header.csv": ("a,b\n", "has no rows; expected"),
    "repeated.csv": ("a,b,a\n1,2,3\n4,5,6\n", "has several columns 'a'; expected each name once"),
    "numbers.csv": ("1,2\n3,4\n5,6\n", "begins with numbers, '1', '2'; expected the names of the columns"),
    "long.csv": ("a,b\n1,2\n3,4,5\n6,7\n", "has lines of different lengths"),
    "quote.csv": ('a,b\n1,"2\n3,4\n', "quotation marks that do not match"),
    "semicolons.csv": ("a;b\n1;2\n3;4\n5;6\n", "are separated by ;; expected commas in a .csv file"),
    "tabs.csv": ("a\tb\n1\t2\n3\t4\n5\t6\n", "are separated by tabs; expected commas in a .csv file"),
    "one.csv": ("a,b\n1,2\n", "has one single example"),
    "missing.csv": ("a,b\n,\n,\n,\n,\n", "is empty|has no column to compare"),
    "same.csv": ("a,b\n1,x\n1,x\n1,x\n1,x\n", "are all the same"),
    "infinite.csv": ("a,b\n1,x\ninf,x\n1,x\n2,x\n", "column 'a' of .* has 1 numbers that are infinite"),
    "damaged.csv.gz": ("not compressed", "cannot be read, it is truncated or damaged"),
    "damaged.parquet": ("PAR1 and no more", "truncated, damaged or no Parquet file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_is_no_table_is_one_line(tmp_path: Path, name: str):
    content, told = BAD[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=told) as refused:
        load_data(str(tmp_path / name))
    assert "\n" not in str(refused.value)
    assert "expected" in str(refused.value)
    assert refused.value.__cause__ is None


def test_bytes_that_are_no_text_and_a_file_cut_short(tmp_path: Path):
    (tmp_path / "latin.csv").write_bytes("a,b\n1,Zürich\n2,x\n".encode("latin-1"))
    with pytest.raises(InputError, match="damaged or not UTF-8"):
        load_data(str(tmp_path / "latin.csv"))
    for name in ("a.csv.gz", "a.parquet"):
        whole = Path(written(tmp_path / name, frame())).read_bytes()
        for kept in (0.3, 0.9):
            (tmp_path / name).write_bytes(whole[: int(kept * len(whole))])
            with pytest.raises(InputError, match="cannot be read, it is truncated"):
                load_data(str(tmp_path / name))
    damaged = bytearray(whole)
    damaged[100:400] = bytes(300)
    (tmp_path / "a.parquet").write_bytes(damaged)
    with pytest.raises(InputError, match="cannot be read"):
        load_data(str(tmp_path / "a.parquet"))


def test_two_tables_that_do_not_fit_are_one_line(tmp_path: Path):
    table = frame().drop(columns="patient")
    spec = written(tmp_path / "a.csv", table)
    data = load_data(spec)
    text = table.assign(age=["old"] * 40 + ["young"] * 40)
    fewer, more = table.drop(columns="age"), table.assign(extra=1.0)
    for other, told, sampled in (
        (text, "column 'age' is numbers in .*, texts in ", "column 'age' of .* has texts; expected numbers, as the"),
        (fewer, "have different columns, 'age' in only one", "lacks 'age'; expected the columns of the data"),
        (more, "have different columns, 'extra' in only one", "has in addition 'extra'"),
    ):
        with pytest.raises(InputError, match=f"^heldout: .*{told}"):
            load_data(spec, heldout=written(tmp_path / "b.csv", other))
        with pytest.raises(InputError, match=f"^samples: .*{sampled}"):
            load_samples(written(tmp_path / "b.csv", other), None, like=data)
    np.save(tmp_path / "x.npy", np.zeros((9, 4)))
    array = str(tmp_path / "x.npy")
    for call, told in (
        (lambda: load_data(spec, heldout=array), "is a table and .* is no table; expected two tables or none"),
        (lambda: load_data(spec, heldout="digits", kind="table"), r"expected \(n, columns\), as --kind table takes"),
        (lambda: load_data(spec, kind="images"), "kind: got images, and .* is a table; expected auto or table"),
        (lambda: load_data(spec, data_range=(0, 1)), "data_range: .* is a table, which is encoded"),
        (lambda: load_samples(spec, (0, 1), like=data), "samples_range: a is a table, which is encoded"),
        (lambda: load_samples(spec, None, like=load_data("digits")), "is a table, and digits is not"),
        (lambda: load_samples(array, None, like=data), "samples: .* lacks 'age'"),
        (lambda: load_data(spec, group="doctor"), "group: got 'doctor'; expected 'age', 'weight'.* or a file"),
        (lambda: load_data(spec, group="weight"), "7 examples of .* have no id, the first at position 0"),
        (
            lambda: load_data(spec, heldout=spec, group="color", heldout_group="doctor"),
            "heldout_group: .* has no 'doctor'",
        ),
    ):
        with pytest.raises(InputError, match=told) as refused:
            call()
        assert "\n" not in str(refused.value)


def test_lists_that_are_no_array_are_one_line(tmp_path: Path):
    path = tmp_path / "a.parquet"
    for columns, told in (
        ({"x": [[1.0, 2.0], [3.0]]}, "has lists of different lengths"),
        ({"x": [[1.0], None]}, "has 1 empty entries"),
        ({"x": [["a"], ["b"]]}, "holds object, expected integers or floating-point numbers"),
        ({"x": [[1.0]] * 4, "y": [[2.0]] * 4}, "columns 'x', 'y' of images or lists; expected only one"),
        ({"x": [{"a": 1}] * 4}, "is struct<a: int64>; expected a column of images or of lists of numbers"),
        ({"x": pa.array([], pa.float64())}, "is empty"),
    ):
        pq.write_table(pa.table(columns), path)
        with pytest.raises(InputError, match=told):
            load_data(str(path))
    pq.write_table(pa.table({"x": [1.0, 2.0]}), path)
    with pytest.raises(InputError, match="has no column 'z'; expected one of 'x'"):
        load_data(f"{path}:z")


@pytest.mark.parametrize(("name", "package"), [("a.csv", "pandas"), ("a.parquet", "pyarrow")])
def test_without_the_extra_it_is_named(tmp_path: Path, monkeypatch, name: str, package: str):
    spec = written(tmp_path / name, frame())
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs {package}, .*pip install 'diffuscope\[tables\]'"):
        load_data(spec)


def test_a_small_file_that_unpacks_to_more_than_the_memory_is_refused(tmp_path: Path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemAvailable:   4000 kB\n")
    monkeypatch.setattr("diffuscope.memory.MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr("diffuscope.memory.CONTAINER_LIMIT", tmp_path / "none")
    table = pd.DataFrame({"x": np.zeros(600_000), "y": np.zeros(600_000)})
    table.to_csv(tmp_path / "a.csv.gz", index=False)
    pq.write_table(pa.Table.from_pandas(table), tmp_path / "a.parquet", use_dictionary=False)
    for name in ("a.csv.gz", "a.parquet"):
        assert (tmp_path / name).stat().st_size < 500_000
        with pytest.raises(InputError, match="GB of memory; expected at most"):
            load_data(str(tmp_path / name))
