"""Tables: the line and the column of everything that is wrong in them."""

import re

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from reparam.data import DataWarning, check, load
from reparam.errors import BadInputError


def table(path, content):
    path = path / "set.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refused(path, message, **options):
    with pytest.raises(BadInputError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


WANTED = [[1.5, -2.0], [0.25, 4e3]]


@pytest.mark.parametrize(
    "content",
    [
        "a,b\n1.5,-2\n0.25,4e3\n",
        "a,b\r\n1.5,-2\r\n0.25,4e3\r\n",
        "a,b\r1.5,-2\r0.25,4e3",
        "\ufeffa,b\n1.5,-2\n0.25,4e3",
        "\n\na,b\n1.5,-2\n\n0.25,4e3\n\n\n",
        '"a","b;c"\n"1.5","-2"\n0.25,4e3',
        " a , b \n 1.5, -2\n0.25 ,4e3",
        "1.5,-2\n0.25,4e3",
        "\ufeff1.5,-2\n0.25,4e3",
        "größe,länge\n1.5,-2\n0.25,4e3",
    ],
)
def test_csv(tmp_path, content):
    data = load(table(tmp_path, content))
    assert data.x.tolist() == WANTED
    assert (data.values, data.name, data.y) == ("real", "set", None)


def test_a_header_that_counts_is_a_header(tmp_path):
    pd.DataFrame(np.array([[7.5, 1, 2], [3, 4, 5]])).to_csv(tmp_path / "set.csv", index=False)
    assert load(tmp_path / "set.csv").x.tolist() == [[7.5, 1, 2], [3, 4, 5]]
    assert load(table(tmp_path, "0,1\n1,0")).x.tolist() == [[0, 1], [1, 0]]


def test_precision(tmp_path):
    x = np.random.default_rng(0).normal(size=(200, 5)).astype(np.float32)
    pd.DataFrame(x, columns=list("abcde")).to_csv(tmp_path / "set.csv", index=False)
    assert torch.equal(load(tmp_path / "set.csv").x, torch.tensor(x))


def test_responses(tmp_path):
    content = "a,kind,b,c\n1.5,pear,-2,1\n0.25,apple,4e3,2\n"
    data = load(table(tmp_path, content), label="kind", response=["c", "a"])
    assert (data.x.tolist(), data.columns, data.y.tolist()) == ([[-2.0], [4e3]], ("b",), [1, 0])
    assert (data.response.tolist(), data.responses) == ([[1.0, 1.5], [2.0, 0.25]], ("c", "a"))
    refused(table(tmp_path, content), r"no column 'd' for the response: .*'a', 'b', 'c'", label="kind", response=["d"])
    refused(table(tmp_path, "a\n1\n2\n"), "columns to predict it from are wanted too", response=["a"])
    refused(table(tmp_path, content), "names a column twice", label="kind", response=["a", "a"])


def test_labels(tmp_path):
    content = "a,kind,b\n1.5,pear,-2\n0.25,apple,4e3\n"
    data = load(table(tmp_path, content), label="kind")
    assert data.x.tolist() == WANTED
    assert data.y.tolist() == [1, 0]
    assert load(table(tmp_path, "1.5,7,-2\n0.25,3,4e3"), label="2").y.tolist() == [7, 3]
    refused(table(tmp_path, content), r"has no column 'knd' for the labels: did you mean 'kind'\?", label="knd")
    refused(table(tmp_path, content), "it has 'a', 'kind', 'b'", label="zzz")
    refused(table(tmp_path, "a,kind\n1,0.5"), "give classes, not measurements", label="kind")
    refused(table(tmp_path, "a,kind\n1,x\n2, NA\n"), "line 3, column 'kind': the label is missing", label="kind")
    refused(table(tmp_path, "kind\nx\n"), "no column but that of the labels", label="kind")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\n \n\n", "line 2|nothing but blank|header"),
        ("\n\r\n", "nothing but blank lines"),
        ("a,b\n", "a header and no rows"),
        ("a,b", "a header and no rows"),
        ("a,b\n1,2\n3\n", "line 3 has 1 field, the first line has 2"),
        ("a,b\n1,2\n3,4,5\n", "line 3 has 3 fields, the first line has 2"),
        ("a,b\n1,2\n3,four\n", "line 3, column 'b': 'four' is not a number"),
        ("a,b\r\n\r\n1,2\r\n3,1_000\r\n", "line 4, column 'b': '1_000' is not a number"),
        ("a,b\n1,2\n,4\n", "line 3, column 'a': the value is missing"),
        ("a,b\n1,nan\n3,nan\n", "line 2, column 'b': the value is missing"),
        ("a,b\n1,NA\n", "line 2, column 'b': the value is missing"),
        ("a,b\n1,-inf\n", "line 2, column 'b': '-inf' is not a finite float32 number"),
        ("a,b\n1,1e999\n", "line 2, column 'b': '1e999' is not a finite float32 number"),
        ("a,b\n1,1e99\n", "line 2, column 'b': '1e99' is not a finite float32"),
        ('a,b\n1,"1,5"\n', "line 2, column 'b': '1,5' has a decimal comma"),
        ("a,b\n1,0x10\n", "line 2, column 'b': '0x10' is not a number"),
        ("1,2\nthree,4\n", "line 2, column '1': 'three' is not a number"),
        ("M,2\nF,4\n", "line 1, column '1': 'M' is not a number.*name it as the label"),
        ("a,a\n1,2\n", "two columns named 'a'"),
        (",a\n0,2\n", "no name for column 1 .*index=False"),
        ('a,b\n1,"2\n', "line 2 is not CSV"),
        ("a,b\n1," + "9" * 200_000, "line 2 is not CSV .*field limit"),
        ("a,b\n1," + "x" * 5000, "'xxxx"),
        ("a,b\n1,2\n3,\x00\n", "line 3, column 'b'"),
    ],
)
def test_faults_name_line_and_column(tmp_path, content, message):
    refused(table(tmp_path, content), message)


def test_messages_stay_short(tmp_path):
    for content in ("a,b\n1," + "x" * 100_000, "a" * 100_000 + ",b\n1,x", "a" * 100_000 + "," + "a" * 100_000 + "\n1,2"):
        with pytest.raises(BadInputError) as caught:
            load(table(tmp_path, content))
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("content", "offset"),
    [("a;b\n1,5;2\n", 1), ("1,5;2\n", 3), ("\ufeffalpha\tb\n1\t2\n", 8), ("a,b;c\n1,2\n", 3)],
)
def test_other_separators(tmp_path, content, offset):
    refused(
        table(tmp_path, content), rf"(semicolons|tabs) between its fields \(byte {offset}\): commas are wanted.*pandas\.read_csv"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("größe,b\n1,2\n".encode("latin-1"), r"not UTF-8 at byte 2 \(0xf6\): save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), r"not UTF-8 at byte 0 \(0xff\): it looks like UTF-16"),
        (b"\xef\xbb\xbfa,b\n1,\xff\n", r"byte 9 \(0xff\)"),
        (b"a,b\n" + b"1,2\n" * 1000 + b"1,\xe4\n", r"byte 4006 \(0xe4\)"),
    ],
)
def test_other_encodings(tmp_path, content, message):
    refused(table(tmp_path, content), message)


def test_constant_columns_warn(tmp_path):
    path = table(tmp_path, "a,b,c\n1.5,2,0\n1.5,3,0\n")
    with pytest.warns(DataWarning, match="has 2 constant of 3 columns: 'a' is always 1.5, 'c' is always 0") as caught:
        data = load(path)
    assert data.x.shape == (2, 3)
    assert len(caught) == 1


def test_no_room(tmp_path, monkeypatch):
    path = table(tmp_path, "a,b\n" + "1,2\n3,4\n" * 100)
    monkeypatch.setattr(check, "memory", lambda: 2000)
    monkeypatch.setattr(type(path), "read_bytes", lambda self: pytest.fail("read"))
    refused(path, "GiB of memory")


# Parquet


def parquet(path, **columns):
    pq.write_table(pa.table(columns), path / "set.parquet")
    return path / "set.parquet"


def test_parquet(tmp_path):
    path = parquet(
        tmp_path,
        a=pa.array([1.5, 2.5, -3.0], pa.float64()),
        b=pa.array([1, 2, 300], pa.int16()),
        c=pa.array([True, False, True]),
        kind=pa.array(["x", "y", "x"]),
    )
    data = load(path, label="kind")
    assert data.x.tolist() == [[1.5, 1, 1], [2.5, 2, 0], [-3, 300, 1]]
    assert data.y.tolist() == [0, 1, 0]
    refused(path, "column 'kind' has type string: numbers are wanted; encode it, drop it, or name it as the label")
    refused(path, "has no column 'knd' for the labels: did you mean 'kind'", label="knd")


def test_parquet_from_pandas(tmp_path):
    frame = pd.DataFrame({"a": [1.5, 2.5], "kind": pd.Categorical(["v", "u"])})
    frame.to_parquet(tmp_path / "set.parquet")
    data = load(tmp_path / "set.parquet", label="kind")
    assert data.x.tolist() == [[1.5], [2.5]]
    assert data.y.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": [1.0, None, None]}, "column 'a' has 2 missing values, the first in row 2"),
        ({"a": [1, None, 2]}, "column 'a' has 1 missing values, the first in row 2"),
        ({"a": [1.0, 2.0, float("nan")]}, "column 'a' holds nan in row 3"),
        ({"a": [1.0, 1e99]}, r"column 'a' holds 1e\+99 in row 2"),
        ({"a": [float("-inf"), 2.0]}, "column 'a' holds -inf in row 1"),
        ({"a": [[1, 2], [3]]}, "column 'a' has type list<.*>: numbers are wanted; convert or drop it"),
        ({"a": [{"b": 1}]}, "column 'a' has type struct"),
        ({"a": [b"x"]}, "column 'a' has type binary"),
        ({"a": pa.array([1, 2], pa.timestamp("s"))}, "column 'a' has type timestamp"),
        ({"a": pa.array([], pa.float64())}, "has 0 rows and 1 columns"),
        ({}, "has 0 rows and 0 columns"),
    ],
)
def test_parquet_faults(tmp_path, columns, message):
    refused(parquet(tmp_path, **columns), message)


def test_parquet_missing_label(tmp_path):
    refused(parquet(tmp_path, a=[1.5, 2], kind=["x", None]), "column 'kind' has 1 missing values, the first in row 2", label="kind")


def test_parquet_constant_column(tmp_path):
    with pytest.warns(DataWarning, match="'a' is always 1.5"):
        load(parquet(tmp_path, a=[1.5, 1.5], b=[1, 2]))


def test_parquet_no_room(tmp_path, monkeypatch):
    path = parquet(tmp_path, a=np.zeros(100_000))
    monkeypatch.setattr(check, "memory", lambda: 1_000_000)
    refused(path, "GiB of memory")


def test_parquet_truncated_anywhere(tmp_path):
    path = parquet(tmp_path, a=[1.5, 2.5, 3.5], b=[1, 2, 3])
    content = path.read_bytes()
    for n in range(0, len(content), 7):
        path.write_bytes(content[:n])
        refused(path, "damaged or not parquet|looks like")


# Real tables


@pytest.mark.parametrize(
    ("name", "label", "rows", "columns", "classes"),
    [
        ("abalone", "1", 4177, 8, [1307, 1342, 1528]),
        ("banknote_authentication", "5", 1372, 4, [762, 610]),
        ("winequality-red", "12", 1599, 11, [0, 0, 0, 10, 53, 681, 638, 199, 18]),
    ],
)
def test_real_tables(shared_data, name, label, rows, columns, classes):
    path = shared_data / "tabular" / f"{name}.csv"
    data = load(path, label=label)
    assert data.x.shape == (rows, columns)
    assert data.y.bincount().tolist() == classes
    theirs = pd.read_csv(path, header=None).drop(columns=int(label) - 1).to_numpy(np.float32)
    np.testing.assert_array_equal(data.x.numpy(), theirs)


def test_real_table_with_text(shared_data):
    path = shared_data / "tabular" / "abalone.csv"
    refused(path, re.escape(f"{str(path.resolve())!r} line 1, column '1': 'M' is not a number"))
