"""Make the recordings in this folder from those of the test suite.

    python traces/make.py

Each becomes a trace file with Xen's own answers as recorded outcomes.
"""

from pathlib import Path

import numpy as np

import evtsim

HERE = Path(__file__).parent
RECORDINGS = HERE.parent / "tests" / "recordings"

SAMPLES = {
    "xen-4.0-default.arrow": ("xen-4.0", "default-2"),
    "xen-4.0-poll.parquet": ("xen-4.0", "poll-4"),
    "xen-4.0-full.csv": ("xen-4.0", "scenario-06"),
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


if __name__ == "__main__":
    for file, source in SAMPLES.items():
        sample(*source).save(HERE / file)
        print(HERE / file)
