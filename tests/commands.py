"""Running evtsim's command line: in this process, or in one of its own as a shell does."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from unittest import mock

import pytest

from evtsim import cli


def evtsim_process(
    *arguments: str | os.PathLike[str], **options
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, for what only that can show."""
    return subprocess.run(
        [sys.executable, "-m", "evtsim", *arguments],
        capture_output=True,
        text=True,
        check=False,
        **options,
    )


def evtsim_command(
    *arguments: str | os.PathLike[str],
    cwd: str | os.PathLike[str] = ".",
    input: str = "",  # noqa: A002 - as subprocess.run has it
) -> subprocess.CompletedProcess[str]:
    """Run a command here, from its words to its exit status, as `evtsim_process` would.

    A process would need a second to import what this one has already.
    """
    stdin = io.TextIOWrapper(io.BytesIO(input.encode()), "utf-8")
    said = Kept(), Kept()
    stdout, stderr = (io.TextIOWrapper(kept, "utf-8", write_through=True) for kept in said)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGALRM)}
    try:
        with (
            contextlib.chdir(cwd),
            mock.patch.multiple(sys, argv=["evtsim", *map(os.fspath, arguments)], stdin=stdin),
            contextlib.redirect_stdout(stdout),
            contextlib.redirect_stderr(stderr),
            pytest.raises(SystemExit) as left,
        ):
            cli.main()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    texts = (kept.getvalue().decode() for kept in said)
    return subprocess.CompletedProcess(arguments, left.value.code, *texts)


class Kept(io.BytesIO):
    """What was written, also when the stream that wrote it is closed."""

    def close(self) -> None:
        """Nothing: as a shell's pipe, it outlives the command."""


def assert_refused(done, *words):
    """One short line on stderr, exit status 2, nothing on stdout."""
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("evtsim: error: ")
    for word in words:
        assert word in done.stderr
