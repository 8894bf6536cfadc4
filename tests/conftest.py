"""Settings for all tests."""

import os
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, settings

from evtsim._jit import cache_folder

# Kernels compile in the first example that needs them, so there is no deadline.
settings.register_profile(
    "default",
    deadline=None,
    max_examples=int(os.environ.get("EVTSIM_EXAMPLES", "60")),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("default")


def pytest_configure(config):
    """Before workers start, compile what they would all compile."""
    starts_workers = getattr(config.option, "numprocesses", None) and not hasattr(
        config, "workerinput"
    )
    if starts_workers and not any(cache_folder().iterdir()):
        subprocess.run([sys.executable, "-m", "tests.warm"], cwd=config.rootpath, check=True)


@pytest.fixture(scope="session")
def cluster_client():
    """A client of two workers on this machine, closed at the end."""
    from evtsim import cluster

    with cluster.connected(2) as client:
        yield client


@pytest.fixture
def in_process(monkeypatch, capsys, tmp_path):
    """Run a command here, in a folder of its own: many processes would take their time."""
    monkeypatch.chdir(tmp_path)

    from evtsim import cli

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["evtsim", *arguments])
        status = cli.run()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, out, err)

    return command
