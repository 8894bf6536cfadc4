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
        ]
    )
    outcomes = [host.apply(Record(*row)) for row in recording["trace"].tolist()]
    want = recording["outcomes"].tolist()
    assert [tuple(outcome)[:5] for outcome in outcomes] == want
    assert [outcome.effects for outcome in outcomes] == recording["effects"].tolist()
    for table in ("ports", "vcpus", "virqs", "pirqs"):
        rows = sorted(
            tuple(row[n] for n in recording[table].dtype.names) for row in getattr(host, table)()
        )
        assert rows == sorted(recording[table].tolist()), table
