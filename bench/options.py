"""Print what statistics and a guest cost: ``python -m bench.options [--records N] [--rounds N]``.

Every round runs the same replay with each option, one after the other; a ratio is the median of
the rounds' ratios to the replay without any.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any

import numpy as np

import evtsim
from bench.cases import CASES, GUEST_CASE, Case, channels, load
from bench.table import cpu, timed

STATISTICS: dict[str, dict[str, Any]] = {
    "none": {},
    "domain": {"stats": "domain"},
    "port": {"stats": "port"},
}
GUEST: dict[str, dict[str, Any]] = {
    "none": {},
    "guest": {"guest": evtsim.Guest()},
    "late": {"guest": evtsim.Guest(eoi="late", eoi_ns=1000)},
    "guest, port": {"guest": evtsim.Guest(), "stats": "port"},
}
GOALS = {"none": 1.0, "domain": 1.25, "port": 1.5, "guest": 2.5}


def measure(case: Case, records: int, rounds: int, options: dict[str, dict[str, Any]]) -> None:
    """Print ns per record of every option and the median ratio to the first."""
    setup = channels(case)
    sims = [evtsim.Simulator(setup.require_host(), **keywords) for keywords in options.values()]
    for sim in sims:
        sim.apply(setup)
    rows = []
    for number in range(rounds + 1):
        trace = load(case, records, number * records * 100)
        rows.append([timed(functools.partial(sim.apply, trace)) for sim in sims])
    times = np.array(rows[1:])  # the first compiles, and touches what will be touched
    ns = np.median(times, axis=0) / records * 1e9
    ratios = np.median(times / times[:, :1], axis=0)
    for name, cost, ratio in zip(options, ns, ratios, strict=True):
        goal = f"{GOALS[name]:6.2f}" if name in GOALS else ""
        print(f"{case.name:22} {name:12} {cost:7.1f} {ratio:6.2f} {goal}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=4_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="cases whose name contains this")
    options = parser.parse_args()
    import numba

    print(
        f"{cpu()}; numpy {np.__version__}, numba {numba.__version__}; {options.records:,} records"
    )
    print(f"{'case':22} {'option':12} {'ns':>7} {'ratio':>6} {'goal':>6}")
    for case in [*CASES, GUEST_CASE]:
        if options.only in case.name:
            chosen = GUEST if case is GUEST_CASE else STATISTICS
            measure(case, options.records, options.rounds, chosen)


if __name__ == "__main__":
    main()
