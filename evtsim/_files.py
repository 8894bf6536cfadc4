"""Files and folders: read with errors of ours, written so that nothing is ever half-written."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path

from evtsim.errors import FOLDER_FOR_FILE, NO_FOLDER, EvtsimError, reason

TEMPORARY = re.compile(r"\..*~.*")
"""Names of files that are being written: of all these are gone at the end."""


@contextlib.contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn what the system says within into an EvtsimError.

    It names the file that the system names, or else this path: so too for a temporary file, of
    which the user has never heard.
    """
    try:
        yield
    except OSError as error:
        named = error.filename if isinstance(error.filename, str) else os.fspath(path)
        if TEMPORARY.fullmatch(Path(named).name):
            named = os.fspath(path)
        raise EvtsimError(f"{named}: {reason(error)}") from None


def folder_made(path: str | os.PathLike[str]) -> Path:
    """Make a folder unless it is there; an EvtsimError if it cannot be."""
    folder = Path(path)
    with naming(path):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def check_target(
    path: str | os.PathLike[str], *, overwrite: bool, suffixes: Collection[str] = ()
) -> None:
    """Raise an EvtsimError if a file could not be written: now rather than after the work.

    Parameters
    ----------
    path : path-like
    overwrite : bool
        Whether a file that is there already may be replaced.
    suffixes : collection of str
        The path's suffix must be one of them, if there are any.
    """
    target = Path(path)
    if target.is_dir():
        raise EvtsimError(f"{path}: {FOLDER_FOR_FILE}")
    if suffixes and target.suffix.lower() not in suffixes:
        raise EvtsimError(f"{path}: unknown suffix (expected {', '.join(suffixes)})")
    if target.exists() and not target.is_file():
        return  # a pipe or a device is written to, not replaced
    if target.exists() and not overwrite:
        raise EvtsimError(f"{path}: exists already (--force replaces it)")
    if not target.resolve().parent.is_dir():
        raise EvtsimError(f"{path}: {NO_FOLDER}")


@contextlib.contextmanager
def written_whole(
    path: str | os.PathLike[str], *, overwrite: bool = True, durable: bool = False
) -> Iterator[Path]:
    """Give a temporary path beside the wanted one, which takes its place if all goes well.

    Parameters
    ----------
    path : path-like
        Where the file shall be in the end.
    overwrite : bool
        Whether a file that is there already may be replaced.
    durable : bool
        Whether to wait until the disk has it, so that it outlives a power cut.

    Yields
    ------
    Path
        What to write to. It has the wanted path's suffixes, since some writers look at them.

    Raises
    ------
    EvtsimError
        The file exists and may not be replaced, or cannot be written.
    """
    check_target(path, overwrite=overwrite)
    target = Path(path).resolve()  # a link stays one
    if target.exists() and not target.is_file():
        with naming(path):
            yield target
        return
    suffixes = "".join(Path(path).suffixes)
    temporary = target.parent / f".evtsim-{secrets.token_hex(8)}~{suffixes}"
    with naming(path):
        temporary.touch(exist_ok=False)
    try:
        with naming(path):
            yield temporary
            if durable:
                sync(temporary)
            temporary.replace(target)
            if durable:
                sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's entries."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what a process that was killed in :func:`written_whole` left in a folder of ours."""
    for path in folder.glob(".evtsim-*~*"):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a folder from being written to by two processes at once.

    Raises
    ------
    EvtsimError
        Another process holds it.
    """
    with naming(folder):
        handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, however it ends
        yield
    except BlockingIOError:
        raise EvtsimError(f"{folder}: another process is writing here") from None
    finally:
        os.close(handle)
