"""What a fleet's replay leaves: a row a host, sums over all of them, and the hosts' own frames."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import statistics
from evtsim.analysis._common import share
from evtsim.analysis.sweeping import MEASURED
from evtsim.dtypes import LATENCY_BINS, LATENCY_KINDS, LATENCY_TYPES, TALLY_ERRNOS, TALLY_OPS
from evtsim.errors import EvtsimError, shown
from evtsim.fleet.hosts import SMALL, Part, folder_of
from evtsim.frames import errno_names, op_names
from evtsim.run import FRAMES, Run

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.dataset

OF_ROWS: dict[str, Any] = dict.fromkeys(("records", "errors", "domains", "duration_ns"), np.int64)
NOTIFIED = ("raised", "coalesced", "masked")


class Fleet:
    """What the replay of many hosts leaves.

    Sums are of integers, so they do not depend on which worker was done when.

    Attributes
    ----------
    names : list of str
        All hosts', in the order in which they were given.
    failed : dict of str to str
        Hosts that could not be replayed, and why, in one line.
    kept : int
        Hosts that had been replayed before.
    folder : Path or None
        Where the hosts' runs are.
    """

    def __init__(self, names: Sequence[str], folder: Path | None) -> None:
        self.names = list(names)
        self.failed: dict[str, str] = {}
        self.kept = 0
        self.folder = folder
        self._rows: dict[str, dict[str, Any]] = {}
        self._frames: dict[str, dict[str, pa.Table]] = {}
        self._totals: dict[str, int] = {}
        self._vcpus: dict[str, int] = {}
        self._types: dict[str, dict[str, int]] = {}
        self._tally = np.zeros((TALLY_OPS, TALLY_ERRNOS), np.int64)
        self._latency = np.zeros((LATENCY_KINDS, LATENCY_BINS), np.int64)

    def add(self, name: str, part: Part) -> None:
        """Take a host's part. For those that replay fleets."""
        self._rows[name] = part.row
        self._frames[name] = part.frames
        self.kept += part.kept
        _sum_up(self._totals, part.totals, largest="duration_ns")
        _sum_up(self._vcpus, part.vcpus, largest="largest_batch")
        for of_type in part.types:
            counts = {name: of_type[name] for name in NOTIFIED}
            counts["max_ns"] = of_type["latency_ns"]["max"]
            _sum_up(self._types.setdefault(of_type["type"], {}), counts, largest="max_ns")
        for op, rc, records in part.operations:
            self._tally[op, -rc] += records
        for kind, place, events in part.latency:
            self._latency[kind, place] += events

    @property
    def hosts(self) -> pd.DataFrame:
        """A row for every host that was replayed, in the order given. Columns: docs/fleet.md."""
        import pandas as pd

        rows = [{"host": n, **self._rows[n]} for n in self.names if n in self._rows]
        has_stats = not rows or "raised" in rows[0]
        dtypes = {**OF_ROWS, **(MEASURED if has_stats else {"delivered": np.int64})}
        return pd.DataFrame(rows, columns=["host", "source", *dtypes]).astype(dtypes)

    @property
    def operations(self) -> pd.DataFrame:
        """Records of all hosts by operation and answer: op, op_name, rc, errno_name, records."""
        import pandas as pd

        op, errno = np.nonzero(self._tally)
        return pd.DataFrame(
            {
                "op": op,
                "op_name": op_names(op),
                "rc": -errno,
                "errno_name": errno_names(-errno),
                "records": self._tally[op, errno],
            }
        )

    @property
    def latency(self) -> pd.DataFrame:
        """Latency histograms of all hosts together: type, priority, low_ns, high_ns, events."""
        import pandas as pd

        kind, place = np.nonzero(self._latency)
        low, high = statistics.latency_bounds(place)
        return pd.DataFrame(
            {
                "type": np.array(LATENCY_TYPES)[kind % len(LATENCY_TYPES)],
                "priority": kind // len(LATENCY_TYPES) - 1,
                "low_ns": low,
                "high_ns": high,
                "events": self._latency[kind, place],
            }
        )

    def totals(self) -> dict[str, int]:
        """Return the fleet in a few numbers.

        hosts (that were replayed), failed, and Run.totals() of all hosts together: sums, and of
        duration_ns the longest.
        """
        return {"hosts": len(self._rows), "failed": len(self.failed), **self._totals}

    def vcpu_totals(self) -> dict[str, int]:
        """Return counts over all vcpus, the largest batch of any, and how many ports are pending.

        Empty without statistics.
        """
        return dict(self._vcpus)

    def types(self) -> list[dict[str, Any]]:
        """Return notifications, deliveries and latency quantiles by type of channel.

        Each has type, raised, coalesced, masked, delivered and latency_ns: p50, p90, p99, p99.9,
        max. The quantiles are those of all hosts' events together.
        """
        by_type = self._latency.reshape(-1, len(LATENCY_TYPES), LATENCY_BINS).sum(axis=0)
        rows = []
        for name, counts in zip(LATENCY_TYPES, by_type, strict=True):
            if name in self._types:
                of_type = dict(self._types[name])
                largest = of_type.pop("max_ns")
                latency = {**statistics.quantiles(counts, largest), "max": largest}
                delivered = int(counts.sum())
                rows.append(
                    {"type": name, **of_type, "delivered": delivered, "latency_ns": latency}
                )
        return rows

    def coalesced_share(self) -> float:
        """Return the share of notifications that found the bit set, of all hosts, 0 to 1."""
        raised, coalesced = (
            sum(counts[name] for counts in self._types.values()) for name in NOTIFIED[:2]
        )
        return float(share(coalesced, raised))

    # Hosts ---------------------------------------------------------------------------------------

    def run(self, name: str) -> Run:
        """Load a host's run; an EvtsimError if it was not kept."""
        if name not in self._rows:
            raise EvtsimError(f"no host {shown(name)} was replayed")
        return Run.load(folder_of(self._require_folder("runs"), name))

    def frame(self, name: str) -> pd.DataFrame:
        """Return a frame of every host's run, one below the other, with a column host in front.

        Parameters
        ----------
        name : str
            vcpus, domains, operations, latency; or with `save` any frame of a run that its
            statistics have. Of thousands of hosts some do not fit into memory:
            :meth:`dataset` reads parts.

        Raises
        ------
        EvtsimError
            The frame was not kept.
        """
        import pyarrow as pa

        if self.folder is not None or name not in SMALL:
            table = self.dataset(name).to_table()
        else:
            tables = []
            for host in self.names:
                kept = self._frames.get(host, {}).get(name)
                if kept is not None:
                    column = pa.array([host] * len(kept), pa.string())
                    tables.append(kept.append_column("host", column).replace_schema_metadata())
            if not tables:
                raise EvtsimError(f"{name}: not counted in this fleet (stats='domain' counts it)")
            table = pa.concat_tables(tables, promote_options="permissive")
        columns = table.unify_dictionaries().to_pandas()
        columns.insert(0, "host", columns.pop("host"))
        frame: pd.DataFrame = columns
        return frame

    def dataset(self, name: str) -> pyarrow.dataset.Dataset:
        """Return a frame of every host's run as a dataset, to read what is wanted of it.

        Parameters
        ----------
        name : str
            A frame of a run: ports, vcpus, domains, operations, timeline, latency, edges.

        Returns
        -------
        pyarrow.dataset.Dataset
            With a column host. Its hosts are filtered without reading the others':
            ``fleet.dataset("ports").to_table(filter=pc.field("host") == "web01")``.

        Raises
        ------
        EvtsimError
            Runs were not kept, or their statistics do not have the frame.
        """
        import pyarrow as pa
        import pyarrow.dataset as ds
        import pyarrow.parquet as pq

        if name not in FRAMES:
            raise EvtsimError(f"no frame {shown(name)} (expected one of: {', '.join(FRAMES)})")
        folder = self._require_folder(name)
        hosts = [host for host in self.names if host in self._rows]
        paths = [folder_of(folder, host) / f"{name}.parquet" for host in hosts]
        paths = [path for path in paths if path.exists()]
        if not paths:
            raise EvtsimError(f"{name}: not counted in this fleet (stats='port' counts it)")
        hosts_column = pa.schema([("host", pa.string())])
        # Hosts with and without the FIFO ABI differ in a column.
        schemas = [pq.read_schema(path).remove_metadata() for path in paths]
        return ds.dataset(
            [str(path) for path in paths],
            schema=pa.unify_schemas([*schemas, hosts_column], promote_options="permissive"),
            format="parquet",
            partitioning=ds.partitioning(hosts_column, flavor="hive"),
            partition_base_dir=str(folder),
        )

    def _require_folder(self, what: str) -> Path:
        if self.folder is None:
            raise EvtsimError(f"{what}: not kept (save=FOLDER keeps every host's run)")
        return self.folder

    def __repr__(self) -> str:
        failed = f", {len(self.failed):,} failed" if self.failed else ""
        records = self._totals.get("records", 0)
        return f"<Fleet of {len(self._rows):,} hosts{failed}, {records:,} records>"

    def _repr_html_(self) -> str:
        what = html.escape(repr(self)[10:-1])
        return f"<b>Fleet</b> of {what}{self.hosts.head(20)._repr_html_()}"  # type: ignore[operator]


def _sum_up(into: dict[str, int], numbers: dict[str, int], *, largest: str) -> None:
    """Add numbers by name; of one, take the largest."""
    for name, value in numbers.items():
        if name == largest:
            into[name] = max(into.get(name, 0), value)
        else:
            into[name] = into.get(name, 0) + value
