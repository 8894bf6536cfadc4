"""How results are printed, and progress shown."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from evtsim.simulator import Simulator

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace a file that exists.")]
HostFile = Annotated[
    str | None,
    typer.Option("--host", metavar="FILE", help="A host file; overrides the trace's own."),
]


def stopwatch(sim: Simulator) -> Callable[[], float]:
    """Begin to take the time of a replay, and return what tells its seconds.

    Compiling kernels, or loading them, is not replaying.
    """
    sim.prepare()
    before, compiled = time.perf_counter(), sim.compile_seconds
    return lambda: time.perf_counter() - before - (sim.compile_seconds - compiled)


def print_json(data: Any) -> None:
    """Print a result as JSON."""
    print(json.dumps(data, indent=1))


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, grouped: bool = True
) -> None:
    """Print a result as a table, never cut; numbers are aligned right, by thousands if grouped."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[i], (int, float)) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_cell(value) if grouped else str(value)) for value in row))
    Console(highlight=False, width=1000).print(table)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def print_fields(fields: dict[str, object]) -> None:
    """Print names and values, one a line."""
    width = max(map(len, fields))
    for name, value in fields.items():
        print(f"{name:{width}}  {_cell(value)}")


@contextlib.contextmanager
def progress(
    what: str, unit: str = "records"
) -> Iterator[Callable[[int, int | None], None] | None]:
    """Show what is done, the rate and the time left on a terminal; nothing in a pipe."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    class Rate(TextColumn):
        def render(self, task: Any) -> Any:
            from rich.text import Text

            speed = task.finished_speed or task.speed
            if speed is None:
                return Text("")
            return Text(f"{speed / 1e6:.1f} M {unit}/s" if speed > 1e5 else f"{speed:.3g} {unit}/s")

    with Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(""),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def duration(ns: int) -> str:
    """Say a time in the unit that suits it."""
    for unit, size in (("s", 10**9), ("ms", 10**6), ("us", 10**3)):
        if ns >= size:
            return f"{ns / size:.4g} {unit}"
    return f"{ns} ns"


def size(count: int) -> str:
    """Say a number of bytes in the unit that suits it."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= factor:
            return f"{count / factor:.4g} {unit}"
    return f"{count} B"


def count(option: str, text: str) -> int:
    """Read a number of records as people write it: 500000, 500_000, 1e6, 10M."""
    word = text.strip()
    if re.fullmatch(r"\d{1,3}(,\d{3})+", word):
        word = word.replace(",", "")
    factor = {"k": 10**3, "m": 10**6, "g": 10**9}.get(word[-1:].lower(), 1)
    try:
        number = float(word[:-1] if factor > 1 else word) * factor
        if number < 0 or number != int(number):
            raise ValueError
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} is {text!r} (expected a number of records like 500000, 1e6 or 10M)"
        ) from None
    return int(number)
