"""Commands that replay, and what they leave: replay, verify, show."""

from __future__ import annotations

import contextlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.command import whole
from evtsim.cli.frames import (
    WRITERS,
    Csv,
    Parquet,
    Rows,
    check_tables,
    limited,
    print_frame,
    write_frame,
    write_tables,
)
from evtsim.cli.guests import Drain, with_guest
from evtsim.cli.output import (
    Force,
    HostFile,
    Json,
    count,
    print_json,
    print_table,
    progress,
    stopwatch,
)
from evtsim.cli.sizes import print_needs
from evtsim.cli.starting import simulator_at, warn_of_another_state
from evtsim.cli.summary import print_run
from evtsim.cli.traces import TraceFile, open_reader

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run
    from evtsim.simulator import Simulator
    from evtsim.streaming import LongReplay
    from evtsim.verification import Verification


@with_guest
def replay(
    trace: TraceFile,
    host: HostFile = None,
    outcomes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER/",
            help="Write the trace with every record's outcome here; a name that ends in / is a "
            "folder of part files.",
        ),
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
            help="Begin with this checkpoint's state, and go on counting what it counts; or with "
            "the last dump of a log, as 'evtsim inspect' reads it.",
        ),
    ] = None,
    guest: Any = None,
    drain: Drain = False,
    deliveries: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|FOLDER/",
            help="Write every delivery here (.csv, .parquet, .arrow), or into part files.",
        ),
    ] = None,
    most: Annotated[
        str | None,
        typer.Option(
            "--most", metavar="N", help="Of --deliveries FILE: keep the first N (10M at first)."
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Keep checkpoints here, from which --resume goes on."),
    ] = None,
    every: Annotated[
        str | None,
        typer.Option(metavar="N", help="Records to a part and a checkpoint (10M at first)."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the newest checkpoint, if there is one.")
    ] = False,
    threads: Annotated[
        int,
        typer.Option(metavar="N", parser=whole(1), help="Cores to use; the answers are the same."),
    ] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it needs and how long it takes.")
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Replay a trace of any length and sum up what happened.

    What an interrupted replay with --checkpoint leaves, --resume completes: the same command
    once more, and the results are the same to the byte.
    """
    from evtsim.errors import EvtsimError
    from evtsim.sizing import remember
    from evtsim.streaming import UNBOUNDED, LongReplay

    reader = open_reader(trace, host)
    parts, files = split_outputs({"outcomes": outcomes, "deliveries": deliveries})
    files["state"] = state
    if stats not in ("port", "domain", "none"):
        raise EvtsimError(f"--stats is {stats!r} (expected port, domain or none)")
    if resume and checkpoint is None:
        raise EvtsimError("--resume needs the folder of checkpoints (add --checkpoint FOLDER)")
    if every is not None and checkpoint is None and not parts:
        raise EvtsimError("--every is of checkpoints and part files (add --checkpoint FOLDER)")
    if checkpoint is not None and files["outcomes"] is not None:
        raise EvtsimError("--checkpoint needs outcomes in part files (--outcomes FOLDER/)")
    if most is not None and files["deliveries"] is None:
        raise EvtsimError("--most is of --deliveries FILE (expected that, too)")
    logged = None if files["deliveries"] is None else count("--most", most or "10M")
    if logged == 0:
        raise EvtsimError(f"--most is {most!r} (expected 1 or more)")
    level = None if stats == "none" else stats
    if deliveries is not None and level != "port":
        raise EvtsimError("--deliveries needs counts of ports (expected --stats port)")
    begun, before = None, None
    if start is not None:
        log = logged if parts.get("deliveries") is None else UNBOUNDED
        begun, before = simulator_at(start, reader.host, guest, level, log, threads)
        warn_of_another_state(reader, begun.state, start)
    if drain and (begun.guest if begun else guest) is None:
        raise EvtsimError("--drain lets guests go on (add --guest linux)")
    if dry_run:
        if begun is not None:
            raise EvtsimError("--dry-run tells of a host's start (expected it without --from)")
        print_needs(reader, guest, level, outcomes is not None, as_json)
        return
    if not resume:
        check_outputs(trace, files, save, force)
    with LongReplay(
        reader,
        guest=guest,
        stats=level,
        outcomes=parts.get("outcomes"),
        deliveries=parts.get("deliveries", logged),
        checkpoint=checkpoint,
        every=None if every is None else count("--every", every),
        resume=resume,
        drain=drain,
        threads=threads,
        overwrite=force,
        start=begun,
        before=before,
        outputs={"save": save, **files},
        notice=lambda line: print(f"evtsim: {line}", file=sys.stderr),
    ) as work:
        if resume:  # what this very replay wrote before it was killed may be written again
            force = force or work.owned
            check_outputs(trace, files, save, force)
        run, seconds = replay_whole(work, files["outcomes"], force)
    if state is not None:
        write_state(state, work.sim, force)
    if files["deliveries"] is not None:
        path = files["deliveries"]
        write_frame(path, frame_of(run, "deliveries", path), force)
    if save is not None:
        save_run(run, save, force)
    if not parts and files["outcomes"] is None:  # nothing was written on the way
        remember(work.sim, work.applied, seconds)
    print_run(run, as_json, seconds, work.applied)


def replay_whole(work: LongReplay, outcomes: str | None, force: bool) -> tuple[Run, float]:
    """Replay, with outcomes into one file if that is wanted; and tell how long it took."""
    from evtsim import __version__
    from evtsim.outcomes import FIELDS
    from evtsim.trace import files

    reader, write = work.reader, None
    with contextlib.ExitStack() as stack:
        if outcomes is not None:
            meta = {**reader.meta, "outcomes_by": f"evtsim {__version__}"}
            first = reader.first
            write = stack.enter_context(
                files.writer(outcomes, work.sim.host, meta, FIELDS, first, overwrite=force)
            )
        seconds = stopwatch(work.sim)
        with progress("replaying") as shown:
            run = work.run(shown, write)
        return run, seconds()


def split_outputs(
    paths: dict[str, str | None],
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Tell folders of part files, which end in /, from single files."""
    parts = {name: path for name, path in paths.items() if path is not None and path[-1:] == "/"}
    return parts, {name: None if name in parts else path for name, path in paths.items()}


def check_outputs(trace: str, files: dict[str, str | None], save: str | None, force: bool) -> None:
    """Raise an error now rather than after the work, or half of it."""
    from evtsim.errors import EvtsimError
    from evtsim.run import check_folder

    check_files({f"--{name}": path for name, path in files.items()}, force)
    if save is None:
        return
    folder = Path(save).resolve()
    for name, path in {"the trace": trace, **{f"--{n}": p for n, p in files.items()}}.items():
        if path is None or path == "-":
            continue
        file = Path(path).resolve()
        if folder in (file, file.parent):
            raise EvtsimError(f"{save}: cannot hold both {name} and --save")
    check_folder(save, overwrite=force)


def check_files(paths: dict[str, str | None], force: bool) -> None:
    """Raise an error if a file cannot be written, or may not be replaced."""
    from evtsim._files import check_target
    from evtsim.errors import EvtsimError

    seen: dict[str, str] = {}
    for option, path in paths.items():
        if path is None:
            continue
        if path == "-":
            raise EvtsimError(f"{option} -: the summary goes to stdout (expected a file)")
        check_target(path, overwrite=force, suffixes=WRITERS if option == "--deliveries" else ())
        if path in seen:
            raise EvtsimError(f"{path}: cannot hold both {seen[path]} and {option}")
        seen[path] = option


def write_state(path: str, sim: Simulator, force: bool) -> None:
    """Write the ports as a table, or a checkpoint, by the suffix."""
    if Path(path).suffix.lower() in WRITERS:
        write_frame(path, sim.state.ports(), force)
    else:
        sim.save(path, overwrite=force)


def frame_of(run: Run, name: str, where: str) -> pd.DataFrame:
    """Return a run's frame, and say so if it is the log of deliveries and not all of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if name == "deliveries" else "default")
        frame: pd.DataFrame = getattr(run, name)
    delivered = run.totals()["delivered"]
    if name == "deliveries" and len(frame) < delivered:
        print(
            f"evtsim: {where} has the first {len(frame):,} of {delivered:,} deliveries "
            "(replay --most keeps more)",
            file=sys.stderr,
        )
    return frame


def save_run(run: Run, folder: str, force: bool) -> None:
    """Keep a run; what a log of deliveries lacks is said in a line of our own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="the log has the first")
        run.save(folder, overwrite=force)


def verify(
    trace: TraceFile,
    host: HostFile = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="FILE", help="As for replay: a checkpoint, or a dump."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Compare recorded outcomes with those of a replay.

    Exit status 1 if any differs.
    """
    from evtsim.verification import verify as verify_trace

    reader = open_reader(trace, host)
    state = None
    if start is not None:
        state = simulator_at(start, reader.host, stats=None)[0].state
        warn_of_another_state(reader, state, start)
    with progress("verifying") as shown:
        result = verify_trace(reader, start=state, progress=shown)
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
    csv: Csv = None,
    parquet: Parquet = None,
    rows: Rows = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Print or export what a saved run holds.

    FRAME: ports, vcpus, domains, operations, timeline, latency, edges, deliveries
    (docs/statistics.md has their columns) or outcomes.
    """
    from evtsim.errors import EvtsimError
    from evtsim.outcomes import Outcomes
    from evtsim.run import FRAMES, Run

    if name not in (*FRAMES, "outcomes"):
        names = ", ".join([*FRAMES, "outcomes"])
        raise EvtsimError(f"no frame {name!r} (expected one of: {names})")
    check_tables(csv, parquet, as_json, force)
    run = Run.load(folder)
    if name in run.parts:
        where = f"{run.parts[name]!r}, which Parquet's readers open as one"
        raise EvtsimError(f"{folder}: {name} are in part files in {where}")
    kept = run.outcomes if name == "outcomes" else run
    if kept is None:
        raise EvtsimError(f"{folder}: outcomes were not kept (replay --outcomes keeps them)")
    frame: Any = kept.frame() if isinstance(kept, Outcomes) else frame_of(run, name, folder)
    write_tables(limited(frame, rows), csv, parquet, force)
    if as_json:
        print(limited(frame, rows).to_json(orient="records"))
    elif csv is None and parquet is None:
        print_frame(frame, rows, "--rows, --csv or --parquet")


COMMANDS = (replay, verify, show)
