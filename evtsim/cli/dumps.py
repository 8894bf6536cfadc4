"""``evtsim inspect``: what the dumps of a log show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.command import whole
from evtsim.cli.output import Force, Json, print_json, print_table
from evtsim.cli.reports import check_page
from evtsim.cli.starting import begun

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.interop.inspection import Inspection
    from evtsim.interop.snapshots import Snapshot

MOST_PAIRS = 20
"""Of those who talk to whom; --json has all."""

MATRIX = 16
"""Up to so many domains are shown as a matrix."""


def inspect(
    log: Annotated[
        str,
        typer.Argument(
            metavar="LOG",
            help="A console log with dumps of Xen's debug key e, or what lsevtchn printed; .gz; "
            "- for stdin.",
            show_default=False,
        ),
    ],
    dom: Annotated[
        int | None,
        typer.Option(
            metavar="DOM",
            parser=whole(0, 65535),
            help="Tell of this domain only; whose lsevtchn's is.",
        ),
    ] = None,
    page: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write a page with it all.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the last dump's state here, for 'replay --from'."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with status 1 if there are findings.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> int:
    """Show what dumps of event channels tell: ports, channels, and what looks wrong.

    A log with several dumps of a host is also searched for what changed between them.
    """
    from evtsim.errors import EvtsimError
    from evtsim.interop import dumps, inspection
    from evtsim.report import dumps as pages

    if page is not None:
        check_page(page, force)
    if state is not None:
        _check_state(state, force)
    snapshots = dumps.read(log, dom=dom or 0)
    if dom is not None and not any(dom in set(each.domains["dom"]) for each in snapshots):
        raise EvtsimError(f"{log}: no domain {dom} in its dumps")
    pairs = list(zip([None, *snapshots[:-1]], snapshots, strict=True))
    inspections = [inspection.inspect(s, dom=dom, before=before) for before, s in pairs]
    changes = [_changes(before, s, dom) for before, s in pairs[1:] if before is not None]
    if state is not None:
        _write_state(snapshots[-1], state, force)
    if page is not None:
        pages.write(page, inspections, changes, overwrite=force)
    if as_json:
        told = [each.to_dict() for each in inspections]
        for later, changed in zip(told[1:], changes, strict=True):
            later["changes"] = changed.to_dict("records")
        print_json({"log": log, "dumps": told})
    else:
        for number, each in enumerate(inspections, 1):
            _print(each, f"dump {number} of {len(inspections)}")
            if number > 1:
                _print_changes(changes[number - 2])
    return 1 if check and any(len(each.findings) for each in inspections) else 0


def _changes(before: Snapshot, after: Snapshot, dom: int | None) -> pd.DataFrame:
    from evtsim.interop import inspection

    changed = inspection.compare(before, after)
    return changed if dom is None else changed[changed["dom"] == dom]


def _check_state(path: str, force: bool) -> None:
    """Raise an error now rather than after the log is read."""
    from evtsim._files import check_target
    from evtsim.errors import EvtsimError

    if path.lower().endswith((".csv", ".parquet", ".arrow", ".json")):
        raise EvtsimError(
            f"{path}: a state is a checkpoint, and no table (expected another suffix)"
        )
    check_target(path, overwrite=force)


def _write_state(snapshot: Snapshot, path: str, force: bool) -> None:
    """Write a checkpoint, and on stderr what of the dump was not taken as it is."""
    begun(snapshot).save(path, overwrite=force)


def _print(inspection: Inspection, which: str) -> None:
    """Print what one dump shows."""
    s = inspection.snapshot
    form = {"e": "debug key e", "e-2010": "debug key e of 2010", "lsevtchn": "lsevtchn"}[s.form]
    time = f", {s.time}" if s.time else ""
    print(f"{which}: {form}, lines {s.line:,} to {s.last_line:,}{time}\n")
    frame = inspection.domains.drop(columns="polling")
    print_table(frame.columns.tolist(), frame.to_numpy(object).tolist(), grouped=False)
    polling = inspection.domains[inspection.domains["polling"].map(len) > 0]
    for dom, vcpus in zip(polling["dom"], polling["polling"], strict=True):
        print(f"dom{dom}: polling vcpus {', '.join(map(str, vcpus))}")
    _print_channels(inspection.channels)
    told = inspection.summaries()
    print("\nnothing stands out" if not told else "")
    for kind, status, title, meaning, cases in told:
        print(f"{status}: {title}")
        print(f"  {meaning}")
        for case in cases:
            print(f"  - {case}")
        more = int((inspection.findings["kind"] == kind).sum()) - len(cases)
        if more:
            print(f"  and {more:,} more (--json or --html has them)")
    print()


def _print_channels(channels: pd.DataFrame) -> None:
    """Print who talks to whom: a matrix, or the pairs with most channels."""
    if channels.empty:
        return
    print("\nchannels, by domain and the other end's domain")
    doms = sorted({*channels["dom"].tolist(), *channels["remote_dom"].tolist()})
    if len(doms) <= MATRIX:
        table: Any = channels.pivot_table("channels", "dom", "remote_dom", fill_value=0)
        cells = table.reindex(index=doms, columns=doms, fill_value=0).astype(int)
        rows = [[f"dom{d}", *(n or "·" for n in cells.loc[d].tolist())] for d in doms]
        print_table(["", *(f"dom{d}" for d in doms)], rows)
        return
    rows = channels.head(MOST_PAIRS).to_numpy().tolist()
    print_table(channels.columns.tolist(), rows, grouped=False)
    if len(channels) > MOST_PAIRS:
        print(f"and {len(channels) - MOST_PAIRS:,} pairs more (--json has them)")


def _print_changes(changes: pd.DataFrame) -> None:
    """Print how much changed since the dump before, and the ports that are stuck."""
    counts = changes["change"].value_counts()
    words = [f"{number:,} {change}" for change, number in counts.items()]
    print(f"since the dump before: {', '.join(words) or 'nothing changed'}\n")
