"""How kernels are compiled, and the folder that keeps their machine code.

numba's own cache looks at the file of the function it compiles and at nothing else: it does not
notice an edit in a callee of another file, a changed constant or NUMBA_BOUNDSCHECK. Kernels are
therefore cached in a folder whose name is a hash of everything they are made of.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
import platformdirs
from numba.core import event, types
from numba.extending import overload

from evtsim._bundles import by_reference
from evtsim.dtypes import Columns, OutcomeColumns, Sorted, Tables

PACKAGE = Path(__file__).parent
SOURCES = (
    *("_bundles.py", "_jit.py", "abi.py", "draws.py", "dtypes.py"),
    *("kernels/*.py", "**/_kernels.py", "**/_kernels/*.py"),
)
OPTIONS = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
INNER = {**OPTIONS, "no_cpython_wrapper": True}
FLAGS = ("BOUNDSCHECK", "DISABLE_JIT", "OPT", "CPU_NAME", "CPU_FEATURES", "DEBUGINFO_DEFAULT")

# At hand is what most records touch.
by_reference(
    Tables,
    at_hand=(
        *("failed", "deliveries", "latency_groups"),
        *("host", "domains", "vcpus", "buckets", "ports", "routes", "shared", "done", "effects"),
        "vcpu_ports",
        *("port_stats", "port_rare", "types", "vcpu_stats", "domain_pending", "operations"),
        *("timeline", "latency"),
    ),
)
by_reference(Columns, at_hand=Columns._fields)
by_reference(OutcomeColumns, at_hand=OutcomeColumns._fields)
by_reference(Sorted, at_hand=Sorted._fields)


def fingerprint(package: Path = PACKAGE) -> str:
    """Hash all that the machine code of the kernels depends on, as 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for module in (numba, llvmlite, np):
        digest.update(f"{module.__name__} {module.__version__}\n".encode())
    for flag in FLAGS:
        digest.update(f"{flag}={getattr(numba.config, flag, None)}\n".encode())
    for path in sorted({path for pattern in SOURCES for path in package.glob(pattern)}):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_root() -> Path:
    """Return the folder that holds one folder of kernels per fingerprint."""
    return Path(platformdirs.user_cache_dir("evtsim", appauthor=False)) / "kernels"


@functools.cache
def cache_folder() -> Path:
    """Return the writable folder for this version's kernels, made if need be."""
    folder = cache_root() / fingerprint()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        # One folder per user: a shared one would let another user plant machine code.
        uid = os.getuid() if hasattr(os, "getuid") else 0
        folder = Path(tempfile.gettempdir()) / f"evtsim-{uid}-{fingerprint()}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if hasattr(os, "getuid") and folder.stat().st_uid != uid:
            return Path(tempfile.mkdtemp(prefix="evtsim-"))
        return folder


def kernel(function: Any) -> Any:
    """Compile a function for other kernels to call: without the GIL, with C's division.

    It cannot be called from Python: the code for that would be half of the compile time.
    """
    return _for_all_constants(numba.njit(**INNER)(function))


def hot(function: Any) -> Any:
    """Compile as `kernel` does, and have LLVM put the code wherever it is called.

    For what most records pass through.
    """
    return _for_all_constants(numba.njit(**INNER, forceinline=True)(function))


def _for_all_constants(dispatcher: Any) -> Any:
    """Have a function compiled once for whatever constants it is called with, not for each.

    LLVM knows them all the same, where it puts the code in their place.
    """
    if numba.config.DISABLE_JIT:  # which leaves functions as they are
        return dispatcher
    choose = dispatcher.get_call_template

    def choose_by_types(args: Any, kws: Any) -> Any:
        return choose(tuple(map(types.unliteral, args)), kws)  # type: ignore[attr-defined]

    dispatcher.get_call_template = choose_by_types
    return dispatcher


def kernel_if(*marks: str, otherwise: Any = None) -> Any:
    """Compile as `kernel` does, but only where tables have all of these marks.

    Elsewhere the function does nothing and returns `otherwise`, and neither it nor what it calls
    is compiled: a replay without a guest does not pay for one, not even the first time.
    """
    return _where(marks, otherwise, INNER)


def hot_if(*marks: str, otherwise: Any = None) -> Any:
    """Compile as `hot` does, but only where tables have all of these marks; see `kernel_if`."""
    return _where(marks, otherwise, {**INNER, "forceinline": True})


def _where(marks: tuple[str, ...], otherwise: Any, options: dict[str, Any]) -> Any:
    def nothing(*_: Any) -> Any:
        return otherwise

    def decorate(function: Any) -> Any:
        @functools.wraps(function)
        def uncompiled(*_: Any) -> Any:
            raise NotImplementedError(f"{function.__name__} is for other kernels to call")

        # numba asks this for an implementation once it knows the types.
        def choose(tables: Any, *_: Any) -> Any:
            absent = any(tables.members[mark] == types.none for mark in marks)
            return nothing if absent else function

        overload(uncompiled, jit_options=options, strict=False)(choose)
        return uncompiled

    return decorate


def entry(function: Any) -> Any:
    """Compile a kernel that Python calls, and keep its machine code, callees included."""
    # numba reads its cache folder from a global of the whole process, once, when decorating.
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(cache_folder())
    try:
        return _for_all_constants(numba.njit(**OPTIONS, cache=True)(function))
    finally:
        numba.config.CACHE_DIR = before


def prepare(kernel: Any, *arguments: Any) -> None:
    """Have an entry compiled for arguments like these, or loaded, without calling it."""
    kernel.compile(tuple(map(numba.typeof, arguments)))


class Announcer(event.Listener):  # type: ignore[misc]
    """Says on stderr that numba compiles, as soon as it does, and how long that took.

    A script or command says it once, and at its end what all of it took. Who types at a prompt
    hears of each time: the end is far.
    """

    in_all: float | None = None
    """Seconds of this process; None before it compiles."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.seconds = 0.0
        self.at_prompt = hasattr(sys, "ps1")

    def on_start(self, event: Any) -> None:  # noqa: ARG002
        """Take the first function that is compiled as the start."""
        if self.started is not None:
            return
        self.started = time.perf_counter()
        text = "evtsim: compiling kernels, once per version…"
        if self.at_prompt:
            print(text, end=" ", file=sys.stderr, flush=True)
        elif Announcer.in_all is None:
            Announcer.in_all = 0.0
            print(text, file=sys.stderr, flush=True)
            atexit.register(self.tell_all)

    def on_end(self, event: Any) -> None:
        """Nothing: others may follow."""

    def finish(self) -> None:
        """Take the time, if anything was compiled."""
        if self.started is None:
            return
        self.seconds = time.perf_counter() - self.started
        if self.at_prompt:
            print(f"{self.seconds:.1f} s", file=sys.stderr, flush=True)
        else:
            Announcer.in_all = (Announcer.in_all or 0.0) + self.seconds

    @staticmethod
    def tell_all() -> None:
        """Say what compiling took in this process."""
        print(f"evtsim: compiling took {Announcer.in_all:.1f} s", file=sys.stderr, flush=True)


@contextlib.contextmanager
def announced() -> Iterator[Announcer]:
    """Announce compiling, if a call to a kernel within has to: its cache knows no such types."""
    announcer = Announcer()
    with event.install_listener("numba:compile", announcer):
        try:
            yield announcer
        finally:
            announcer.finish()


def cache_info() -> list[tuple[str, int, int, bool]]:
    """List the cached versions as (fingerprint, files, bytes, is this version)."""
    rows = []
    current = cache_folder()
    folders = {path for path in cache_root().glob("*") if path.is_dir()} | {current}
    for folder in sorted(folders):
        sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
        rows.append((folder.name, len(sizes), sum(sizes), folder == current))
    return rows


def cache_clear() -> int:
    """Remove every cached kernel and return how many bytes that freed."""
    freed = sum(size for _, _, size, _ in cache_info())
    for folder in (cache_root(), cache_folder()):
        shutil.rmtree(folder, ignore_errors=True)
    cache_folder.cache_clear()
    return freed
