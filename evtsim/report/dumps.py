"""The dumps of a log as a page: the report's template, with the tables of each dump."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import __version__
from evtsim._files import written_whole
from evtsim.report.findings import Finding
from evtsim.report.page import rendered
from evtsim.report.tables import MOST_ROWS, NONE, Column, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from evtsim.interop.inspection import Inspection

TITLES = {
    "domains": ("Domains", "Ports in use against the likely limit, and what they are"),
    "channels": ("Who talks to whom", "Channels of each domain by the other end's. Most first"),
    "findings": ("Findings", "Every port. Worst first"),
    "changes": ("Changes", "Since the dump before"),
}


def html(inspections: Sequence[Inspection], changes: Sequence[pd.DataFrame]) -> str:
    """Return a page of the dumps of a log, which needs nothing beside it.

    Parameters
    ----------
    inspections : sequence of Inspection
        One for each dump, at least one.
    changes : sequence of DataFrame
        :func:`evtsim.interop.inspection.compare` of each dump and the one before it, from the
        second on.
    """
    several = len(inspections) > 1
    findings, tables = [], []
    for number, inspection in enumerate(inspections, 1):
        suffix, of = (f"-{number}", f"Dump {number}: ") if several else ("", "")
        findings += _findings(inspection, suffix, of)
        frames = {name: getattr(inspection, name) for name in ("domains", "channels", "findings")}
        if number > 1:
            frames["changes"] = changes[number - 2]
        tables += [_table(name, frame, suffix, of) for name, frame in frames.items() if len(frame)]
    last = inspections[-1]
    counts = last.domains[["ports", "pending"]].sum()
    trouble = int((last.findings["status"] == "problem").sum())
    of_last = "of the last dump" if several else ""
    return rendered(
        title=f"Event channels in {os.path.basename(last.snapshot.source) or 'a dump'}",  # noqa: PTH119
        version=__version__,
        note="",
        provenance={
            "Log": last.snapshot.source,
            "Dumps": "; ".join(_where(inspection) for inspection in inspections),
            "Made by": f"evtsim {__version__}",
        },
        numbers=[
            ("Dumps", f"{len(inspections):,}", "in the log"),
            ("Domains", f"{len(last.domains):,}", of_last),
            ("Ports", f"{int(counts['ports']):,}", "in use"),
            ("Pending", f"{int(counts['pending']):,}", "ports"),
            ("Problems", f"{trouble:,}", of_last),
        ],
        findings=sorted(findings, key=lambda finding: finding.status != "problem"),
        figures=[],
        tables=tables,
        missing="",
    )


def write(
    path: str | os.PathLike[str],
    inspections: Sequence[Inspection],
    changes: Sequence[pd.DataFrame],
    *,
    overwrite: bool = True,
) -> None:
    """Write a page of dumps, see :func:`html`."""
    page = html(inspections, changes)
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _where(inspection: Inspection) -> str:
    snapshot = inspection.snapshot
    time = f", {snapshot.time}" if snapshot.time else ""
    return f"lines {snapshot.line:,} to {snapshot.last_line:,}{time}"


def _findings(inspection: Inspection, suffix: str, of: str) -> list[Finding]:
    told = inspection.summaries()
    if not told:
        return [Finding(f"none{suffix}", "fine", f"{of}Nothing stands out")]
    table = f"findings{suffix}"
    return [
        Finding(f"{kind}{suffix}", status, f"{of}{title}", meaning, tuple(cases), table)
        for kind, status, title, meaning, cases in told
    ]


def _table(name: str, frame: pd.DataFrame, suffix: str, of: str) -> Table:
    title, note = TITLES[name]
    if len(frame) > MOST_ROWS:
        note += f"; the first {MOST_ROWS:,} of {len(frame):,} rows"
    shown = frame.head(MOST_ROWS)
    columns = tuple(
        Column(column, column.replace("_", " "), shown[column].dtype.kind not in "iu")
        for column in frame.columns
    )
    rows = [tuple(_cell(value) for value in row) for row in shown.itertuples(index=False)]
    return Table(f"{name}{suffix}", f"{of}{title}", f"{note}.", columns, rows)


def _cell(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or NONE
    if isinstance(value, (int, np.integer)):
        return f"{value:,}" if value >= 0 else NONE
    return str(value) or NONE
