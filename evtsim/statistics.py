"""What the kernels counted, as frames. docs/statistics.md documents every column.

A frame shows things as they are at the last record: what is still going on (a bit that is
pending, a channel that is open) is counted up to then, without touching the tables.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.dtypes import (
    EDGE,
    LATENCY_TYPES,
    PORT_LEVEL,
    TIMELINE,
    XEN_HERE,
    Array,
)
from evtsim.errors import EvtsimError
from evtsim.frames import errno_names, op_names, state_names
from evtsim.state import State
from evtsim.tables import OPERATION_SLOTS, places, sum_edges

if TYPE_CHECKING:
    import pandas as pd

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def require(state: State, level: int, what: str) -> None:
    """Raise an EvtsimError that names the option if statistics of a level were not kept."""
    if state.level < level:
        option = "'port'" if level == PORT_LEVEL else "'domain' or 'port'"
        raise EvtsimError(
            f"{what}: not counted in this run (stats={option}, --stats on the command line)"
        )


def ports(state: State) -> pd.DataFrame:
    """Return a row for every port that ever was valid."""
    import pandas as pd

    require(state, PORT_LEVEL, "ports")
    dom, port, index = _pool(state)
    counts, rare = state.tables.port_stats[index], state.tables.port_rare[index]
    pending, mask = state.bits(dom, port)
    outstanding = _outstanding(state, dom, port)
    now = state.tables.host["now"][0]
    since = np.where(pending, now - counts["since"], np.uint64(0))
    hidden_since = np.maximum(rare["masked_at"], counts["since"])
    masked = np.where(pending & mask, now - hidden_since, np.uint64(0))
    valid = port < state.tables.domains["nr_ports"][dom]
    states = np.where(valid, state.tables.ports["state"][index], abi.PortState.FREE)
    raised = counts["set"] + counts["coalesced"] + rare["saved"] + rare["no_control_block"]
    priority = (
        {"priority": state.tables.port_fifo["priority"][index]} if state.tables.modern else {}
    )
    return pd.DataFrame(
        {
            "dom": dom,
            "port": port,
            "state": states,
            "state_name": state_names(states),
            "sends": _sends(state)[index] + rare["dropped"] + rare["to_xen"],
            "dropped": rare["dropped"],
            "to_xen": rare["to_xen"],
            "raised": raised,
            "set": counts["set"],
            "coalesced": counts["coalesced"],
            "masked": rare["masked"],
            "delivered": counts["set"] - rare["cleared"] - outstanding,
            "cleared": rare["cleared"],
            "saved": rare["saved"],
            "no_control_block": rare["no_control_block"],
            "outstanding": outstanding,
            "pending_ns": counts["latency_sum"] + rare["cleared_ns"] + since,
            "masked_ns": rare["masked_ns"] + masked,
            "latency_sum": counts["latency_sum"],
            "latency_max": counts["latency_max"],
            "longest_gap": counts["longest_gap"],
            **priority,
        }
    )


def vcpus(state: State) -> pd.DataFrame:
    """Return a row for every configured vcpu."""
    import pandas as pd

    require(state, 1, "vcpus")
    dom, vcpu = state.owners()
    stats = state.tables.vcpu_stats
    return pd.DataFrame(
        {"dom": dom, "vcpu": vcpu} | {name: stats[name] for name in stats.dtype.names or ()}
    )


def domains(state: State) -> pd.DataFrame:
    """Return a row for every configured domain."""
    import pandas as pd

    require(state, 1, "domains")
    counts = state.tables.operations["records"][:, :, :-1]
    hypercalls = [op < abi.FIRST_NON_HYPERCALL for op in OPERATION_SLOTS]
    stats, pending = state.tables.domain_stats, state.tables.domain_pending
    return pd.DataFrame(
        {
            "dom": np.arange(len(state.host)),
            "alive": state.tables.domains["alive"],
            "hypercalls": counts[hypercalls].sum(axis=(0, 1)),
            "errors": counts[:, 1:].sum(axis=(0, 1)),
            "in_use": stats["in_use"],
            "in_use_peak": stats["in_use_peak"],
            "limit": state.tables.domains["max_ports"],
            "pending": pending["now"],
            "pending_peak": pending["peak"],
        }
    )


def operations(state: State) -> pd.DataFrame:
    """Return a row for every caller, operation and answer that occurred."""
    import pandas as pd

    require(state, 1, "operations")
    table = state.tables.operations
    slot, errno, dom = np.nonzero(table["records"])
    rows = table[slot, errno, dom]
    op = np.array([int(op) for op in OPERATION_SLOTS])[slot]
    rc = -np.array([0, *(int(errno) for errno in abi.Errno)])[errno]
    frame = pd.DataFrame(
        {
            "dom": np.where(dom == len(state.host), -1, dom),
            "op": op,
            "op_name": op_names(op),
            "rc": rc,
            "errno_name": errno_names(rc),
            "records": rows["records"],
            "first_ts": rows["first_ts"],
        }
    )
    return frame.sort_values(["dom", "op", "rc"], ignore_index=True)


def timeline(state: State) -> pd.DataFrame:
    """Return a row for every bin of the host (group -1) and of every group of domains."""
    import pandas as pd

    require(state, 1, "timeline")
    host = state.tables.host[0]
    shift = int(host["bin_shift"])
    used = (int(host["bin_end"]) >> shift) - (int(host["first_ts"]) >> shift) + 1
    if not host["started"]:
        used = 0
    groups = ((len(state.host) - 1) >> int(host["group_shift"])) + 1
    bins = state.tables.timeline[:used, :groups]
    start = ((int(host["first_ts"]) >> shift) + np.arange(used, dtype=np.uint64)) << np.uint64(
        shift
    )
    first, last = _group_bounds(state, groups)
    names = TIMELINE.names or ()
    whole = {name: bins[name].sum(axis=1) for name in names}
    each = {name: bins[name].T.reshape(-1) for name in names}
    return pd.DataFrame(
        {
            "start_ns": np.concatenate([start, np.tile(start, groups)]),
            "width_ns": np.uint64(1 << shift),
            "group": np.concatenate([np.full(used, -1), np.repeat(np.arange(groups), used)]),
            "first_dom": np.concatenate([np.zeros(used, np.int64), np.repeat(first, used)]),
            "last_dom": np.concatenate([np.full(used, len(state.host) - 1), np.repeat(last, used)]),
            **{name: np.concatenate([whole[name], each[name]]) for name in names},
        }
    )


def latency(state: State) -> pd.DataFrame:
    """Return the non-empty bins of the latency histograms, by type and by group of domains."""
    import pandas as pd

    require(state, 1, "latency")
    kind, place = np.nonzero(state.tables.latency)
    low, high = latency_bounds(place)
    by_type = pd.DataFrame(
        {
            "type": np.array(LATENCY_TYPES)[kind % 4],
            "priority": kind // 4 - 1,
            "first_dom": 0,
            "last_dom": len(state.host) - 1,
            "low_ns": low,
            "high_ns": high,
            "events": state.tables.latency[kind, place],
        }
    )
    if state.level < PORT_LEVEL:
        return by_type
    groups = state.tables.latency_groups
    group, place = np.nonzero(groups)
    low, high = latency_bounds(place)
    first, last = _group_bounds(state, len(groups))
    by_group = pd.DataFrame(
        {
            "type": "all",
            "priority": -1,
            "first_dom": first[group],
            "last_dom": last[group],
            "low_ns": low,
            "high_ns": high,
            "events": groups[group, place],
        }
    )
    return pd.concat([by_type, by_group], ignore_index=True)


def edges(state: State) -> pd.DataFrame:
    """Return a row for every pair of domains of which one notified the other."""
    import pandas as pd

    require(state, PORT_LEVEL, "edges")
    booked = state.tables.edges[: int(state.tables.host["edges_used"][0])]
    summed = sum_edges(np.concatenate([booked, _open_edges(state)]))
    return pd.DataFrame({name: summed[name].astype(np.int64) for name in EDGE.names or ()})


def deliveries(state: State) -> pd.DataFrame:
    """Return a row for every delivery that is in the log, in order."""
    if not state.deliveries_kept:
        raise EvtsimError(
            "deliveries: not logged in this run (deliveries=N, --deliveries FILE keeps them)"
        )
    delivered = int(state.tables.host["delivered"][0])
    rows = state.deliveries()
    if len(rows) < delivered:
        warnings.warn(
            f"the log has the first {len(rows):,} of {delivered:,} deliveries "
            "(deliveries=N keeps more)",
            stacklevel=3,
        )
    return delivery_frame(rows)


def delivery_frame(rows: Array) -> pd.DataFrame:
    """Return deliveries, of DELIVERY, as `run.deliveries` shows them."""
    import pandas as pd

    return pd.DataFrame(
        {
            "ts": rows["ts"],
            "dom": rows["dom"],
            "vcpu": rows["vcpu"],
            "port": rows["port"],
            "type": pd.Categorical.from_codes(
                (rows["type"] % 4).astype(np.int8), pd.Index(LATENCY_TYPES)
            ),
            "raised_ts": rows["raised_ts"],
            "latency": rows["ts"] - rows["raised_ts"],
            "coalesced": rows["coalesced"],
            "batch": rows["batch"],
        }
    )


# Latency -----------------------------------------------------------------------------------------


def latency_bounds(place: Array) -> tuple[Array, Array]:
    """Return the lowest and highest ns that a bin of the histogram holds."""
    octave = np.maximum(place // 32 - 1, 0).astype(np.uint64)
    low = np.where(place < 32, place, 32 + place % 32).astype(np.uint64) << octave
    return low, low + ((np.uint64(1) << octave) - np.uint64(1))


def quantiles(counts: Array, largest: int) -> dict[str, int]:
    """Return latency quantiles of a histogram, in ns: the highest value of the bin each is in.

    Parameters
    ----------
    counts : ndarray of int64
        (LATENCY_BINS,).
    largest : int
        The largest latency seen, or the histogram's highest; no quantile lies above it.
    """
    total = int(counts.sum())
    if total == 0:
        return dict.fromkeys(QUANTILES, 0)
    rank = np.ceil(np.array(list(QUANTILES.values())) * total)
    place = np.searchsorted(np.cumsum(counts), rank)
    _, high = latency_bounds(place)
    return {n: min(int(h), largest) for n, h in zip(QUANTILES, high, strict=True)}


def highest(counts: Array) -> int:
    """Return the highest ns of the last bin that is not empty."""
    filled = np.flatnonzero(counts)
    return int(latency_bounds(filled[-1:])[1][0]) if len(filled) else 0


def by_type(state: State) -> list[dict[str, Any]]:
    """Return notifications, deliveries and latency quantiles of every type of channel with any.

    Each has type, raised, coalesced, masked, delivered and latency_ns: p50, p90, p99, p99.9, max.
    """
    rows: list[dict[str, Any]] = []
    tables = state.tables
    by_kind = tables.latency.reshape(-1, len(LATENCY_TYPES), tables.latency.shape[1]).sum(axis=0)
    longest = longest_latencies(state) if state.level == PORT_LEVEL else {}
    for kind, name in enumerate(LATENCY_TYPES):
        row, counts = tables.types[kind], by_kind[kind]
        raised = int(row["set"] + row["coalesced"])
        if raised == 0:
            continue
        largest = highest(counts)
        if longest:
            largest = exact(largest, longest[name])
        rows.append(
            {
                "type": name,
                "raised": raised,
                "coalesced": int(row["coalesced"]),
                "masked": int(row["masked"]),
                "delivered": int(counts.sum()),
                "latency_ns": {**quantiles(counts, largest), "max": largest},
            }
        )
    return rows


def longest_latencies(state: State) -> dict[str, int]:
    """Return the longest latency in ns of the ports that were of each type at last."""
    latencies = state.tables.port_stats["latency_max"]
    kinds = state.tables.port_stats["type"] % len(LATENCY_TYPES)
    return {
        name: int(latencies[kinds == kind].max(initial=0))
        for kind, name in enumerate(LATENCY_TYPES)
    }


def exact(edge: int, longest: int) -> int:
    """Return the longest latency of a type of channel, whose histogram ends with this bin's edge.

    A port that was of another type before may have a longer one: then only the bin is known.
    """
    return longest if edge - edge // 32 <= longest <= edge else edge


def vcpu_totals(state: State) -> dict[str, int]:
    """Return the sums over all vcpus, the largest batch of any, and how many ports are pending."""
    stats = state.tables.vcpu_stats
    totals = {name: int(stats[name].sum()) for name in stats.dtype.names or ()}
    totals["largest_batch"] = int(stats["largest_batch"].max())
    totals["pending"] = int(state.tables.domain_pending["now"].sum())
    return totals


def notified_ports(state: State) -> list[dict[str, int]]:
    """Return dom, port, raised, coalesced and delivered of the ports with most of either.

    A thousand at most, so that what sums a run up needs no pandas and no time.
    """
    dom, port, index = _pool(state)
    counts, rare = state.tables.port_stats[index], state.tables.port_rare[index]
    columns = {
        "dom": dom,
        "port": port,
        "raised": counts["set"] + counts["coalesced"] + rare["saved"] + rare["no_control_block"],
        "coalesced": counts["coalesced"],
        "delivered": counts["set"] - rare["cleared"] - _outstanding(state, dom, port),
    }
    most = [np.argsort(-columns[name], kind="stable")[:500] for name in ("raised", "coalesced")]
    chosen = np.unique(np.concatenate(most))
    rows = zip(*(column[chosen].tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


# Helpers -----------------------------------------------------------------------------------------


def _pool(state: State) -> tuple[Array, Array, Array]:
    """Return domain, port and pool index of every port that ever was valid, in order."""
    dom, port, index = places(state.tables.buckets)
    valid = port < state.tables.domain_stats["valid_peak"][dom]
    return dom[valid], port[valid], index[valid]


def _outstanding(state: State, dom: Array, port: Array) -> Array:
    """Return how many pending bits ports have: the 2-level one, and under FIFO the word's too."""
    alive = state.tables.domains["alive"][dom] != 0
    fifo = state.tables.domains["fifo"][dom] != 0
    shared, _ = state.shared_bits(dom, port)
    present, _ = state.bits(dom, port)
    bits: Array = (alive & shared).astype(np.int64) + (alive & fifo & present)
    return bits


def _open_channels(state: State) -> tuple[Array, Array]:
    """Return the pool's indices of open channels' sending and receiving ends."""
    table = state.tables.ports
    near = np.flatnonzero(table["state"] == abi.PortState.INTERDOMAIN)
    ipis = np.flatnonzero(table["state"] == abi.PortState.IPI)
    return np.concatenate([near, ipis]), np.concatenate([table["peer"][near], ipis])


def _through_open_channels(state: State) -> tuple[Array, Array, Array, Array]:
    """Return what open channels brought: their ends, notifications raised, of them coalesced."""
    near, far = _open_channels(state)
    stats, rare = state.tables.port_stats[far], state.tables.port_rare[far]
    coalesced = stats["coalesced"] - rare["coalesced_before"]
    lost = rare["saved"] + rare["no_control_block"] - rare["lost_before"]
    return near, far, stats["set"] - rare["set_before"] + coalesced + lost, coalesced


def _sends(state: State) -> Array:
    """Return sends by the pool's index, without those dropped and to Xen."""
    total: Array = state.tables.port_rare["sends"].copy()
    near, _, raised, _ = _through_open_channels(state)
    guests = (state.tables.ports["xen"][near] & XEN_HERE) == 0
    total[near[guests]] += raised[guests]
    return total


def _open_edges(state: State) -> Array:
    """Return the edges of channels that are open."""
    near, far, raised, coalesced = _through_open_channels(state)
    owner = np.zeros(len(state.tables.ports), np.int64)
    dom, _, index = _pool(state)
    owner[index] = dom
    edges = np.zeros(len(near), EDGE)
    edges["dom"], edges["target"] = owner[near], owner[far]
    edges["raised"], edges["coalesced"] = raised, coalesced
    return edges[raised > 0]


def _group_bounds(state: State, groups: int) -> tuple[Array, Array]:
    """Return the first and last domain of every group."""
    shift = int(state.tables.host["group_shift"][0])
    first = np.arange(groups) << shift
    return first, np.minimum(first + (1 << shift), len(state.host)) - 1
