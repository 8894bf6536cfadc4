"""Make the traces in this folder.

    python traces/make.py

The recordings are those of the test suite, each as a trace file with Xen's own answers as
recorded outcomes; the generated ones come from workloads.
"""

from pathlib import Path
from typing import Any

import numpy as np

import evtsim

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


if __name__ == "__main__":
    for file, source in SAMPLES.items():
        sample(*source).save(HERE / file)
        print(HERE / file)
    for file, parameters in GENERATED.items():
        evtsim.workloads.write(HERE / file, **parameters)
        print(command(file))
