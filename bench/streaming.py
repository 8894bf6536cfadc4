"""From a file to a summary: what each stage costs, in ns of CPU time a record, and in memory.

    python -m bench.streaming [RECORDS] [FOLDER]

Each stage runs in a process of its own, on a trace of `mixed` with 1,000 domains; kernels are
compiled before. Memory is what was resident besides the trace's map: the most after any piece of a
replay, or else at the end.
"""

import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

import evtsim
from evtsim import Trace, workloads
from evtsim.trace import TraceReader
from evtsim.trace.digest import Digest

DOMAINS = 1000


def resident():
    """Return the megabytes that are resident and not a file's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssAnon:")[2].split()[0]) / 1000


def read(path):
    for _ in TraceReader(path):
        pass


def digest(path):
    digest = Digest()
    for piece in TraceReader(path):
        digest.update(piece.columns)


def validate(path):
    Trace.load(path).validate()


def replay(path, stats, **options):
    most = [0.0]
    options = {name: f"{path}.{place}" for name, place in options.items()}
    evtsim.replay_file(
        path, stats=stats, progress=lambda *_: most.append(resident()), overwrite=True, **options
    )
    return max(most)


def summary(path):
    """Go the whole way, with all frames."""
    run = evtsim.replay_file(path)
    run.summary()
    for name in evtsim.run.FRAMES[:-1]:
        getattr(run, name)


def save(path):
    evtsim.replay_file(path).save(f"{path}.run", overwrite=True)


STAGES = {
    "read Arrow, CRC and order checked": (read, ".arrow", {}),
    "read Parquet": (read, ".parquet", {}),
    "read CSV": (read, ".csv", {}),
    "read Arrow and take the digest": (digest, ".arrow", {}),
    "validate": (validate, ".arrow", {}),
    "replay, no statistics": (replay, ".arrow", {"stats": None}),
    'replay, "domain"': (replay, ".arrow", {"stats": "domain"}),
    'replay, "port"': (replay, ".arrow", {"stats": "port"}),
    'replay "port" of Parquet': (replay, ".parquet", {"stats": "port"}),
    'replay "port" of CSV': (replay, ".csv", {"stats": "port"}),
    '"port" and checkpoints': (replay, ".arrow", {"stats": "port", "checkpoint": "c"}),
    '"port" and outcomes in parts': (replay, ".arrow", {"stats": "port", "outcomes": "o"}),
    '"port", outcomes, deliveries': (
        replay,
        ".arrow",
        {"stats": "port", "outcomes": "o", "deliveries": "d"},
    ),
    '"port" and all frames': (summary, ".arrow", {}),
    '"port" and the run saved': (save, ".arrow", {}),
}


def stage(name, folder, records):
    """Measure one stage and print it."""
    function, suffix, options = STAGES[name]
    warm = folder / f"warm{suffix}"
    function(warm, **options)
    before, start = time.process_time(), time.perf_counter()
    most = function(folder / f"t{suffix}", **options)
    spent, passed = time.process_time() - before, time.perf_counter() - start
    memory = f"{most or resident():8.0f} MB"
    print(f"{name:36}{1e9 * spent / records:8.1f} ns{memory}{passed:8.1f} s", flush=True)


def main(records, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in (".arrow", ".parquet", ".csv"):
        for name, number in (("warm", 10_000), ("t", records)):
            path = folder / f"{name}{suffix}"
            if not path.exists():
                workloads.write(path, "mixed", records=number, domains=DOMAINS)
    context = multiprocessing.get_context("spawn")
    for name in STAGES:
        process = context.Process(target=stage, args=(name, folder, records))
        process.start()
        process.join()
        if process.exitcode:
            sys.exit(f"{name}: failed")


if __name__ == "__main__":
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000
    place = Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.mkdtemp())
    try:
        main(number, place)
    finally:
        if len(sys.argv) <= 2:
            shutil.rmtree(place)
