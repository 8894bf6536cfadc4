import numpy as np
import pytest

import evtsim
from evtsim import EvtsimError, workloads


def test_channels_replay_without_an_error():
    trace = workloads.generate("channels", records=50_000, domains=30, vcpus=3, ports=70)
    run = evtsim.replay(trace)
    assert run.totals()["errors"] == 0
    ports = run.state.ports()
    made = ports[ports["state"] == evtsim.abi.PortState.INTERDOMAIN]
    assert made.groupby("dom").size().between(68, 69).all()
    assert set(made["notify_vcpu"]) == {0, 1, 2}


def test_shares_come_out_as_asked():
    trace = workloads.generate("channels", records=200_000, upcalls=0.2, masks=0.1, unmasks=0.05)
    load = trace.op[2000:]
    for op, share in ((68, 0.2), (66, 0.1), (9, 0.05), (4, 0.65)):
        assert np.mean(load == op) == pytest.approx(share, abs=0.005)


def test_one_seed_one_trace():
    def digest(seed):
        return workloads.generate("channels", records=5000, seed=seed).digest()

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)


def test_the_default_trace_stays_what_it_is():
    """A change of this digest needs a new generator number in the trace's provenance."""
    assert (
        workloads.generate("channels").digest()
        == "4a7e63cfe54f65587fea9c1c7509ae98b514551ff2b977a220908a61f4a66238"
    )


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"domains": 1}, "domains is 1 (expected 2 to 32,752)"),
        ({"ports": 5000}, "ports is 5000"),
        ({"rate": 0}, "rate is 0"),
        ({"upcalls": 0.9, "masks": 0.2}, "sum up to 1.1"),
        ({"upcalls": -0.1}, "negative"),
        ({"colour": 1}, "no parameter 'colour'"),
        ({"records": -1}, "records is -1"),
    ],
)
def test_parameters_out_of_range(parameters, words):
    with pytest.raises(EvtsimError) as caught:
        workloads.generate("channels", **parameters)
    assert words in str(caught.value)


def test_unknown_workload():
    with pytest.raises(EvtsimError, match="no workload 'nothing'"):
        workloads.generate("nothing")
