"""Print what options cost: ``python -m bench.options [--records N] [--rounds N]``.

Statistics, a guest, the FIFO ABI. Every round runs the same records with each of them, one after
the other; a ratio is the median of the rounds' ratios to the first: the replay without any, or
under the 2-level ABI.
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
GOALS = {"none": 1.0, "domain": 1.25, "port": 1.5, "guest": 2.5, "FIFO": 1.5}


def measure(case: Case, records: int, rounds: int, options: dict[str, dict[str, Any]]) -> None:
    """Print what every option costs."""
    setup = channels(case)
    sims = {name: evtsim.Simulator(setup.require_host(), **o) for name, o in options.items()}
    for sim in sims.values():
        sim.apply(setup)
    compare(case, records, rounds, sims)


def measure_fifo(case: Case, records: int, rounds: int) -> None:
    """Print what the FIFO ABI costs, which has to be no more than 1.5 times for sends."""
    sims = {}
    for name in ("2-level", "FIFO"):
        setup = channels(case, "xen-4.23", fifo=name == "FIFO")
        sims[name] = evtsim.Simulator(setup.require_host())
        sims[name].apply(setup)
    compare(case, records, rounds, sims)


def compare(case: Case, records: int, rounds: int, sims: dict[str, evtsim.Simulator]) -> None:
    """Print ns per record of every simulator and the median ratio to the first."""
    rows = []
    for number in range(rounds + 1):
        trace = load(case, records, number * records * 100)
        rows.append([timed(functools.partial(sim.apply, trace)) for sim in sims.values()])
    times = np.array(rows[1:])  # the first compiles, and touches what will be touched
    ns = np.median(times, axis=0) / records * 1e9
    ratios = np.median(times / times[:, :1], axis=0)
    for name, cost, ratio in zip(sims, ns, ratios, strict=True):
        wanted = GOALS.get(name) if name != "FIFO" or case.mix == "send" else None
        goal = f"{wanted:6.2f}" if wanted else ""
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
            if case is not GUEST_CASE:
                measure_fifo(case, options.records, options.rounds)


if __name__ == "__main__":
    main()
