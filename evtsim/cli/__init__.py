"""The command line: parse, call, print. Nothing heavy is imported before a command runs.

Results go to stdout, as tables or with ``--json`` as JSON; everything else goes to stderr.
Exit status: 0 fine; 1 verify differs; 2 bad input or usage; 130 after Ctrl-C.
"""

from __future__ import annotations

import os
import sys

from evtsim.errors import EvtsimError


def main() -> None:
    """Run the command line and exit."""
    from evtsim.cli.app import app

    try:
        status = app(standalone_mode=False)
        sys.stdout.flush()
    except EvtsimError as error:
        status = complain(str(error))
    except BrokenPipeError:
        # The reader has had enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except MemoryError:
        status = complain("not enough memory")
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        status = usage(error)
    sys.exit(status if isinstance(status, int) else 0)


def complain(text: str) -> int:
    """Print an error as one line; the exit status."""
    line = " ".join(text.split())
    print(f"evtsim: error: {line}", file=sys.stderr)
    return 2


def usage(error: Exception) -> int:
    """Handle what typer raises: a usage error, an abort; raise anything else again."""
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        hint = f" (see '{context.command_path} --help')" if context is not None else ""
        return complain(f"{error.format_message()}{hint}")
    if type(error).__name__ == "Abort":  # Ctrl-C, as typer passes it on
        return 130
    if type(error).__name__ == "Exit":
        return int(getattr(error, "exit_code", 0))
    raise error
