"""Print what a cluster of this machine's cores wins: ``python -m bench.fleet [--records N] …``.

Every round replays the same traces in a loop in this process and on the cluster, one after the
other, and compares their sums. On a machine that others use, the clock says how busy it is;
therefore CPU time is told too, and what of it nobody else did meanwhile: the busiest worker's and
this process's. Starting the cluster and compiling are not counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import evtsim
from bench.table import cpu
from evtsim import cluster, fleet, workloads
from evtsim.fleet.hosts import Settings, Task, replay_host


def loop(paths: list[Path], settings: Settings) -> fleet.Fleet:
    """Replay the traces one after the other, as a worker would."""
    result = fleet.Fleet([path.stem for path in paths], None)
    for path in paths:
        result.add(path.stem, replay_host(settings, Task(path.stem, str(path), None)))
    return result


def spent(client: Any) -> np.ndarray[Any, Any]:
    """Return the CPU seconds so far of this process and of every worker."""
    workers = client.run(time.process_time)
    return np.array([time.process_time(), *(workers[name] for name in sorted(workers))])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--domains", type=int, default=200)
    parser.add_argument("--records", type=int, default=4_000_000, help="of each host")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    settings = Settings(evtsim.Guest(), "domain")
    rows = []
    with tempfile.TemporaryDirectory() as folder, cluster.connected(options.workers) as client:
        paths = [Path(folder) / f"h{seed}.arrow" for seed in range(options.hosts)]
        extent = {"domains": options.domains, "records": options.records, "deliver": "model"}
        for seed, path in enumerate(paths):
            workloads.write(path, "mixed", seed=seed, **extent)
        print(f"{cpu()}; {options.hosts} hosts of {extent}; {options.workers} workers")
        for _ in range(options.rounds + 1):
            clock, before = time.perf_counter(), spent(client)
            one = loop(paths, settings)
            middle_clock, middle = time.perf_counter(), spent(client)
            many = fleet.replay(paths, settings.guest, client=client)
            end_clock, used = time.perf_counter(), spent(client) - middle
            of_loop = (middle_clock - clock, *[(middle - before)[0]] * 2)
            rows.append((of_loop, (end_clock - middle_clock, used.sum(), used[0] + used[1:].max())))
            if one.totals() != many.totals() or not one.hosts.equals(many.hosts):
                print("the cluster's sums differ from the loop's")
                return 1
    times = np.array(rows[1:])  # the first round loads kernels and reads files
    print(
        f"{'seconds':8} {'clock':>8} {'CPU':>8} {'longest':>8}   {options.rounds} rounds, medians"
    )
    for name, row in zip(("loop", "cluster"), np.median(times, axis=0), strict=True):
        print(f"{name:8} {row[0]:8.2f} {row[1]:8.2f} {row[2]:8.2f}")
    ratio, low, high = (f(times[:, 0] / times[:, 1], axis=0) for f in (np.median, np.min, np.max))
    print(f"{'ratio':8} {ratio[0]:8.2f} {ratio[1]:8.2f} {ratio[2]:8.2f}")
    print(f"by the clock from {low[0]:.2f} to {high[0]:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
