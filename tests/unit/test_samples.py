"""The sample traces are what their README says."""

import importlib.util
from pathlib import Path

import pytest

import evtsim
from evtsim import samples

TRACES = Path(__file__).parents[2] / "traces"

spec = importlib.util.spec_from_file_location("make", TRACES / "make.py")
make = importlib.util.module_from_spec(spec)
spec.loader.exec_module(make)


@pytest.mark.parametrize("name", make.SAMPLES)
def test_sample(name):
    trace = evtsim.Trace.load(samples.path(name))
    assert trace.digest() == make.sample(*make.SAMPLES[name]).digest()
    check = evtsim.verify(trace)
    assert check
    assert check.compared == ("rc", "port", "vcpu", "remote_dom", "remote_port", "effects")
    assert f"`{name}` | {len(trace):,} " in (TRACES / "README.md").read_text()


@pytest.mark.parametrize("name", make.GENERATED)
def test_generated_sample(name):
    """Its digest is golden: it changes with a new number of the generator only."""
    trace = evtsim.Trace.load(samples.path(name))
    digest = trace.digest()
    assert digest == evtsim.workloads.generate(**make.GENERATED[name]).digest()
    readme = (TRACES / "README.md").read_text()
    assert f"| `{name}` | {len(trace):,} |" in readme
    assert f"| `{name}` | `{digest}` |" in readme
    assert f"\n{make.command(name)}\n" in readme


def test_the_sample_log_is_what_a_simulated_host_prints():
    assert samples.path(make.DUMPS).read_text() == make.dump_log()
    assert f"`{make.DUMPS}`" in (TRACES / "README.md").read_text()


def test_samples_stay_small():
    assert sum(path.stat().st_size for path in TRACES.iterdir() if path.is_file()) < 5_000_000


def test_an_unknown_sample_is_an_error():
    with pytest.raises(evtsim.EvtsimError, match=r"no sample trace 'x\.arrow'"):
        samples.path("x.arrow")
