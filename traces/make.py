"""Make the traces in this folder.

    python traces/make.py

The recordings are those of the test suite, each as a trace file with Xen's own answers as
recorded outcomes; the generated ones come from workloads.
"""

from pathlib import Path
from typing import Any

import numpy as np

import evtsim
from evtsim.interop import dumps

HERE = Path(__file__).parent
RECORDINGS = HERE.parent / "tests" / "recordings"

SAMPLES = {
    "xen-4.0-default.arrow": ("xen-4.0", "default-2"),
    "xen-4.0-poll.parquet": ("xen-4.0", "poll-4"),
    "xen-4.0-full.csv": ("xen-4.0", "scenario-06"),
}

GENERATED: dict[str, dict[str, Any]] = {
    "mixed.parquet": {"name": "mixed", "records": 50_000, "churn_rate": 10},
    "storm.parquet": {"name": "storm", "records": 40_000, "domains": 8},
    "churn.parquet": {"name": "churn", "records": 40_000, "domains": 8, "rate": 50},
    "migrate.parquet": {"name": "migrate", "records": 30_000, "domains": 8, "rate": 40},
    "exhaust.parquet": {"name": "exhaust", "records": 10_000, "domains": 4, "word_bits": "32"},
}

DUMPS = "stuck.log"


def sample(profile: str, name: str) -> evtsim.Trace:
    """Return a recording as a trace."""
    recording = np.load(RECORDINGS / profile / f"{name}.npz")
    fields = {field: recording["outcomes"][field] for field in recording["outcomes"].dtype.names}
    return evtsim.Trace.from_records(
        recording["trace"],
        evtsim.Host(profile=profile, domains=recording["domains"]),
        recorded=evtsim.Outcomes(**fields, effects=recording["effects"]),
        meta={"made_by": "Xen's own event-channel code", "recording": str(recording["name"])},
    )


def command(file: str) -> str:
    """Return the command that generates a trace."""
    parameters = dict(GENERATED[file])
    name, records = parameters.pop("name"), parameters.pop("records")
    options = "".join(f" -p {key}={value}" for key, value in parameters.items())
    return f"evtsim generate {name} {file} -n {records}{options}"


def dump_log() -> str:
    """Return a console log with two dumps, ten seconds apart, of a host with some trouble."""
    trace = evtsim.workloads.generate(
        "boot", profile="xen-4.23", domains=4, devices=1, dom0_vcpus=2, seed=7
    )
    sim = evtsim.Simulator(trace.require_host())
    sim.apply(trace)
    # Ports 1, 2 and 17 of a guest are its xenstore, console and device; dom0 has the other ends
    # from port 17 on. dom1's device notified vcpu 0, moved to vcpu 1, and vcpu 0 took the upcall.
    sim.call("send", dom=0, port=19)
    sim.call("bind_vcpu", dom=1, port=17, target_vcpu=1)
    sim.call("upcall", dom=1, vcpu=0)
    # dom2 keeps its console masked, and its vcpu 1 does not run. dom3 has closed its device.
    sim.call("mask", dom=2, port=2)
    sim.call("send", dom=0, port=21)
    sim.call("raise_virq", dom=2, virq=0, vcpu=1)
    sim.call("close", dom=3, port=17)
    first = dumps.write(sim.state, prefix="(XEN) [2024-03-01 09:00:00] ")
    # dom0 tries again, and gives dom3's device up. A timer ticks at the moment of the dump.
    sim.call("send", dom=0, port=19)
    sim.call("close", dom=0, port=25)
    sim.call("raise_virq", dom=1, virq=0, vcpu=0)
    second = dumps.write(sim.state, prefix="(XEN) [2024-03-01 09:00:10] ")
    backend = "[  512.004711] xen-blkback: backend/vbd/3/51712: frontend is gone\n"
    lines = second.splitlines(keepends=True)
    return first + backend + "".join([*lines[:30], backend, *lines[30:]])


if __name__ == "__main__":
    for file, source in SAMPLES.items():
        sample(*source).save(HERE / file)
        print(HERE / file)
    for file, parameters in GENERATED.items():
        evtsim.workloads.write(HERE / file, **parameters)
        print(command(file))
    (HERE / DUMPS).write_text(dump_log())
    print(HERE / DUMPS)
