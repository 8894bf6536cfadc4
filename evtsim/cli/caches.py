"""``evtsim cache``: the compiled kernels on disk."""

from __future__ import annotations

from typing import Any

import typer

from evtsim.cli.command import Command
from evtsim.cli.output import Json, print_json, print_table, size

app = typer.Typer(help="Show or clear the compiled kernels.", no_args_is_help=True)


@app.command(cls=Command)
def info(as_json: Json = False) -> None:
    """List the folders of compiled kernels, one a version."""
    from evtsim import _jit

    rows: list[dict[str, Any]] = [
        {"folder": folder, "files": files, "bytes": used, "this_version": current}
        for folder, files, used, current in _jit.cache_info()
    ]
    if as_json:
        print_json({"root": str(_jit.cache_root()), "versions": rows})
        return
    print(_jit.cache_root())
    print_table(
        ["version", "files", "size", "in use"],
        [(r["folder"], r["files"], size(r["bytes"]), r["this_version"]) for r in rows],
    )


@app.command(cls=Command)
def clear() -> None:
    """Remove all compiled kernels; the next replay compiles them again."""
    from evtsim import _jit

    print(f"{size(_jit.cache_clear())} freed")
