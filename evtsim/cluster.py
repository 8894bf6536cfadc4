"""Dask: a cluster to work on, and one function of many items there.

What belongs here knows nothing of what is computed. A worker may die at any moment; Dask gives
what it had to another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evtsim import __version__
from evtsim.errors import EvtsimError, shown

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

CONNECT_SECONDS = 10

LOST = "its worker was lost, again and again (out of memory?)"


def cores() -> int:
    """Return how many cores this process may use; an EvtsimError if Dask is not installed."""
    try:
        import distributed  # noqa: F401
        from dask.system import CPU_COUNT
    except ModuleNotFoundError:
        raise EvtsimError("Dask is not installed (pip install 'evtsim[fleet]' brings it)") from None
    return int(CPU_COUNT)


@contextlib.contextmanager
def connected(
    client: Client | str | int | None = None, most: int | None = None
) -> Iterator[Client]:
    """Give a client: the one given, one of a scheduler that runs, or one of a cluster made here.

    Parameters
    ----------
    client : distributed.Client, str or int, optional
        A client, which is given back and not closed; the address of a scheduler,
        ``"tcp://host:8786"``; or the number of processes, one thread each, of a cluster made
        here: as many as there are cores if it is not given.
    most : int, optional
        How many workers there is work for.

    Raises
    ------
    EvtsimError
        Dask is not installed, the scheduler does not answer, or `client` makes no sense.
    """
    available = cores()
    from distributed import Client

    workers = available if client is None else client
    if isinstance(client, Client):
        yield client
    elif isinstance(client, str):
        with _connect(client) as made:
            yield made
    elif isinstance(workers, int) and workers >= 1:
        with (
            _local(min(workers, most or workers)) as cluster,
            Client(cluster, set_as_default=False) as made,
        ):
            yield made
    else:
        expected = "a distributed.Client, an address, or a number of workers"
        raise EvtsimError(f"client is {shown(client)} (expected {expected})")


def _local(workers: int) -> LocalCluster:
    """Make a cluster of this machine's cores."""
    from multiprocessing import resource_tracker

    from distributed import LocalCluster

    # Ctrl-C reaches all processes of a terminal. Workers inherit that they do not hear it: their
    # client does, and closes them. The tracker, once it runs, leaves the mask alone.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # None warns if 8787 is in use
            memory_limit=0,  # a host takes what it takes: no worker is paused or killed for that
            silence_logs=logging.CRITICAL,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _connect(address: str) -> Client:
    """Connect to a scheduler that runs."""
    from distributed import Client
    from distributed.comm.addressing import parse_address, parse_host_port

    try:
        parse_host_port(parse_address(address)[1])  # what has no port is tried for long
        client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError):
        raise EvtsimError(f"{address}: no Dask scheduler answers there") from None
    if not client.scheduler_info()["workers"]:
        print(f"evtsim: {address} has no workers yet: waiting for some", file=sys.stderr)
    return client


def each(
    client: Client, function: Callable[[Any], Any], items: Sequence[Any], retries: int = 0
) -> Iterator[tuple[int, Any]]:
    """Call a function with every item on a cluster; yield results as they come.

    Results are let go of on the workers as they are yielded. What is still to do when the caller
    loses interest is called off.

    Parameters
    ----------
    client : distributed.Client
    function : callable
        Of one item; picklable.
    items : sequence
    retries : int
        How often an item is tried again. An EvtsimError is an answer and not tried again,
        unless the system's input or output failed.

    Yields
    ------
    number : int
        Of the item.
    result : object
        What the function returned, or an EvtsimError that says why it did not.
    """
    from distributed import as_completed

    task = functools.partial(_attempt, __version__, function)
    name = getattr(function, "func", function).__name__
    futures = client.map(task, items, key=name, pure=False, retries=retries)
    waiting = {future.key: (number, future) for number, future in enumerate(futures)}
    finished = as_completed(futures, loop=client.loop)
    del futures
    try:
        for future in finished:
            number, _ = waiting.pop(future.key)
            yield number, _outcome(future)
    finally:
        if waiting:
            client.cancel([future for _, future in waiting.values()])


def _attempt(version: str, function: Callable[[Any], Any], item: Any) -> Any:
    """Call a function on a worker; an EvtsimError is returned, so that Dask does not log it."""
    if version != __version__:
        return EvtsimError(f"its worker has evtsim {__version__} (expected {version}, as here)")
    try:
        return function(item)
    except EvtsimError as error:
        cause = error.__context__
        if isinstance(cause, OSError) and cause.errno is not None:
            raise  # a file server that is away may come back
        return error


def _outcome(future: Future[Any]) -> Any:
    """Return a future's result, or an EvtsimError of one line."""
    from distributed import KilledWorker

    if future.status == "finished":
        return future.result()
    if future.status != "error":
        return EvtsimError("called off: the scheduler is gone or was told so")
    error = future.exception()
    if isinstance(error, EvtsimError):
        return error
    if isinstance(error, KilledWorker):
        return EvtsimError(LOST)
    return EvtsimError(" ".join(f"{type(error).__name__}: {error}".split()))


@functools.cache
def warm_kernels(profile: str, guest: bool, stats: str | None) -> None:
    """See that this process can replay without compiling, and that no two compile the same.

    Of the processes of a machine one compiles while the others wait; then they load what it kept.
    """
    from evtsim.guest import Guest
    from evtsim.host import Host
    from evtsim.run import replay
    from evtsim.trace import TraceBuilder

    builder = TraceBuilder(Host.uniform(1, profile=profile))
    builder.bind_ipi(dom=0, target_vcpu=0)
    with _one_at_a_time():
        replay(builder.trace(), guest=Guest() if guest else None, stats=stats)


@functools.cache
def warm_generator(workload: str) -> None:
    """See that this process can generate a workload without compiling; see `warm_kernels`."""
    from evtsim import workloads

    with _one_at_a_time():
        workloads.generate(workload, records=1)


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Keep out the other processes that use the same cache of kernels."""
    from evtsim import _jit

    with (_jit.cache_folder() / "compiling.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # until the file is closed, or the process dies
        yield
