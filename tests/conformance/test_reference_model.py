"""The reference model is checked against the recordings too: two witnesses, one truth."""

import numpy as np
import pytest

from tests.conformance.test_recordings import RECORDINGS
from tests.reference import DomainConfig, Record, ReferenceHost


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_reference_model(path):
    recording = np.load(path)
    names = recording["domains"].dtype.names
    host = ReferenceHost(
        [
            DomainConfig(**dict(zip(names, row, strict=True)))
            for row in recording["domains"].tolist()
        ],
        profile=path.parent.name,
    )
    outcomes = [host.apply(Record(*row)) for row in recording["trace"].tolist()]
    want = recording["outcomes"].tolist()
    assert [tuple(outcome)[:5] for outcome in outcomes] == want
    assert [outcome.effects for outcome in outcomes] == recording["effects"].tolist()
    tables = ["ports", "vcpus", "virqs", "pirqs"]
    if host.profile.has_fifo:
        tables += ["event_words", "fifo_queues", "abi"]
    for table in tables:
        # Columns that the recording does not have are not to be in the model either.
        got = getattr(host, table)()
        assert {tuple(row) for row in got} <= {recording[table].dtype.names}, table
        assert sorted(tuple(row.values()) for row in got) == sorted(recording[table].tolist())
    assert [domain.alive for domain in host.domains] == recording["alive"].tolist()
    for i, dom in enumerate(recording["dom"].tolist()):
        for bitmap, got in zip(("pending", "mask"), host.shared_info(dom), strict=True):
            padded = got + [0] * (recording[bitmap].shape[1] - len(got))
            assert padded == recording[bitmap][i].tolist(), (dom, bitmap)
