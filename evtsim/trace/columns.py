"""The door for data: whatever comes in leaves as contiguous, read-only columns that fit.

Values are looked at here and nowhere else, so that kernels can trust their types.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.dtypes import OUTCOME_DTYPE, RECORD_DTYPE, Columns
from evtsim.errors import TraceError
from evtsim.outcomes import FIELDS as OUTCOME_FIELDS
from evtsim.outcomes import Outcomes

if TYPE_CHECKING:
    import pyarrow as pa

    from evtsim.dtypes import Array

FIELDS: tuple[str, ...] = RECORD_DTYPE.names or ()
NEEDED = ("ts", "dom", "vcpu", "op")
ARGUMENTS = ("arg0", "arg1")

OUT_PREFIX = "out_"
COLUMN_DTYPES: dict[str, np.dtype[Any]] = {
    **{name: RECORD_DTYPE[name] for name in FIELDS},
    **{OUT_PREFIX + name: OUTCOME_DTYPE[name] for name in OUTCOME_FIELDS},
}
"""Every column that a file may have, by its name there."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where data comes from, for errors: a file, and the number of its first record here."""

    path: str | None = None
    first: int = 0

    def error(
        self, problem: str, name: str, index: int, value: object, expected: str
    ) -> TraceError:
        """Make the error about one value."""
        if isinstance(value, np.generic):
            value = value.item()
        return TraceError(
            problem,
            path=self.path,
            record=self.first + index,
            field=name,
            value=value,
            expected=expected,
        )


def expectation(name: str) -> str:
    """Say what a column holds."""
    info = np.iinfo(COLUMN_DTYPES[name])
    numbers = f"an integer from {info.min} to {info.max}"
    return f"an operation's name or {numbers}" if name == "op" else numbers


def fit_numbers(values: Array, name: str, place: Place) -> Array:
    """Cast numbers to a column's dtype if each of them fits, read-only and contiguous."""
    dtype = COLUMN_DTYPES[name]
    if values.dtype != dtype and len(values):
        info = np.iinfo(dtype)
        if values.dtype.kind == "b":
            values = values.view(np.uint8)
        if values.dtype.kind == "f":
            values = values.astype(np.float64, copy=False)
            # The bound above is a power of two, which a float holds exactly.
            with np.errstate(invalid="ignore"):
                bad = ~((values >= info.min) & (values < float(info.max + 1)) & (values % 1 == 0))
        else:
            # Python's integers compare without being cast, whatever the column's sign.
            bad = (values < info.min) | (values > info.max)
        if bad.any():
            index = int(np.argmax(bad))
            raise place.error("value does not fit", name, index, values[index], expectation(name))
    column = np.ascontiguousarray(values, dtype)
    if column.flags.writeable:
        column = column.view()
        column.flags.writeable = False
    return column


def parse_number(text: object, name: str) -> int | None:
    """Read one value of a column as a person writes it; None where it makes no sense."""
    if name == "op" and isinstance(text, str):
        word = text.strip().lower()
        if word in abi.OP_NUMBERS:
            return abi.OP_NUMBERS[word]
        text = word.removeprefix("op_")
    try:
        number = int(text, 0) if isinstance(text, str) else int(text)  # type: ignore[call-overload]
        if number != text and not isinstance(text, str):
            return None
    except (TypeError, ValueError, OverflowError):
        try:
            number = int(str(text), 10)  # leading zeros
        except ValueError:
            return None
    info = np.iinfo(COLUMN_DTYPES[name])
    return number if info.min <= number <= info.max else None


def fit_objects(values: Iterable[object], name: str, place: Place) -> Array:
    """Read words, or whatever else is not plain numbers, one by one."""
    numbers = []
    for index, value in enumerate(values):
        number = parse_number(value, name)
        if number is None:
            raise place.error("not a value of this field", name, index, value, expectation(name))
        numbers.append(number)
    return fit_numbers(np.array(numbers, COLUMN_DTYPES[name]), name, place)


def fit_array(values: Any, name: str, place: Place) -> Array:
    """Make a column of anything that numpy can make 1-D."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise TraceError(
            f"{array.ndim}-D", path=place.path, field=name, expected="one value a record"
        )
    if array.dtype.kind in "iufb":
        return fit_numbers(array, name, place)
    return fit_objects(array.tolist(), name, place)


def _view(values: pa.Array) -> Array:
    """Look at an Arrow array of numbers, without nulls, as numpy's.

    Its own to_numpy would import pandas, which takes longer than a small replay.
    """
    view: Array = np.from_dlpack(values)
    return view


def to_arrow(column: Array) -> pa.Array:
    """Look at a contiguous column as Arrow's, likewise."""
    import pyarrow as pa

    kind = pa.from_numpy_dtype(column.dtype)
    return pa.Array.from_buffers(kind, len(column), [None, pa.py_buffer(column)])


def fit_arrow(values: pa.Array, name: str, place: Place) -> Array:
    """Make a column of an Arrow array: integers as they are, words by their meaning."""
    import pyarrow as pa

    if values.null_count:
        index = int(np.argmax(values.is_null().to_pylist()))
        raise place.error("no value", name, index, None, expectation(name))
    if pa.types.is_integer(values.type) or pa.types.is_floating(values.type):
        return fit_numbers(_view(values), name, place)
    if pa.types.is_dictionary(values.type):
        words = fit_objects(values.dictionary.to_pylist(), name, place)
        return fit_numbers(words[_view(values.indices)], name, place)
    try:
        if name == "op":  # few words, many records
            encoded = values.dictionary_encode()
            words = fit_objects(encoded.dictionary.to_pylist(), name, place)
            return fit_numbers(words[_view(encoded.indices)], name, place)
        cast = values.cast(pa.from_numpy_dtype(COLUMN_DTYPES[name]))
        return fit_numbers(_view(cast), name, place)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, TraceError):
        return fit_objects(values.to_pylist(), name, place)  # tells which record is wrong


def fit_all(
    source: Mapping[str, Any], place: Place, fit: Callable[[Any, str, Place], Array]
) -> tuple[Columns, Outcomes | None]:
    """Make the columns of a stretch, and its recorded outcomes if there are any.

    Parameters
    ----------
    source : mapping of str to values
        By the columns' names in files; others are left out. Without flags nothing fails, and
        arguments may be missing that no operation here takes.
    place : Place
        For errors.
    fit : callable
        One of the functions above, by the kind of values.
    """
    require(source, place)
    fitted = {name: fit(source[name], name, place) for name in FIELDS if name in source}
    for name in FIELDS:
        if name not in fitted:
            fitted[name] = _absent(name, fitted["op"], place)
    columns = Columns(**fitted)
    recorded = {
        name: fit(source[OUT_PREFIX + name], OUT_PREFIX + name, place)
        for name in OUTCOME_FIELDS
        if OUT_PREFIX + name in source
    }
    lengths = {len(column) for column in (*columns, *recorded.values())}
    if len(lengths) > 1:
        raise TraceError(
            f"columns of {' and '.join(str(n) for n in sorted(lengths))} records",
            path=place.path,
            expected="the same number in each",
        )
    return columns, Outcomes(**recorded) if recorded else None


def _absent(name: str, op: Array, place: Place) -> Array:
    """Make a column of zeros for one that is missing; a TraceError if a record needs it."""
    if name in ARGUMENTS:
        number = ARGUMENTS.index(name)
        takers = [int(o) for o, names in abi.OP_ARGS.items() if len(names) > number]
        takes = np.isin(op, takers)
        if takes.any():
            index = int(np.argmax(takes))
            taker = abi.Op(op[index])
            needed = f"one: {abi.op_name(taker)} takes {abi.OP_ARGS[taker][number]}"
            raise place.error("no such column", name, index, None, needed)
    return fit_numbers(np.zeros(len(op), COLUMN_DTYPES[name]), name, place)


def require(names: Iterable[str], place: Place) -> None:
    """Raise a TraceError if a column is missing that every record needs."""
    names = list(names)
    present = set(names)
    missing = [name for name in NEEDED if name not in present]
    if missing:
        raise TraceError(
            f"no column {', '.join(missing)}", path=place.path, expected=", ".join(FIELDS)
        )
    if len(present) < len(names):
        raise TraceError("two columns of one name", path=place.path)


def checksum(columns: Columns, recorded: Outcomes | None) -> int:
    """CRC-32 over the bytes of all columns, in the order of their fields."""
    crc = 0
    for column in (*columns, *(column for _, column in (recorded.fields() if recorded else ()))):
        crc = zlib.crc32(np.ascontiguousarray(column).view(np.uint8).data, crc)
    return crc


def check_order(ts: Array, last: int, place: Place) -> int:
    """Check that time does not run backwards; the last ts.

    Parameters
    ----------
    ts : ndarray of uint64
        ns.
    last : int
        The ts of the record before, 0 if there is none.
    place : Place
        For errors.
    """
    from evtsim.trace._kernels import first_backwards  # which needs numba

    if len(ts) == 0:
        return last
    if int(ts[0]) < last:
        raise place.error("time runs backwards", "ts", 0, ts[0], f"at least {last}")
    index = first_backwards(ts)
    if index > 0:
        raise place.error(
            "time runs backwards", "ts", index, ts[index], f"at least {int(ts[index - 1])}"
        )
    return int(ts[-1])
