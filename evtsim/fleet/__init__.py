"""Many hosts at once, each with its own trace, on a Dask cluster; docs/fleet.md tells how.

Paths go to the workers and small sums come back: neither traces nor tables of the hosts pass
through the caller.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import numpy as np

from evtsim import cluster
from evtsim._files import folder_made, naming, written_whole
from evtsim.errors import ArgumentError, EvtsimError
from evtsim.fleet.hosts import PART, Settings, Task, digest_of, read_part, replay_host
from evtsim.fleet.results import Fleet
from evtsim.fleet.specs import Specs, Synthetic, named
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.progress import Shown, shown_progress

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Fleet", "Synthetic", "load", "replay"]

DESCRIPTION = "fleet.json"


def replay(
    specs: Specs,
    guest: Guest | None = None,
    stats: str | None = "domain",
    client: Client | str | int | None = None,
    save: str | os.PathLike[str] | None = None,
    retries: int = 2,
    progress: Shown = None,
    host: Host | None = None,
    drain: bool = False,
    overwrite: bool = False,
) -> Fleet:
    """Replay many traces, each from the start of its host, on a cluster.

    Parameters
    ----------
    specs : path-like, Synthetic, iterable or mapping
        The hosts: paths of traces, or patterns (``"traces/*.arrow"``), which the workers open;
        :class:`Synthetic` workloads, which they generate. A mapping has the hosts' names as
        keys; else they are called as their files.
    guest : Guest, optional
        Handles all events on all hosts.
    stats : {"domain", "port", None}
        What to count. Frames of level "port" are kept with `save` only.
    client : distributed.Client, str or int, optional
        Of the cluster to use; or its scheduler's address. Else a cluster is made here, of so many
        processes (as there are cores), and closed again.
    save : path-like, optional
        A folder for every host's run. It must be one that the workers see. Started again with the
        same folder, hosts that are there already are not replayed again, unless their trace has
        changed.
    retries : int
        How often a host is tried again that failed for another reason than its input.
    progress : callable or True, optional
        Called as ``progress(done, total)`` after every host; True shows a bar.
    host : Host, optional
        Overrides the traces' own.
    drain : bool
        Whether the guest goes on after the last record until nothing is left to do.
    overwrite : bool
        Whether runs of other settings in `save` may be replaced.

    Returns
    -------
    Fleet
        Hosts that failed are in its `failed`; the others are not affected.

    Raises
    ------
    EvtsimError
        Dask is not installed, an argument makes no sense, or `save` has something else in it.

    Examples
    --------
    ::

        fleet = evtsim.fleet.replay("traces/*.arrow", save="fleet", progress=True)
        fleet.hosts.nlargest(5, "coalesced_share")
    """
    hosts = named(specs)
    settings = Settings(guest, stats, drain, host)
    if isinstance(retries, bool) or not isinstance(retries, (int, np.integer)) or retries < 0:
        raise ArgumentError("retries", retries, "0 or more")
    folder = None if save is None else _prepare(Path(save).absolute(), settings, overwrite)
    tasks = [
        Task(name, spec, None if folder is None else str(folder)) for name, spec in hosts.items()
    ]
    fleet = Fleet(list(hosts), folder)
    work = functools.partial(replay_host, settings)
    with (
        cluster.connected(client, most=len(tasks)) as connected,
        shown_progress(progress, "replaying", "hosts") as show,
    ):
        for done, (number, part) in enumerate(cluster.each(connected, work, tasks, retries), 1):
            name = tasks[number].name
            if isinstance(part, EvtsimError):
                fleet.failed[name] = " ".join(str(part).split())
            else:
                fleet.add(name, part)
            if show is not None:
                show(done, len(tasks))
    fleet.failed = {name: fleet.failed[name] for name in hosts if name in fleet.failed}
    return fleet


def load(folder: str | os.PathLike[str]) -> Fleet:
    """Return the fleet whose hosts' runs are in a folder, in the order of their names.

    Of a fleet that is under way it has the hosts that are done.

    Parameters
    ----------
    folder : path-like
        What was given as `save`.

    Raises
    ------
    EvtsimError
        There is no fleet in the folder.
    """
    source = Path(folder).absolute()
    settings = _read_settings(source)
    if settings is None:
        raise EvtsimError(f"{folder}: holds no fleet (expected a folder with {DESCRIPTION})")
    found = {
        unquote(path.parent.name.removeprefix("host=")): path.parent
        for path in sorted(source.glob(f"host=*/{PART}"))
    }
    parts = {name: read_part(digest_of(settings), path) for name, path in found.items()}
    whole = {name: part for name, part in parts.items() if part is not None}
    fleet = Fleet(list(whole), source)
    for name, (part, _) in whole.items():
        fleet.add(name, part)
    return fleet


def _read_settings(folder: Path) -> dict[str, object] | None:
    """Return the settings of the fleet in a folder, if there is one."""
    try:
        return dict(json.loads((folder / DESCRIPTION).read_text())["settings"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise EvtsimError(f"{folder / DESCRIPTION}: not JSON of a fleet ({error})") from None


def _prepare(folder: Path, settings: Settings, overwrite: bool) -> Path:
    """Make a fleet's folder, or go on in it; do not mix it with anything else."""
    wanted = settings.to_dict()
    before = _read_settings(folder) if folder.is_dir() else None
    if before == wanted:
        return folder
    with naming(folder_made(folder)):
        others = sorted(path.name for path in folder.iterdir())
    if not overwrite and before is not None:
        differs = ", ".join(name for name in wanted if before.get(name) != wanted[name])
        raise EvtsimError(
            f"{folder}: holds a fleet replayed with another {differs} (--force replaces it)"
        )
    if not overwrite and others:
        raise EvtsimError(f"{folder}: has other files, {others[0]} (--force writes beside them)")
    with written_whole(folder / DESCRIPTION) as temporary:
        temporary.write_text(json.dumps({"settings": wanted}, indent=1) + "\n")
    return folder
