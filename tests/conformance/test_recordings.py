"""Recordings of Xen's own code: every answer, every effect and the state it left."""

from pathlib import Path

import numpy as np
import pytest

import evtsim

FOLDER = Path(__file__).parent.parent / "recordings"
RECORDINGS = sorted(FOLDER.glob("*/*.npz"))
TABLES = {
    "ports": "ports",
    "vcpus": "vcpus",
    "virqs": "virqs",
    "pirqs": "pirqs",
    "event_words": "event_words",
    "fifo_queues": "fifo_queues",
    "abi": "domains",
}
"""Tables of a recording, and the frames of the state that hold the same."""


def sorted_rows(columns, names):
    rows = np.zeros(len(columns[names[0]]), [(name, "i8") for name in names])
    for name in names:
        rows[name] = np.asarray(columns[name]).astype("u8").view("i8")
    return np.sort(rows)


def test_the_recordings_are_there():
    assert len(RECORDINGS) >= 111


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recording(path):
    recording = np.load(path)
    host = evtsim.Host(profile=path.parent.name, domains=recording["domains"])
    sim = evtsim.Simulator(host)
    out = sim.apply(evtsim.Trace.from_records(recording["trace"], host))
    for field in recording["outcomes"].dtype.names:
        np.testing.assert_array_equal(getattr(out, field), recording["outcomes"][field], field)
    np.testing.assert_array_equal(out.effects, recording["effects"])
    for table, frame in TABLES.items():
        if table not in recording:
            continue  # the FIFO ABI's, in xen-4.0
        names = recording[table].dtype.names
        got = sorted_rows(getattr(sim.state, frame)(), names)
        np.testing.assert_array_equal(got, sorted_rows(recording[table], names), table)
    for i, dom in enumerate(recording["dom"]):
        info = sim.state.shared_info(int(dom))
        np.testing.assert_array_equal(info.pending, recording["pending"][i])
        np.testing.assert_array_equal(info.mask, recording["mask"][i])
