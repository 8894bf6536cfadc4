"""What tests of the command line share."""

import subprocess

import pytest

from evtsim import cli


@pytest.fixture
def in_process(monkeypatch, capsys, tmp_path):
    """Run a command here, in a folder of its own: many processes would take their time."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments):
        monkeypatch.setattr("sys.argv", ["evtsim", *arguments])
        status = cli.run()
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, out, err)

    return command
