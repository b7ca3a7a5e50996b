"""Tables of numbers and categories, with gaps: the same from a frame, csv, parquet and arrays; and what is wrong by its place."""

import datetime
import decimal
import json
import re
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from reparam.data import DataWarning, check, from_frame, from_tensor, load, split
from reparam.data.codec import codec_of
from reparam.data.table import Column, TableCodec
from reparam.errors import BadInputError

FRAME = pd.DataFrame(
    {
        "length": [1.5, None, 1e-7, -3.25e6],
        "count": pd.array([1, 2, None, 4], dtype="Int64"),
        "kind": ["pear", None, "apple", "pear"],
        "size": pd.Categorical(["small", "large", None, "small"], categories=["small", "middle", "large"], ordered=True),
        "ripe": pd.array([True, None, False, True], dtype="boolean"),
    }
)
NAN = float("nan")
X = [[1.5, 1, 1, 0, 1], [NAN, 2, NAN, 2, NAN], [1e-7, NAN, 0, NAN, 0], [-3.25e6, 4, 1, 0, 1]]
CATEGORIES = {"kind": ("apple", "pear"), "size": ("small", "middle", "large"), "ripe": ("False", "True")}


def same(x, wanted):
    return torch.equal(torch.as_tensor(x, dtype=torch.float32).nan_to_num(-77), torch.tensor(wanted).nan_to_num(-77))


def refused(message, given, **options):
    with pytest.raises(BadInputError, match=message) as caught:
        from_frame(given, **options) if isinstance(given, dict | pd.DataFrame) else load(given, gaps="keep", **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def table(folder, content):
    path = folder / "set.csv"
    path.write_text(content)
    return path


def test_frames():
    data = from_frame(FRAME, name="fruit")
    assert same(data.x, X)
    assert (data.name, data.source, data.values, data.y, data.shape) == ("fruit", "fruit", "table", None, (5,))
    assert data.columns == tuple(FRAME.columns) == data.codec.columns
    assert data.codec.categories == CATEGORIES
    assert set(data.codec.gaps) == set(FRAME.columns)
    assert data.scaling == "2 columns of numbers and 3 of categories; 5 of 20 values are missing"


def test_a_frame_is_not_changed():
    before = FRAME.copy(deep=True)
    data = from_frame(FRAME)
    data.x[0, 0] = 9.0
    pd.testing.assert_frame_equal(FRAME, before)


def test_rows_come_back():
    data = from_frame(FRAME)
    rows = data.codec.decode(data.x)
    assert rows[0] == {"length": 1.5, "count": 1.0, "kind": "pear", "size": "small", "ripe": "True"}
    assert rows[1] == {"length": None, "count": 2.0, "kind": None, "size": "large", "ripe": None}
    assert rows[2]["length"] == 1e-7
    again = from_frame(data.codec.frame(data.x))
    assert same(again.x, X)
    assert again.codec == data.codec


def test_the_codec_is_json():
    codec = from_frame(FRAME).codec
    assert codec_of(json.loads(json.dumps(codec.facts()))) == codec
    for facts in (
        {"columns": []},
        {"columns": ["a", "a"]},
        {"categories": {"z": ["x"]}},
        {"categories": {"a": []}},
        {"gaps": ["z"]},
    ):
        with pytest.raises(BadInputError):
            codec_of({"kind": "table", "columns": ["a"], "categories": {}, "gaps": []} | facts)
    with pytest.raises(BadInputError, match="make none"):
        codec_of({"kind": "table", "columns": ["a"], "categories": {}, "x": 1})


@pytest.mark.parametrize("x", [[[0.0, 3.0]], [[0.0, -1.0]], [[0.0, 0.5]], [[0.0]], [0.0, 1.0]])
def test_what_is_no_row(x):
    codec = TableCodec(("a", "b"), {"b": ("u", "v", "w")})
    for method in (codec.decode, codec.frame):
        with pytest.raises(ValueError, match=r"place of no category of 'b'|N x 2 is wanted"):
            method(torch.tensor(x))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_hold_the_same(tmp_path, suffix):
    path = tmp_path / f"fruit{suffix}"
    FRAME.to_csv(path, index=False) if suffix == ".csv" else FRAME.to_parquet(path, index=False)
    data = load(path, gaps="keep")
    wanted = CATEGORIES | {"size": ("large", "small")} if suffix == ".csv" else CATEGORIES
    assert data.codec.categories == wanted  # the alphabet is all that a csv knows
    assert same(data.x[:, [0, 1, 2, 4]], [[row[i] for i in (0, 1, 2, 4)] for row in X])
    assert data.codec.frame(data.x)["size"].tolist()[:2] == ["small", "large"]
    assert (data.name, data.source) == ("fruit", str(path))


@pytest.mark.parametrize(
    ("column", "values", "names"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        (np.array([1, 2, 3], np.uint8), [1, 2, 3], None),
        (np.array([1.5, np.nan, 3], np.float16), [1.5, NAN, 3], None),
        (torch.tensor([1.5, 2.0, 3.0], requires_grad=True), [1.5, 2, 3], None),
        (torch.tensor([[1.5], [2.0], [3.0]]), [1.5, 2, 3], None),
        (np.array([1, None, 2.5], object), [1, NAN, 2.5], None),
        (np.array([True, False, True]), [1, 0, 1], ("False", "True")),
        (np.array([True, None, False], object), [1, NAN, 0], ("False", "True")),
        (["b", " a ", ""], [1, 0, NAN], ("a", "b")),
        (["b", None, float("nan")], [0, NAN, NAN], ("b",)),
        (["10", "9", "9"], [1, 0, 0], ("9", "10")),
        (pd.Categorical([3, 1, None]), [1, 0, NAN], ("1", "3")),
        (pd.Categorical([True, False, None]), [1, 0, NAN], ("False", "True")),
        (pd.array([1.5, None, 2], dtype="float64[pyarrow]"), [1.5, NAN, 2], None),
        (pd.array(["b", None, "a"], dtype="string[pyarrow]"), [1, NAN, 0], ("a", "b")),
        (pd.array([True, None, False], dtype="bool[pyarrow]"), [1, NAN, 0], ("False", "True")),
        (pd.Series([2, 1, 3], index=[7, 8, 9]), [2, 1, 3], None),
    ],
)
def test_columns(column, values, names):
    data = from_frame({"a": column})
    assert same(data.x[:, 0], values)
    assert data.codec.categories.get("a") == names


def test_columns_of_vectors():
    data = from_frame({"a": torch.arange(6.0).reshape(3, 2), "b": [1, 2, 3]})
    assert data.columns == ("a.0", "a.1", "b")
    assert data.x[:, 1].tolist() == [1, 3, 5]


class Polars:
    """What a frame of another library looks like."""

    def to_pandas(self):
        return FRAME


def test_frames_of_other_libraries():
    assert same(from_frame(Polars()).x, X)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"when": pd.to_datetime(["2020-01-01", None])}, "column 'when' has dtype datetime64.*convert it .a date to days. or drop"),
        ({"when": pd.to_timedelta([1, 2], "D")}, "column 'when' has dtype timedelta64"),
        ({"a": [datetime.date(2020, 1, 1), None]}, "column 'a' holds datetime.date.* of date, in row 1"),
        ({"a": [1 + 2j, 1]}, "column 'a' has dtype complex128"),
        ({"a": pd.arrays.SparseArray([0, 1])}, "column 'a' has dtype Sparse"),
        ({"a": [[1], [2]]}, r"column 'a' holds \[1\], of list, in row 1"),
        ({"a": [1, None, "x"]}, "column 'a' holds 'x', of str, in row 3: the rows before are numbers"),
        ({"a": ["x", 1.5]}, "column 'a' holds 1.5, of float, in row 2: the rows before are texts"),
        ({"a": [True, "x"]}, "column 'a' holds 'x', of str, in row 2: the rows before are booleans"),
        ({"a": [1.0, np.inf]}, "row 2, column 'a': inf is not a finite float32"),
        ({"a": [1.0, -1e300]}, "row 2, column 'a': -1e.300 is not a finite float32"),
        ({"b": [1, 2], "a": [np.nan, np.nan]}, "column 'a' has nothing in it: drop it"),
        ({"a": [None, None]}, "column 'a' has nothing in it"),
        ({"a": ["", " "]}, "column 'a' has nothing in it"),
        ({"a": ["x", "y\x00"]}, r"row 2, column 'a': 'y\\x00' holds what cannot be printed"),
        ({"a": ["x", "y" * 10_000 + "\nz"]}, "row 2, column 'a': 'yyy.*cannot be printed"),
        ({"a": pd.Categorical(["x"], categories=["x", " "])}, "column 'a' has a category ' '"),
        ({"a": pd.Categorical([(1, 2)])}, "column 'a' has a category .* of tuple"),
        ({"a": [1, 2], "b": [1]}, "no table .*as many values"),
        ({"a": 1.0}, "no table"),
        ({"a": torch.zeros(2, 2, 2)}, "no table"),
        ({}, "0 rows and 0 columns"),
        ({"a": []}, "0 rows and 1 columns"),
        (pd.DataFrame({"a": [1], "b": [2]}).rename(columns={"b": "a"}), "two columns named 'a'"),
        (pd.DataFrame({"": [1]}), "no name for column 1"),
        (pd.DataFrame({("a", "b"): [1]}), r"a column named \('a', 'b'\)"),
    ],
)
def test_faults_of_frames_name_row_and_column(given, message):
    refused(message, given)


def test_what_is_no_frame():
    for given in (3, [1, 2], torch.zeros(2, 2), None):
        with pytest.raises(BadInputError, match="a data frame or a dictionary of columns is wanted"):
            from_frame(given)
    with pytest.raises(BadInputError, match="from_frame make such data"):
        from_tensor(torch.eye(2), values="table")


@pytest.mark.parametrize(
    ("content", "x", "categories"),
    [
        ("a,b\n1,x\n,y\nNA,\n", [[1, 0], [NAN, 1], [NAN, NAN]], {"b": ("x", "y")}),
        ("\ufeffa,b\r\n1,x\r\n\r\n?,None\r\n", [[1, 0], [NAN, NAN]], {"b": ("x",)}),
        ("1,x\n2,y\n", [[1, 0], [2, 1]], {"x1": ("x", "y")}),
        ("größe , b \n 1 , x \n2,x", [[1, 0], [2, 0]], {"b": ("x",)}),
        ('a,b\n1,"x, y"\n2,"x;y"\n', [[1, 0], [2, 1]], {"b": ("x, y", "x;y")}),
        ('a\n1\n""\n3\n', [[1], [NAN], [3]], {}),
        ("a,b\n1,\n,\n3,4\n", [[1, NAN], [NAN, NAN], [3, 4]], {}),
    ],
)
def test_csv(tmp_path, content, x, categories):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        data = load(table(tmp_path, content), gaps="keep")
    assert same(data.x, x)
    assert data.codec.categories == categories


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1,2\n2,3\n\n4,y\n", "line 5, column 'b': 'y' is not a number, and other lines differ"),
        ("a,b\n1,x\n2,3\n4,y\n", "line 3, column 'b': '3' is a number, and other lines differ.*--categorical"),
        ('a,b\n1,"1,5"\n2,"2,5"\n', "line 2, column 'b': '1,5' has a decimal comma"),
        ("a,b\n1,2\n3,-inf\n", "line 3, column 'b': '-inf' is not a finite float32"),
        ("a,b\n1,2\n3,1e99\n", "line 3, column 'b': '1e99' is not a finite float32"),
        ("a,b\n1,2\n3,1_000\n", "line 3, column 'b': '1_000' is not a number"),
        ("a,b\n1,\n3,NaN\n", "column 'b' has nothing in it"),
        ("a,b\n1,2\n3\n", "line 3 has 1 field, the first line has 2"),
        ("a,b\n", "a header and no rows"),
        ("a,a\n1,x\n", "two columns named 'a'"),
        ("a;b\n1;x\n", "semicolons between its fields"),
        ('a,b\n1,"x\n', "line 2 is not CSV"),
        ("a,b\n1,x\x07\n", r"line 2, column 'b': 'x\\x07' holds what cannot be printed"),
        ("a,b\n1," + "x" * 100_000 + "\n2,3\n", "line 3, column 'b': '3' is a number|line 2"),
    ],
)
def test_faults_of_csv_name_line_and_column(tmp_path, content, message):
    refused(message, table(tmp_path, content))


def test_numbers_that_are_names(tmp_path):
    path = table(tmp_path, "a,class\n1,10\n2,9\n3,\n4,9.0\n")
    data = load(path, gaps="keep", categorical=["class"])
    assert data.codec.categories == {"class": ("9", "10")}
    assert same(data.x[:, 1], [1, 0, NAN, 0])
    assert from_frame(pd.read_csv(path), categorical=("class",)).codec == data.codec
    refused("no column 'clas' to be read as categories: did you mean 'class'?", path, categorical=["clas"])
    names = [10**15 + 1, 10**15 + 2, -0.0, 0.5]
    assert from_frame({"a": names}, categorical=["a"]).codec.categories["a"] == ("0", "0.5", str(names[0]), str(names[1]))
    mixed = load(table(tmp_path, "a,b\n1,1\n2,3+\n"), gaps="keep", categorical="b")
    assert mixed.codec.categories == {"b": ("1", "3+")}
    with pytest.raises(BadInputError, match="no meaning for 'iris' without gaps='keep'"):
        load("iris", categorical=["species"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,kind,length\n1,pear,2\n", "a column 'a', which the data of the model have not: the columns are"),
        ("knd,length\npear,2\n", "a column 'knd', .*did you mean 'kind'?"),
        (
            "kind,length\npear,2\npaer,3\n",
            "line 3, column 'kind': 'paer' is none of the categories.*did you mean 'pear'.*'apple', 'pear'",
        ),
        ("kind,length\npear,2\napple,long\n", "line 3, column 'length': 'long' is not a number, as the model wants"),
        ("pear,2\napple,3\n", "a column 'x0'"),
    ],
)
def test_other_data_are_held_to_a_codec(tmp_path, content, message):
    codec = from_frame(FRAME).codec
    refused(message, table(tmp_path, content), codec=codec)


def test_other_data_by_the_codec_of_a_run(tmp_path):
    codec = from_frame(FRAME).codec
    data = load(table(tmp_path, "kind,length\npear,2\n,3\napple,\n"), codec=codec)  # a run's data are read as they were
    assert same(data.x, [[2, NAN, 1, NAN, NAN], [3, NAN, NAN, NAN, NAN], [NAN, NAN, 0, NAN, NAN]])
    assert data.codec is codec
    assert same(from_frame({"kind": ["pear"], "count": [None]}, codec=codec).x, [[NAN, NAN, 1, NAN, NAN]])
    refused("row 1, column 'kind': 'plum' is none", {"kind": ["plum"]}, codec=codec)
    refused("row 2, column 'count': 'x' is not a number", {"count": [None, "x"]}, codec=codec)


def test_names_of_categories_that_look_missing_or_like_numbers(tmp_path):
    codec = from_frame({"a": ["none", "some"], "b": pd.Categorical([1, 2])}).codec
    data = load(table(tmp_path, "a,b\nnone,1.0\nNONE,2\nsome,?\n"), codec=codec)
    assert same(data.x, [[0, 0], [NAN, 1], [1, NAN]])


def test_arrays(tmp_path):
    x = np.random.default_rng(0).normal(size=(10, 3))
    x[2, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    data = load(tmp_path / "x.npy", gaps="keep")
    assert same(data.x, x.astype(np.float32))
    assert data.columns == ("x0", "x1", "x2")
    assert data.codec.gaps == ("x1",)
    np.savez(tmp_path / "x.npz", x_train=x, x_test=x[:4], y_train=list("ab" * 5), y_test=list("aaaa"))
    data = load(tmp_path / "x.npz", gaps="keep")
    assert data.columns[-1] == "label"
    assert data.test.codec == data.codec
    assert (len(data), len(data.test)) == (10, 4)
    np.save(tmp_path / "pictures.npy", np.zeros((4, 3, 3)))
    refused(r"shape \(4, 3, 3\) .* N x D real numbers make a table", tmp_path / "pictures.npy")


def test_bundled_tables():
    data = load("iris", gaps="keep")
    assert data.codec.decode(data.x[:1]) == [
        {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2, "species": "setosa"}
    ]
    assert data.x[:, 4].unique(return_counts=True)[1].tolist() == [50, 50, 50]
    plain = load("iris")
    assert (plain.shape, plain.classes, plain.values) == ((4,), ("setosa", "versicolor", "virginica"), "real")
    assert torch.equal(plain.x, data.x[:, :4])
    schools = load("eight_schools", gaps="keep")
    assert (schools.columns, schools.x.tolist()[:2]) == (("y", "sigma"), [[28, 15], [8, 10]])
    assert torch.equal(load("eight_schools").x, schools.x)
    cancer = load("breast_cancer", gaps="keep")
    assert cancer.codec.categories == {"diagnosis": ("benign", "malignant")}
    assert load("diabetes", gaps="keep").columns[-1] == "progression"
    assert load("moons", gaps="keep").codec.categories == {"half": ("0", "1")}


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("digits", {}, "digits is no table"),
        ("none", {}, "none is no table"),
        ("iris", {"label": "species"}, "label='species' has no meaning for 'iris'"),
        ("iris", {"response": ("species",)}, "response=.* has no meaning for 'iris' as a table with gaps"),
        ("iris", {"text": {"longest": 3}}, "longest=3 has no meaning"),
        ("set.csv", {"label": "a"}, "label='a' has no meaning for .*set.csv' as a table with gaps"),
        (".", {}, "is no table.*give a .csv"),
        ("lines.txt", {}, "is no table.*give a .csv"),
        ("nothing.csv", {}, "there is no file"),
    ],
)
def test_what_has_no_meaning_for_tables(tmp_path, monkeypatch, spec, options, message):
    monkeypatch.chdir(tmp_path)
    table(tmp_path, "a,b\n1,x\n")
    (tmp_path / "lines.txt").write_text("one\n")
    refused(message, spec, **options)


def test_gaps_is_a_choice():
    with pytest.raises(BadInputError, match="gaps is 'kept': give fail or keep"):
        load("iris", gaps="kept")


def test_a_codec_of_another_kind():
    from reparam.data.text import TextCodec

    refused("another kind than the run's data, which are of kind text", "iris", codec=TextCodec(4, ("a",)))


def test_parts_keep_the_codec():
    data = load("iris", gaps="keep")
    splits = split(data, seed=0)
    assert splits.train.codec is splits.test.codec is data.codec
    assert splits.train.columns == data.columns
    assert len(splits.train) == 120


def test_the_digest_tells_tables_apart(tmp_path):
    one, two, three = (from_frame({"a": column}).digest for column in (["x", "y"], ["x", "z"], ["x", None]))
    assert len({one, two, three}) == 3
    assert one == from_frame({"a": ["x", "y"]}).digest


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": [1.5, 1.5, None], "b": [1, 2, 3]}, "column 'a' is always 1.5"),
        ({"a": ["x", "x"]}, "column 'a' is always x"),
        ({"id": [2**24 + 1, 5]}, r"column 'id' has whole numbers above 2\^24"),
        ({"name": [f"p{i}" for i in range(30)]}, "column 'name' has a category of its own in each of 30 rows"),
        ({"a": ["Pear", "pear", "plum"]}, "column 'a' has the categories 'Pear' and 'pear': are they one"),
    ],
)
def test_what_is_odd_is_said(given, message):
    with pytest.warns(DataWarning, match=message) as caught:
        data = from_frame(given)
    assert len(caught) == 1
    from_frame(given, codec=data.codec)  # of other data, nothing is said


def test_no_room(tmp_path, monkeypatch):
    path = table(tmp_path, "a,b\n" + "1,2\n3,4\n" * 100)
    FRAME.to_parquet(tmp_path / "set.parquet")
    monkeypatch.setattr(check, "memory", lambda: 500)
    refused("GiB of memory", path)
    refused("GiB of memory", tmp_path / "set.parquet")


def test_types_of_parquet(tmp_path):
    path = tmp_path / "set.parquet"
    day, many = datetime.date(2020, 1, 1), pa.array([1, 2, None])
    for column, wanted in (
        (pa.array([decimal.Decimal("1.5"), None, decimal.Decimal(2)]), [1.5, NAN, 2]),
        (pa.array(["x", None, "a"], pa.string_view()), [1, NAN, 0]),
        (pa.array(["x", None, "a"]).dictionary_encode(), [0, NAN, 1]),  # which has an order of its own
        (pa.array([1.5, None, NAN]), [1.5, NAN, NAN]),
    ):
        pq.write_table(pa.table({"a": column, "b": many}), path)
        assert same(load(path, gaps="keep").x[:, 0], wanted)
    for column, message in (
        (pa.nulls(3), "column 'a' has nothing in it"),
        (pa.array([day, None, day]), "column 'a' has dtype date32"),
        (pa.array([[1], [2], [3]]), "column 'a' has dtype list"),
        (pa.array([b"x", b"y", None]), "column 'a' has dtype binary"),
        (pa.array([1.0, None, np.inf]), "row 3, column 'a': inf is not a finite"),
    ):
        pq.write_table(pa.table({"a": column, "b": many}), path)
        refused(message, path)


def test_damaged_parquet(tmp_path):
    FRAME.to_parquet(tmp_path / "set.parquet")
    whole = (tmp_path / "set.parquet").read_bytes()
    for end in (10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "set.parquet").write_bytes(whole[:end])
        refused("damaged|not .parquet", tmp_path / "set.parquet")


def test_columns_may_come_in_any_form():
    codec = TableCodec(("a",), {"a": ("1", "2")})
    assert same(codec.encode({"a": Column(np.array([2.0, np.nan, 1.0]))}), [[1], [NAN], [0]])
    with pytest.raises(BadInputError, match=re.escape("no column: at least one of 'a' is wanted")):
        codec.encode({})
