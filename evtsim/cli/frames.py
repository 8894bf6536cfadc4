"""Frames on the command line: how many rows, as a table, as JSON, into files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.command import whole
from evtsim.cli.output import print_table

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 40
"""Of a table to look at, if nobody says how many."""

WRITERS = {".csv": "to_csv", ".parquet": "to_parquet", ".arrow": "to_feather"}
"""The frame's method for each suffix."""

Rows = Annotated[
    int | None,
    typer.Option(
        "--rows",
        "-n",
        metavar="N",
        parser=whole(),
        help=f"The most rows. If nothing is said, {SHOWN_ROWS} are printed, and all in any "
        "other form.",
    ),
]
Csv = Annotated[
    str | None, typer.Option("--csv", metavar="FILE", help="Write it here as CSV; - is stdout.")
]
Parquet = Annotated[
    str | None, typer.Option("--parquet", metavar="FILE", help="Write it here as Parquet.")
]


def limited(frame: pd.DataFrame, rows: int | None) -> pd.DataFrame:
    """Return the rows that are wanted: all of them, if nothing is said."""
    return frame if rows is None else frame.head(rows)


def print_frame(frame: pd.DataFrame, rows: int | None, others: str = "--rows or --json") -> None:
    """Print the first rows of a frame, and how many more there are; `others` would show them."""
    table = limited(frame, SHOWN_ROWS if rows is None else rows).astype(object)
    print_table(list(map(str, frame)), table.itertuples(index=False), grouped=False)
    if len(frame) > len(table):
        print(f"… {len(frame) - len(table):,} more rows ({others} show them)")


def plain_rows(frame: pd.DataFrame, rows: int | None = None, digits: int = 10) -> Any:
    """Return a frame's rows as plain data, for JSON."""
    text = limited(frame, rows).to_json(orient="records", double_precision=digits)
    return json.loads(text)


def check_tables(csv: str | None, parquet: str | None, as_json: bool, force: bool) -> None:
    """Raise an error now, rather than after the work, if a frame could not be written."""
    from evtsim._files import check_target
    from evtsim.errors import EvtsimError

    if csv == "-" and as_json:
        raise EvtsimError("--csv - and --json both write to stdout (expected one of them)")
    if parquet == "-":
        raise EvtsimError("--parquet -: stdout takes no Parquet (expected a file)")
    for path in (csv, parquet):
        if path not in (None, "-"):
            assert path is not None
            check_target(path, overwrite=force)
    if csv is not None and csv == parquet:
        raise EvtsimError(f"{csv}: cannot hold both --csv and --parquet")


def write_tables(frame: pd.DataFrame, csv: str | None, parquet: str | None, force: bool) -> None:
    """Write a frame as CSV, to stdout too, as Parquet, or both."""
    if csv == "-":
        frame.to_csv(sys.stdout, index=False)
    elif csv is not None:
        write_frame(csv, frame, force, ".csv")
    if parquet is not None:
        write_frame(parquet, frame, force, ".parquet")


def write_frame(path: str, frame: pd.DataFrame, force: bool, suffix: str | None = None) -> None:
    """Write a frame by its path's suffix, or as if it had another."""
    from evtsim._files import written_whole

    method = WRITERS[suffix or Path(path).suffix.lower()]
    options = {} if method == "to_feather" else {"index": False}
    with written_whole(path, overwrite=force) as temporary:
        getattr(frame, method)(temporary, **options)
