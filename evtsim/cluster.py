"""Dask: a cluster to work on, and one function of many items there.

What belongs here knows nothing of what is computed. A worker may die at any moment; Dask gives
what it had to another one.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from evtsim import __version__
from evtsim.errors import EvtsimError, shown

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10

LOST = "its worker was lost, again and again (out of memory?)"


@contextlib.contextmanager
def connected(
    client: Client | None = None,
    *,
    scheduler: str | None = None,
    workers: int | None = None,
    most: int | None = None,
) -> Iterator[Client]:
    """Give a client: the one given, one of a scheduler that runs, or one of a cluster made here.

    Parameters
    ----------
    client : distributed.Client, optional
        Given back as it is, and not closed.
    scheduler : str, optional
        Address of a scheduler, ``tcp://host:8786``.
    workers : int, optional
        Processes of the cluster made here, one thread each; as many as there are cores if not
        given.
    most : int, optional
        How many workers there is work for.

    Raises
    ------
    EvtsimError
        Dask is not installed, the scheduler does not answer, or `workers` makes no sense.
    """
    try:
        from dask.system import CPU_COUNT
        from distributed import Client, LocalCluster
    except ModuleNotFoundError:
        raise EvtsimError("Dask is not installed (pip install 'evtsim[fleet]' brings it)") from None
    if workers is not None and (scheduler is not None or client is not None):
        raise EvtsimError("workers are of a cluster made here, and there is one already")
    if workers is not None and workers < 1:
        raise EvtsimError(f"workers is {shown(workers)} (expected at least 1)")
    if client is not None:
        if not isinstance(client, Client):
            raise EvtsimError(f"client is {shown(client)} (expected a distributed.Client)")
        yield client
        return
    if scheduler is not None:
        try:
            made = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError):
            raise EvtsimError(f"{scheduler}: no Dask scheduler answers there") from None
        with made:
            yield made
        return
    # A host takes the memory that it takes: without a limit a worker is neither paused nor killed.
    with (
        LocalCluster(
            n_workers=max(1, min(workers or CPU_COUNT, most or CPU_COUNT)),
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            memory_limit=0,
            silence_logs=logging.CRITICAL,
        ) as cluster,
        Client(cluster, set_as_default=False) as made,
    ):
        yield made


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
