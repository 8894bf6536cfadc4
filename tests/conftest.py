"""Settings for all tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

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
    if hasattr(config, "workerinput"):
        return
    # Processes that tests start run this source, in whatever folder, and no installed copy of it,
    # whose kernels numba would keep apart.
    paths = (str(config.rootpath), os.environ.get("PYTHONPATH"))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    if getattr(config.option, "numprocesses", None) and not compiled():
        subprocess.run([sys.executable, "-m", "tests.warm"], cwd=config.rootpath, check=True)


def compiled():
    """Tell whether kernels of this source are there; the folder may hold an installed copy's."""
    from evtsim.kernels.replay import replay

    return any(Path(replay.stats.cache_path).glob("*.nbi"))


@pytest.fixture(scope="session")
def cluster_client():
    """A client of two workers on this machine, closed at the end."""
    from evtsim import cluster

    with cluster.connected(2) as client:
        yield client


@pytest.fixture
def in_process(monkeypatch, tmp_path):
    """Run commands here, in a folder of its own."""
    from tests.commands import evtsim_command

    monkeypatch.chdir(tmp_path)
    return evtsim_command
