"""Commands that show a run to people: report, demo."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.guests import Drain, with_guest
from evtsim.cli.output import Force, HostFile, count, progress, size, stopwatch
from evtsim.cli.summary import print_run
from evtsim.cli.traces import open_reader, open_trace

if TYPE_CHECKING:
    from evtsim.guest import Guest
    from evtsim.run import Run

SUFFIXES = (".html", ".htm")

TRACE, RUN, PAGE = "mixed.arrow", "mixed.run", "report.html"
PLOTS = ("timeline", "pending", "latency_cdf", "coalescing")
MADE = (TRACE, RUN, PAGE, *(f"{name}.png" for name in PLOTS))
"""What the demo leaves in its folder. The report has more plots."""

SAMPLE = "xen-4.0-default.arrow"


@with_guest
def report(
    source: Annotated[
        str,
        typer.Argument(
            metavar="TRACE|RUN",
            help="A trace, which is replayed, or a folder of 'replay --save'.",
            show_default=False,
        ),
    ],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="The page to write.")
    ] = "report.html",
    title: Annotated[str | None, typer.Option(help="Its title, if not the trace's name.")] = None,
    host: HostFile = None,
    guest: Any = None,
    drain: Drain = False,
    force: Force = False,
) -> None:
    """Write a run as one HTML page: findings in words, plots, tables.

    The page needs nothing beside it, and no network.
    """
    from evtsim import report as reports

    check_page(output, force)
    run = run_of(source, host, guest, drain)
    reports.write(run, output, title, overwrite=force)
    print(f"{output}: {size(Path(output).stat().st_size)}")


def check_page(path: str, force: bool) -> None:
    """Raise an error now rather than after the replay."""
    from evtsim._files import check_target

    check_target(path, overwrite=force, suffixes=SUFFIXES)


def run_of(source: str, host: str | None, guest: Guest | None, drain: bool) -> Run:
    """Load a run, or replay a trace."""
    from evtsim.errors import EvtsimError
    from evtsim.run import Run
    from evtsim.streaming import replay_file

    if drain and guest is None:
        raise EvtsimError("--drain lets guests go on (add --guest linux)")
    if Path(source).is_dir():
        if host is not None or guest is not None:
            raise EvtsimError(f"{source}: is a run that has its host and guest (expected no other)")
        return Run.load(source)
    reader = open_reader(source, host)
    with progress("replaying") as shown:
        return replay_file(reader, guest=guest, drain=drain, progress=shown)


def demo(
    records: Annotated[
        str,
        typer.Option(
            "--records", "-n", metavar="N", help="Of the generated trace: 20000, 1e6, 10M."
        ),
    ] = "1M",
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="For the report and the rest.")
    ] = "evtsim-demo",
    force: Force = False,
) -> int:
    """Show the main job: generate a trace, replay it, sum it up, write a report and plots.

    Besides, a recording of Xen's own code is verified. What an earlier demo wrote is replaced.
    """
    from evtsim import workloads
    from evtsim.guest import Guest
    from evtsim.run import Run
    from evtsim.simulator import Simulator
    from evtsim.workloads.parameters import RECORDS

    folder = Path(output)
    wanted = RECORDS.read(count("--records", records))
    prepare(folder, force)
    # Another core compiles the kernels that verifying needs, while this one compiles its own.
    with verifying() as verification:
        print(f"A generated trace of 200 domains. {workloads.describe('mixed')}\n", flush=True)
        made = workloads.generate("mixed", records=wanted, domains=200, deliver="model")
        made.save(folder / TRACE, overwrite=True)
        trace = open_trace(str(folder / TRACE))
        with progress("replaying") as shown:
            sim = Simulator(trace.require_host(), Guest(), "port")
            seconds = stopwatch(sim)
            sim.apply(trace, outcomes=False, progress=shown)
            taken = seconds()
        run = Run.of(sim, None, trace)
        print_run(run, False, taken)
        write_all(run, folder)
        print(f"\nIn {folder}: {', '.join(MADE)}")
        print("\nA recording of Xen's own code, random operations with Xen's answers:", flush=True)
        verified = verification.communicate()[0]
        print(verified, end="")
    print(
        f"\nOpen {folder / PAGE} in a browser. Next:"
        f"\n  evtsim show {folder / RUN} edges"
        f"\n  evtsim report {folder / TRACE} --guest linux --wake 50us --eoi late:5us -o late.html"
        "\n  evtsim generate storm storm.arrow --records 1M -p domains=50"
    )
    return 0 if verification.returncode == 0 else 1


def prepare(folder: Path, force: bool) -> None:
    """Make the demo's folder; do not write among files of others'."""
    from evtsim._files import folder_made
    from evtsim.errors import EvtsimError

    folder_made(folder)
    others = sorted({path.name for path in folder.iterdir()} - set(MADE))
    if others and not force:
        raise EvtsimError(f"{folder}: has other files, {others[0]} (--force writes beside them)")


@contextlib.contextmanager
def verifying() -> Iterator[subprocess.Popen[str]]:
    """Verify a sample in another process, which does not outlive this one's work."""
    from evtsim import samples

    command = [sys.executable, "-P", "-m", "evtsim", "verify", str(samples.path(SAMPLE))]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def write_all(run: Run, folder: Path) -> None:
    """Write a run, its report and its plots."""
    from matplotlib.figure import Figure

    from evtsim import plots
    from evtsim import report as reports
    from evtsim._files import written_whole

    run.save(folder / RUN, overwrite=True)
    reports.write(run, folder / PAGE)
    for name in PLOTS:
        figure = Figure(figsize=(7.5, 4), layout="constrained")
        getattr(plots, name)(run, figure.subplots())
        with written_whole(folder / f"{name}.png") as temporary:
            figure.savefig(temporary, dpi=150)
