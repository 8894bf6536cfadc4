"""Commands that replay, and what they leave: replay, verify, show."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.guests import Eoi, GuestSeed, Handler, Scan, Wake, guest_of
from evtsim.cli.output import (
    Force,
    HostFile,
    Json,
    count,
    print_json,
    print_table,
    progress,
)
from evtsim.cli.summary import print_run
from evtsim.cli.traces import TraceFile, open_trace

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.guest import Guest
    from evtsim.run import Run
    from evtsim.simulator import Simulator
    from evtsim.trace import Trace
    from evtsim.verification import Verification

FRAME_WRITERS = {".csv": "to_csv", ".parquet": "to_parquet", ".arrow": "to_feather"}


def replay(
    trace: TraceFile,
    host: HostFile = None,
    outcomes: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the trace with every record's outcome here."),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Write the final state here: the ports (.csv, .parquet, .arrow), or with any "
            "other suffix a checkpoint.",
        ),
    ] = None,
    stats: Annotated[
        str, typer.Option(metavar="LEVEL", help="What to count: port, domain or none.")
    ] = "port",
    save: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Keep the whole run here, for 'evtsim show'."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FILE",
            help="Begin with this checkpoint's state, and go on counting what it counts.",
        ),
    ] = None,
    scan: Scan = None,
    wake: Wake = None,
    handler: Handler = None,
    eoi: Eoi = None,
    guest_seed: GuestSeed = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Let guests go on after the last record.")
    ] = False,
    deliveries: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write every delivery here (.csv, .parquet, .arrow)."),
    ] = None,
    most: Annotated[
        str, typer.Option("--most", metavar="N", help="Of --deliveries: keep the first N.")
    ] = "10M",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Replay a trace and sum up what happened."""
    from evtsim.errors import EvtsimError
    from evtsim.run import DESCRIPTION, Run

    loaded = open_trace(trace, host)
    check_outputs({"--outcomes": outcomes, "--state": state, "--deliveries": deliveries}, force)
    if save is not None and (Path(save) / DESCRIPTION).exists() and not force:
        raise EvtsimError(f"{save}: holds a run already (--force replaces it)")
    guest = guest_of(scan, wake, handler, eoi, guest_seed)
    logged = count(most) if deliveries is not None else None
    sim = simulator(loaded, guest, stats, logged, start)
    if drain and sim.guest is None:
        raise EvtsimError("--drain lets guests go on (add --guest linux)")
    first = sim.records
    before = time.perf_counter()
    with progress("replaying") as shown:
        kept = sim.apply(loaded, outcomes=outcomes is not None, progress=shown)
    if drain:
        sim.drain()
    seconds = time.perf_counter() - before - sim.compile_seconds
    run = Run.of(sim, kept, loaded)
    if outcomes is not None:
        write_outcomes(outcomes, loaded, kept, first, force)
    if state is not None:
        write_state(state, sim, force)
    if deliveries is not None:
        write_deliveries(deliveries, run, force)
    if save is not None:
        run.save(save, overwrite=force)
    print_run(run, as_json, seconds)


def simulator(
    trace: Trace, guest: Guest | None, stats: str, deliveries: int | None, start: str | None
) -> Simulator:
    """Make the simulator that a trace begins with: a fresh one, or a checkpoint's."""
    from evtsim.errors import EvtsimError
    from evtsim.simulator import Simulator

    if stats not in ("port", "domain", "none"):
        raise EvtsimError(f"--stats is {stats!r} (expected port, domain or none)")
    host = trace.require_host()
    if start is None:
        level = None if stats == "none" else stats
        return Simulator(host, guest, level, deliveries=deliveries)
    if guest is not None or deliveries is not None:
        raise EvtsimError("--from goes on with the checkpoint's guest and log (expected no other)")
    sim = Simulator.load(start)
    if sim.host != host:
        raise EvtsimError(f"{start}: is of another host than the trace")
    return sim


def check_outputs(paths: dict[str, str | None], force: bool) -> None:
    """Raise an error now rather than after the work, or half of it."""
    from evtsim.errors import EvtsimError

    seen: dict[str, str] = {}
    for option, path in paths.items():
        if path is None:
            continue
        if path == "-":
            raise EvtsimError(f"{option} -: the summary goes to stdout (expected a file)")
        if not Path(path).parent.is_dir():
            raise EvtsimError(f"{path}: No such file or directory")
        if Path(path).is_file() and not force:
            raise EvtsimError(f"{path}: exists already (--force replaces it)")
        if path in seen:
            raise EvtsimError(f"{path}: cannot hold both {seen[path]} and {option}")
        seen[path] = option
    log = paths["--deliveries"]
    if log is not None and Path(log).suffix not in FRAME_WRITERS:
        raise EvtsimError(f"{log}: unknown suffix (expected {', '.join(FRAME_WRITERS)})")


def write_outcomes(path: str, trace: Any, outcomes: Any, first: int, force: bool) -> None:
    """Write a trace with what its replay answered."""
    from evtsim import __version__
    from evtsim.trace import files

    meta = {**trace.meta, "outcomes_by": f"evtsim {__version__}"}
    names = [name for name, _ in outcomes.fields()]
    first += trace.first
    with files.writer(path, trace.require_host(), meta, names, first, overwrite=force) as write:
        for start, columns, _ in trace.stretches():
            write(columns, outcomes[start : start + len(columns.ts)])


def write_state(path: str, sim: Simulator, force: bool) -> None:
    """Write the ports as a table, or a checkpoint, by the suffix."""
    if Path(path).suffix in FRAME_WRITERS:
        write_frame(path, sim.state.ports(), force)
    else:
        sim.save(path, overwrite=force)


def write_deliveries(path: str, run: Run, force: bool) -> None:
    """Write the log of deliveries, and say so if it is not all of them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frame = run.deliveries
    write_frame(path, frame, force)
    for _ in caught:
        delivered = run.totals()["delivered"]
        print(
            f"evtsim: {path} has the first {len(frame):,} of {delivered:,} deliveries "
            "(--most keeps more)",
            file=sys.stderr,
        )


def write_frame(path: str, frame: pd.DataFrame, force: bool) -> None:
    """Write a frame by the suffix."""
    from evtsim._files import written_whole

    method = FRAME_WRITERS[Path(path).suffix]
    options = {} if method == "to_feather" else {"index": False}
    with written_whole(path, overwrite=force) as temporary:
        getattr(frame, method)(temporary, **options)


def verify(trace: TraceFile, host: HostFile = None, as_json: Json = False) -> int:
    """Compare recorded outcomes with those of a replay.

    Exit status 1 if any differs.
    """
    from evtsim.verification import verify as verify_trace

    loaded = open_trace(trace, host)
    with progress("verifying") as shown:
        result = verify_trace(loaded, progress=shown)
    if as_json:
        print_json(result.to_dict())
    else:
        print_verification(trace, result)
    return 0 if result else 1


def print_verification(name: str, result: Verification) -> None:
    """Print what verify found: one line if all is well."""
    print(f"{name}: {result}")
    if result:
        return
    print()
    print_table(
        ["operation", "differ", "of"],
        [(op, differ, records) for op, (differ, records) in result.by_op.items() if differ],
    )
    print()
    print_table(["field", "differ"], [(f, n) for f, n in result.by_field.items() if n])
    print()
    rows = []
    for row in result.context:
        pairs = [(f, row[f"recorded_{f}"], row[f"simulated_{f}"]) for f in result.compared]
        wrong = "; ".join(
            f"{f} {was} recorded, {now} simulated" for f, was, now in pairs if was != now
        )
        place = ("record", "ts", "dom", "vcpu", "op", "arg0", "arg1")
        rows.append([*(str(row[name]) for name in place), wrong or "agrees"])
    print_table(["record", "ts", "dom", "vcpu", "op", "arg0", "arg1", "outcome"], rows)


def show(
    folder: Annotated[str, typer.Argument(metavar="RUN", help="A folder of 'replay --save'.")],
    name: Annotated[str, typer.Argument(metavar="FRAME", help="ports, vcpus, domains, …")],
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="Write it here as CSV.")] = None,
    parquet: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write it here as Parquet.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", "-n", help="The most rows to print.")] = 40,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Print or export what a saved run holds.

    FRAME: ports, vcpus, domains, operations, timeline, latency, edges, deliveries
    (docs/statistics.md has their columns) or outcomes.
    """
    from evtsim._files import written_whole
    from evtsim.errors import EvtsimError
    from evtsim.outcomes import Outcomes
    from evtsim.run import FRAMES, Run

    if name not in (*FRAMES, "outcomes"):
        names = ", ".join([*FRAMES, "outcomes"])
        raise EvtsimError(f"no frame {name!r} (expected one of: {names})")
    run = Run.load(folder)
    kept = run.outcomes if name == "outcomes" else run
    if kept is None:
        raise EvtsimError(f"{folder}: outcomes were not kept (replay --outcomes keeps them)")
    frame: Any = kept.frame() if isinstance(kept, Outcomes) else getattr(run, name)
    for path, method in ((csv, "to_csv"), (parquet, "to_parquet")):
        if path == "-" and method == "to_csv":
            print(frame.to_csv(index=False), end="")
        elif path is not None:
            with written_whole(path, overwrite=force) as temporary:
                getattr(frame, method)(temporary, index=False)
    if as_json:
        print(frame.to_json(orient="records"))
    elif csv is None and parquet is None:
        table = frame.head(rows).astype(object)
        print_table(list(frame), table.itertuples(index=False), grouped=False)
        if len(frame) > rows:
            print(f"… {len(frame) - rows:,} more rows (--rows, --csv or --parquet show them)")


COMMANDS = (replay, verify, show)
