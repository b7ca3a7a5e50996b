"""Tables in memory: data frames, and dictionaries of columns."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Mapping, Sequence
from decimal import Decimal
from numbers import Real
from reprlib import repr as short
from typing import Any

import numpy as np
from torch import Tensor

from reparam.data.check import DataWarning
from reparam.data.columns import check_names
from reparam.data.dataset import Array, Data
from reparam.data.table import Column, Place, TableCodec, learned, named, row_number
from reparam.errors import BadInputError

__all__ = ["as_categories", "columns_of", "from_columns", "from_frame"]

# From here on, float32 does not have all whole numbers.
_WHOLE = 2**24
# As many texts, each there once, are names rather than kinds.
_MANY = 20
_WANTED = "numbers, booleans, texts or categoricals are wanted; convert it (a date to days) or drop it"


def from_frame(frame: Any, *, name: str = "frame", categorical: Sequence[str] = (), codec: TableCodec | None = None) -> Data:
    """A table with gaps from a data frame: what models with named variables, `reparam.models.graphical`, are trained on.

    Numbers are read as float32. Texts, booleans and pandas' categoricals are categories, by the alphabet or in the order that they
    have; a boolean is one of "False" and "True". None, NaN, NaT, pandas.NA and blank texts are missing. The index is not read.

    Args:
        frame: of pandas, or with `to_pandas` as those of polars and pyarrow; or a dictionary of columns: N values each, in a list,
            an array or a tensor; N x K ones are columns "name.0", "name.1", ...
        name: what reports call it.
        categorical: columns of numbers that are names of categories, as class 1, 2 or 3.
        codec: of other data, to read these in the same way: the columns may be in any order, and those not there are all missing.

    Returns:
        Data whose `x` is N x D float32 with NaN where a value is missing, and whose `codec` decodes it.

    Raises:
        BadInputError: for a column of dates or of what else is no number or text, naming it; for infinite numbers, naming row and
            column (the first row is 1); for a column with nothing in it; for columns and categories that a given codec has not.

    Example:
        >>> from reparam.data import from_frame
        >>> data = from_frame({"length": [1.5, None, 2.0], "kind": ["dog", "cat", None]})
        >>> data.x
        tensor([[1.5000, 1.0000],
                [   nan, 0.0000],
                [2.0000,    nan]])
        >>> data.columns, data.codec.categories
        (('length', 'kind'), {'kind': ('cat', 'dog')})
        >>> data.scaling
        '1 column of numbers and 1 of categories; 2 of 6 values are missing'
    """
    found = as_categories(columns_of(frame, name), categorical, name)
    return from_columns(found, name=name, source=name, title=name, codec=codec)


def from_columns(
    found: Mapping[str, Column],
    *,
    name: str,
    source: str,
    title: str,
    place: Place = row_number,
    codec: TableCodec | None = None,
) -> Data:
    """A table from columns that a reader found, encoded by a codec that is given or learned from them.

    Raises:
        BadInputError: as `learned` and `TableCodec.encode`.
    """
    made = codec or learned(found, title=title, place=place)
    x = made.encode(found, title=title, place=place)
    if codec is None:
        _warn(found, made, title)
    return Data(x, None, name, source, "table", None, scaling(x, made), codec=made, columns=tuple(made.columns))


def scaling(x: Tensor, codec: TableCodec) -> str:
    """One sentence on a table, for people."""
    kinds = len(codec.categories)
    counts = {"numbers": len(codec.columns) - kinds, "categories": kinds}
    held = [(count, noun) for noun, count in counts.items() if count]
    said = " and ".join(f"{n} column{'s' * (n != 1)} of {noun}" if i == 0 else f"{n} of {noun}" for i, (n, noun) in enumerate(held))
    missing = int(x.isnan().sum())
    return f"{said}; " + (f"{missing} of {x.numel()} values are missing" if missing else "no value is missing")


def as_categories(found: Mapping[str, Column], names: Sequence[str], title: str) -> dict[str, Column]:
    """The columns, with the numbers of those that are named taken for names of categories.

    Raises:
        BadInputError: for a name of no column.
    """
    names = names.split(",") if isinstance(names, str) else names
    for name in names:
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(short, list(found)[:10]))}"
            raise BadInputError(f"{title} has no column {name!r} to be read as categories: {hint}")
    return {
        name: Column(np.array(column.texts, object), column.categories) if name in names else column
        for name, column in found.items()
    }


def columns_of(frame: Any, title: str) -> dict[str, Column]:
    """The columns of a data frame.

    Raises:
        BadInputError: for what is no data frame, and for a column of what is no number, boolean or text.
    """
    import pandas as pd

    if isinstance(frame, Mapping):
        frame = _frame_of(frame, title)
    elif not isinstance(frame, pd.DataFrame) and hasattr(frame, "to_pandas"):
        frame = frame.to_pandas()
    if not isinstance(frame, pd.DataFrame):
        raise BadInputError(f"{title} is of {type(frame).__name__}: a data frame or a dictionary of columns is wanted")
    if not frame.size:
        raise BadInputError(f"{title} has {len(frame)} rows and {frame.shape[1]} columns: at least one of each is wanted")
    if odd := [name for name in frame.columns if not isinstance(name, str | int)]:
        raise BadInputError(f"{title} has a column named {short(odd[0])}: texts are wanted as names")
    names = [str(name).strip() for name in frame.columns]
    check_names(names, title)
    return {name: _column(frame.iloc[:, i], f"{title}, column {short(name)}") for i, name in enumerate(names)}


def _frame_of(columns: Mapping[str, Any], title: str) -> Any:
    import pandas as pd

    made: dict[str, Any] = {}
    for name, column in columns.items():
        values = column.detach().cpu().numpy() if isinstance(column, Tensor) else column
        if isinstance(values, np.ndarray) and values.ndim == 2:
            made |= {f"{name}.{i}": values[:, i] for i in range(values.shape[1])} if values.shape[1] > 1 else {name: values[:, 0]}
        else:
            made[name] = values
    try:
        return pd.DataFrame(made)
    except (ValueError, TypeError) as error:
        raise BadInputError(f"{title} is no table ({error}): give as many values for each of its columns") from error


def _column(series: Any, where: str) -> Column:
    """Numbers, or texts; by what the column is said to hold, and where that is said of nothing, by what it holds."""
    import pandas as pd
    from pandas.api import types

    kind = series.dtype
    if isinstance(kind, pd.CategoricalDtype):
        names = [_text(category, where) for category in kind.categories]
        return Column(_objects([None if code < 0 else names[code] for code in series.cat.codes]), tuple(names) or None)
    if bool(series.isna().all()):
        return Column(np.full(len(series), np.nan))
    if types.is_bool_dtype(kind):
        return Column(_objects([None if pd.isna(value) else str(bool(value)) for value in series]), ("False", "True"))
    if types.is_complex_dtype(kind) or isinstance(kind, pd.SparseDtype):
        raise BadInputError(f"{where} has dtype {kind}: {_WANTED}")
    if types.is_numeric_dtype(kind):
        return Column(series.to_numpy(np.float64, na_value=np.nan))
    if not (types.is_string_dtype(kind) or types.is_object_dtype(kind)):
        raise BadInputError(f"{where} has dtype {kind}: {_WANTED}")
    return _mixed([None if _missing(value) else value for value in series], where)


def _mixed(values: list[Any], where: str) -> Column:
    """A column of objects, all of one kind."""
    nouns = {_noun(value) for value in values if value is not None}
    if len(nouns) == 1 and (noun := nouns.pop()):
        if noun == "numbers":
            return Column(np.array([np.nan if value is None else float(value) for value in values]))
        texts = _objects([None if value is None else str(value).strip() for value in values])
        return Column(texts, ("False", "True") if noun == "booleans" else None)
    before: str | None = None
    for row, value in enumerate(values, 1):
        if value is None:
            continue
        came, noun = f"{where} holds {short(value)}, of {type(value).__name__}, in row {row}", _noun(value)
        if noun is None:
            raise BadInputError(f"{came}: {_WANTED}")
        if before not in (None, noun):
            raise BadInputError(f"{came}: the rows before are {before}; give all of one kind")
        before = noun
    return Column(_objects([None] * len(values)))


def _missing(value: Any) -> bool:
    import pandas as pd

    return bool(pd.api.types.is_scalar(value) and pd.isna(value)) or (isinstance(value, str) and not value.strip())


def _noun(value: Any) -> str | None:
    """What a value is one of, if it is anything that a table holds."""
    if isinstance(value, bool | np.bool_):
        return "booleans"
    if isinstance(value, Real | Decimal):
        return "numbers"
    return "texts" if isinstance(value, str) else None


def _text(value: Any, where: str) -> str:
    noun = _noun(value)
    if noun is None or not str(value).strip():
        raise BadInputError(f"{where} has a category {short(value)}, of {type(value).__name__}: texts or numbers are wanted")
    return named(float(value)) if noun == "numbers" else str(value)


def _objects(values: list[str | None]) -> Array:
    made = np.empty(len(values), object)
    made[:] = values
    return made


def _warn(found: Mapping[str, Column], codec: TableCodec, title: str) -> None:
    """Warn of what is odd about columns that a model is to be trained on."""
    for name in codec.columns:
        column, names = found[name], codec.categories.get(name)
        known = column.values[column.filled]
        constant = bool((known == known[0]).all()) and len(known) > 1
        folded = {text.casefold(): text for text in names or ()}
        alike = next((text for text in names or () if folded[text.casefold()] != text), None)
        if constant:
            said = f"is always {known[0] if names else f'{known[0]:g}'}"
        elif names is None and (np.abs(known) > _WHOLE).any() and (known == np.rint(known)).all():
            said = "has whole numbers above 2^24, which float32 rounds: drop it, or read it as categories"
        elif names and len(names) == len(known) >= _MANY:
            said = f"has a category of its own in each of {len(known)} rows: drop it unless it means something"
        elif alike is not None:
            said = f"has the categories {alike!r} and {folded[alike.casefold()]!r}: are they one?"
        else:
            continue
        warnings.warn(f"{title}, column {short(name)} {said}", DataWarning, stacklevel=4)
