"""Print the cost table: ``python -m bench.table [--records N] [--rounds N] [--save FILE]``.

Every round runs the bare loop and the replays one after the other; a ratio is the median of the
rounds' ratios to the bare loop. A replay is a whole ``Simulator.apply``; all make new arrays for
what they store. Compile time is apart. ``bench/compare.py`` compares two saved tables.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import evtsim
from bench.bare import BareLoop
from bench.cases import CASES, Case, channels, load
from evtsim.dtypes import Array


def timed(work: Callable[[], object]) -> float:
    """Return how many seconds a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


OPTIONS: dict[str, dict[str, Any]] = {
    "": {},
    "port statistics": {"stats": "port"},
    "2 threads": {"threads": 2},
    "port, 2 threads": {"stats": "port", "threads": 2},
}
PORT_GOAL = 1.5
"""What "port" statistics may cost, as a multiple of a row's goal."""


class Pair:
    """Replays and the bare loop over the same host and the same records."""

    def __init__(self, case: Case, records: int, options: dict[str, Any] | None = None) -> None:
        setup = channels(case)
        assert setup.host is not None
        self.sim = evtsim.Simulator(setup.host, **(options or {}))
        self.sim.apply(setup)
        self.trace = load(case, records)
        self.bare = BareLoop(self.sim)

    def run_bare(self) -> tuple[Array, Array, Array]:
        return self.bare.apply(self.trace.columns)

    def run_replay(self) -> evtsim.Outcomes | None:
        # The same records again: time may start anew.
        self.sim.state.tables.host["last_ts"] = 0
        return self.sim.apply(self.trace)

    def agree(self) -> bool:
        """Run both once from the same state and compare what they answer."""
        wanted = self.run_bare()
        out = self.run_replay()
        assert out is not None
        got = (out.rc, out.port, out.effects)
        return all(np.array_equal(a, b) for a, b in zip(got, wanted, strict=True))


def measure(case: Case, option: str, records: int, rounds: int) -> dict[str, Any]:
    """Return a row: ns per record of the bare loop and of the replay, and the rounds' ratios."""
    pair = Pair(case, records, OPTIONS[option])
    if not pair.agree():
        raise SystemExit(f"{case.name}: the bare loop and the replay disagree")
    times = np.array([(timed(pair.run_bare), timed(pair.run_replay)) for _ in range(rounds)])
    bare, replay = np.median(times, axis=0) / records * 1e9
    ratios = times[:, 1] / times[:, 0]
    goals = {"": case.goal, "port statistics": PORT_GOAL * case.goal}
    return {
        "row": f"{case.name} {option}".strip(),
        "bare": float(bare),
        "replay": float(replay),
        "ratio": float(np.median(ratios)),
        "ratios": ratios.tolist(),
        "goal": goals.get(option),
    }


def commit() -> str:
    """Return the commit that is measured, with a + if it has been changed."""
    try:
        command = ["git", "describe", "--always", "--dirty=+"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def cpu() -> str:
    """Return the CPU's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--save", type=Path, help="write the table here as JSON")
    options = parser.parse_args()
    import numba

    about = {
        "cpu": cpu(),
        "evtsim": evtsim.__version__,
        "commit": commit(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "records": options.records,
        "rounds": options.rounds,
    }
    print("; ".join(f"{name} {value}" for name, value in about.items()) + "; ns per record")
    print(f"{'case':34} {'bare':>6} {'replay':>7} {'ratio':>6} {'goal':>5}")
    rows = []
    for option in OPTIONS:
        for case in CASES:
            if options.only not in f"{case.name} {option}":
                continue
            row = measure(case, option, options.records, options.rounds)
            goal = row["goal"]
            verdict = f"{goal:5.2f} {'met' if row['ratio'] <= goal else 'missed'}" if goal else ""
            print(
                f"{row['row']:34} {row['bare']:6.1f} {row['replay']:7.1f} {row['ratio']:6.2f} "
                f"{verdict}",
                flush=True,
            )
            rows.append(row)
    if options.save:
        options.save.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
