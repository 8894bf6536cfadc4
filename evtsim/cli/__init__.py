"""The command line: parse, call, print. Nothing heavy is imported before a command runs.

Results go to stdout, as tables or with ``--json`` as JSON; everything else goes to stderr.
Exit status: 0 fine; 1 verify differs, there are findings, a host failed; 2 bad input or usage;
130 after Ctrl-C. A reader that leaves takes nothing from it: see `Output`.
"""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from evtsim.errors import EvtsimError, reason


def main() -> None:
    """Run the command line and exit."""
    # A stream that was closed from outside is None.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stdout = Output.of(sys.stdout)
    try:
        with insisting_on_interrupts():
            status = run()
            sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        status = 0
    except OSError as error:
        status = complain(reason(error))
    if status in (0, 2):
        leave_nothing_to_flush()
    sys.exit(status)


class Output(io.TextIOWrapper):
    """The standard output, whose reader may leave, as head does.

    What is printed for people then goes nowhere, and the command to its end: its exit status is
    what was found. A stream of records goes past this, to ``buffer``, and ends there and then.
    """

    stream: Any
    """Whose buffer this is: once it is gone, the buffer is closed."""

    @classmethod
    def of(cls, stream: Any) -> Output:
        """Write to where another stream writes, in its way."""
        output = cls(
            stream.buffer,
            stream.encoding,
            # A terminal of ASCII shows ? for what it lacks, rather than a traceback.
            "replace" if stream.errors == "strict" else stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        output.stream = stream
        return output

    def write(self, text: str) -> int:
        """Write, or if nobody reads do as if."""
        try:
            return super().write(text)
        except BrokenPipeError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        """Flush, or if nobody reads do as if."""
        try:
            super().flush()
        except BrokenPipeError:
            self._drop()

    def _drop(self) -> None:
        """Let what is left, and what comes, go nowhere."""
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())


def run() -> int:
    """Run a command; its exit status."""
    from evtsim.cli.app import app

    try:
        status = app(standalone_mode=False)
    except EvtsimError as error:
        return complain(str(error))
    except MemoryError:
        return complain("not enough memory")
    except SystemExit:  # typer's answer to a closed pipe
        raise BrokenPipeError from None
    except (KeyboardInterrupt, OSError):
        raise
    except Exception as error:
        return usage(error)
    return status if isinstance(status, int) else 0


@contextlib.contextmanager
def insisting_on_interrupts() -> Iterator[None]:
    """Repeat Ctrl-C until it is heard: raised inside a callback of LLVM's it would be lost."""

    def interrupt(number: int, frame: object) -> None:  # noqa: ARG001
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        raise KeyboardInterrupt

    def insist(number: int, frame: object) -> None:
        if not isinstance(sys.exc_info()[1], KeyboardInterrupt):  # else it is, and cleans up
            interrupt(number, frame)

    signal.signal(signal.SIGALRM, insist)
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)


def leave_nothing_to_flush() -> None:
    """Keep Python from complaining at exit about a reader that is gone or a disk that is full."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(text: str) -> int:
    """Print an error as one line; the exit status."""
    line = " ".join(text.split())
    print(f"evtsim: error: {line}", file=sys.stderr)
    return 2


def usage(error: Exception) -> int:
    """Handle what typer raises: a usage error, an abort; raise anything else again."""
    if type(error).__name__ == "NoArgsIsHelpError":
        print(error, file=sys.stderr)
        return 2
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context is not None else ""
        # What a command itself finds wrong names the option; typer would put words before it.
        own = type(error).__name__ == "BadParameter" and getattr(error, "param", None) is None
        text = getattr(error, "message", "") if own else error.format_message()
        return complain(f"{text}{hint}")
    if type(error).__name__ == "Abort":  # Ctrl-C, as typer passes it on
        return 130
    if type(error).__name__ == "Exit":
        return int(getattr(error, "exit_code", 0))
    raise error
