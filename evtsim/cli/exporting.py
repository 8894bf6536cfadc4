"""The command that writes replays for other tools: export."""

from __future__ import annotations

import re
import sys
from typing import Annotated, Any

import typer

from evtsim.cli.guests import Drain, nanoseconds, with_guest
from evtsim.cli.output import Force, HostFile, progress
from evtsim.cli.traces import TraceFile, open_trace

MAX_TS = 2**64 - 1
"""Times lie below; dtypes has it too, and would import numpy for it."""


@with_guest
def export(
    trace: TraceFile,
    perfetto: Annotated[
        str,
        typer.Option(
            "--perfetto",
            metavar="FILE",
            help="Chrome JSON (.json, .json.gz) to open in ui.perfetto.dev.",
        ),
    ],
    window: Annotated[
        str | None,
        typer.Option(
            metavar="FROM:TO",
            help="Write what ends or happens in this time: 1s:1.5s, 20ms:, :3000000 (ns).",
        ),
    ] = None,
    domains: Annotated[
        list[str] | None,
        typer.Option("--dom", metavar="DOM", help="Write this domain; repeatable, or 0,3,7-9."),
    ] = None,
    host: HostFile = None,
    guest: Any = None,
    drain: Drain = False,
    force: Force = False,
) -> None:
    """Replay a trace and write what happened for Perfetto: pending bits, arrows, kicks.

    One row a vcpu. A slice is a pending bit, an arrow goes from a send to its delivery.
    """
    from evtsim.errors import EvtsimError
    from evtsim.interop import perfetto as exporter

    loaded = open_trace(trace, host)
    if drain and guest is None:
        raise EvtsimError("--drain lets guests go on (add --guest linux)")
    with progress("exporting") as shown:
        events = exporter.write(
            loaded,
            perfetto,
            guest=guest,
            window=None if window is None else bounds(window),
            domains=None if domains is None else numbers(domains),
            drain=drain,
            overwrite=force,
            progress=shown,
        )
    print(f"evtsim: {perfetto}: {events:,} events", file=sys.stderr)


def bounds(text: str) -> tuple[int | None, int | None]:
    """Read a window: two times, either of which may be missing."""
    begin, colon, end = text.partition(":")
    if not colon:
        raise typer.BadParameter(f"--window is {text!r} (expected FROM:TO, like 1s:1.5s)")
    first, last = (_time(word.strip()) for word in (begin, end))
    if first is not None and last is not None and first > last:
        raise typer.BadParameter(f"--window is {text!r} (expected FROM before TO)")
    return first, last


def _time(word: str) -> int | None:
    if not word:
        return None
    if re.fullmatch(r"\d{1,20}(ns)?", word) and int(word.removesuffix("ns")) < MAX_TS:
        return int(word.removesuffix("ns"))  # to the ns, which a float could not be
    return nanoseconds("--window", word)


def numbers(words: list[str]) -> set[int]:
    """Read domains: 0,3,7-9."""
    found: set[int] = set()
    for word in (part.strip() for text in words for part in text.split(",")):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise typer.BadParameter(f"--dom is {word!r} (expected domains like 0,3,7-9)")
        found.update(range(first, last + 1))
    return found


COMMANDS = (export,)
