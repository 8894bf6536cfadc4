"""Print what generating costs: ``python -m bench.generate [--records N] [--domains N]``.

ns of CPU per record while chunks are made and dropped, set-up included; then the peak memory of
a trace that is written to disk, in a process of its own. Compile time is apart.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.table import cpu
from evtsim import workloads

WRITE = """
import resource, sys
from evtsim import workloads
path, records, domains = sys.argv[1:]
workloads.write(path, "mixed", records=records, domains=domains)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
"""


def cost(name: str, records: int, domains: int) -> float:
    """Return ns of CPU per record."""
    stream = workloads.stream(name, records=records, domains=domains)
    before = time.process_time()
    made = sum(len(columns.ts) for columns in stream.chunks())
    return (time.process_time() - before) / made * 1e9


def peak_memory(records: int, domains: int) -> float:
    """Return the MB that a process needs to write a mixed trace."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", WRITE, str(Path(folder) / "t.arrow")]
        done = subprocess.run(
            [*command, str(records), str(domains)], capture_output=True, text=True, check=True
        )
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=10_000_000)
    parser.add_argument("--domains", type=int, default=1000)
    options = parser.parse_args()
    workloads.generate(records=1000)  # compiles
    print(f"{cpu()}; {options.records:,} records, {options.domains:,} domains")
    for name in workloads.REGISTRY:
        print(f"{name:10} {cost(name, options.records, options.domains):6.0f} ns a record")
    memory = peak_memory(options.records, options.domains)
    print(f"mixed, written to disk: {memory:.0f} MB at the most")


if __name__ == "__main__":
    main()
