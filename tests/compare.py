"""Comparing the simulator with the reference model."""

from __future__ import annotations

import evtsim
from tests.reference import DomainConfig, Record, ReferenceHost

FIELDS = ("rc", "port", "vcpu", "remote_dom", "remote_port", "effects")


def host_of(configs: list[DomainConfig], profile: str = "xen-4.0") -> evtsim.Host:
    return evtsim.Host(profile, [evtsim.Domain(**vars(config)) for config in configs])


def trace_of(records: list[Record], host: evtsim.Host) -> evtsim.Trace:
    import numpy as np

    return evtsim.Trace.from_records(np.array(records, evtsim.RECORD_DTYPE), host)


def outcome_rows(outcomes: evtsim.Outcomes) -> list[tuple[int, ...]]:
    return list(zip(*(getattr(outcomes, name).tolist() for name in FIELDS), strict=True))


def assert_same_state(sim: evtsim.Simulator, reference: ReferenceHost) -> None:
    tables = ["ports", "vcpus", "virqs", "pirqs"]
    if reference.profile.has_fifo:
        tables += ["event_words", "fifo_queues"]
        got = sim.state.domains()[["dom", "fifo", "num_evtchns"]].to_dict("records")
        assert got == reference.abi(), "domains"
    for table in tables:
        got = getattr(sim.state, table)().to_dict("records")
        assert got == getattr(reference, table)(), table
    for dom, domain in enumerate(reference.domains):
        if domain.alive:
            for got, want in zip(
                sim.state.shared_info(dom), reference.shared_info(dom), strict=True
            ):
                padded = want + [0] * (len(got) - len(want))
                assert got.tolist() == padded, f"shared_info({dom})"
