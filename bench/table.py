"""Print the cost table: ``python -m bench.table [--records N] [--rounds N]``.

Every round runs the bare loop and the replay one after the other; the ratio is the median of
the rounds' ratios. A replay is a whole ``Simulator.apply``; both make new arrays for what they
store. Compile time is apart.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable
from pathlib import Path

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


class Pair:
    """A replay and the bare loop over the same host and the same records."""

    def __init__(self, case: Case, records: int) -> None:
        setup = channels(case)
        assert setup.host is not None
        self.sim = evtsim.Simulator(setup.host)
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


def measure(case: Case, records: int, rounds: int) -> tuple[float, float, float]:
    """Return ns per record of the bare loop and of the replay, and the median ratio."""
    pair = Pair(case, records)
    if not pair.agree():
        raise SystemExit(f"{case.name}: the bare loop and the replay disagree")
    times = np.array([(timed(pair.run_bare), timed(pair.run_replay)) for _ in range(rounds)])
    bare, replay = np.median(times, axis=0) / records * 1e9
    return bare, replay, float(np.median(times[:, 1] / times[:, 0]))


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
    options = parser.parse_args()
    import numba

    print(
        f"{cpu()}; numpy {np.__version__}, numba {numba.__version__}; "
        f"{options.records:,} records, {options.rounds} rounds; ns per record"
    )
    print(f"{'case':20} {'bare':>6} {'replay':>7} {'ratio':>6} {'goal':>5}")
    for case in CASES:
        bare, replay, ratio = measure(case, options.records, options.rounds)
        print(f"{case.name:20} {bare:6.1f} {replay:7.1f} {ratio:6.2f} {case.goal:5.1f}")


if __name__ == "__main__":
    main()
