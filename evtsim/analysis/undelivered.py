"""Stuck channels: events that nobody will see, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim.abi import EventWord, PortState
from evtsim.dtypes import NEVER, Array

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

REASONS = {
    "moved": "selector bit left on vcpu {other}: bound to vcpu {vcpu} while it was pending",
    "upcalls_masked": "vcpu {handler} was told, and masks upcalls",
    "never_woken": "vcpu {handler} was told (upcall_pending), and never ran its handler",
    "lost": "in no vcpu's selector or queue, or without upcall_pending: vcpu {vcpu} will not look",
    "masked": "pending behind its mask: nobody unmasked it",
    "no_event_word": "saved until the event array has its word: it has {num_evtchns:,}",
    "no_control_block": "vcpu {vcpu} has no control block: {no_control_block:,} were lost",
    "no_peer": "unbound: {dropped:,} sends were dropped",
}
"""Why a channel is stuck, by category, in words."""

COLUMNS = [
    *("dom", "port", "state_name", "vcpu", "remote_dom", "remote_port", "category", "reason"),
    *("since_ns", "waiting_ns", "coalesced", "dropped"),
]


def stuck(run: Run, older_than_ns: int = 0) -> pd.DataFrame:
    """Find channels that are stuck at the end, and say why.

    Stuck is a port in use that is pending and undelivered, or whose notifications went nowhere:
    unbound with sends dropped, or under the FIFO ABI without event word or control block. Not
    stuck is what a guest is about to deliver: its handler is due or under way, or the EOI that
    unmasks the port is. Without a guest nobody knows what comes after the trace, so events of its
    last moments count as "never_woken": `older_than_ns` leaves them out.

    The category says why: "moved", bind_vcpu while pending, so that the selector bit stayed with
    another vcpu (if that one has run since, the event is "lost"); "upcalls_masked", on the vcpu;
    "never_woken", the vcpu has upcall_pending set and did not run; "lost", there is no selector
    bit (FIFO: it is in no queue) or no upcall_pending; "masked", the port is; "no_event_word" and
    "no_control_block", FIFO; "no_peer", unbound with sends dropped.

    Parameters
    ----------
    run : Run
        With stats="port".
    older_than_ns : int
        Only events that have waited at least so long, in ns.

    Returns
    -------
    DataFrame
        By domain and port: dom, port, state_name, vcpu (that it notifies), remote_dom (UNBOUND and
        INTERDOMAIN), remote_port (INTERDOMAIN), category, reason (in words), since_ns (ns; when
        the bit was set; missing where none is), waiting_ns (ns, from then to the end), coalesced
        (notifications of the port, ever), dropped (sends on the port, ever).
    """
    import pandas as pd

    ports = _candidates(run)
    since = pd.Series(run.state.tables.port_stats["since"][ports["index"]], dtype="UInt64")
    ports["since_ns"] = since.mask(ports["pending"] == 0)
    ports["waiting_ns"] = int(run.state.tables.host["now"][0]) - ports["since_ns"]
    ports["other"] = _elsewhere(run, ports)
    codes = _categories(run, ports)
    ports["category"] = pd.Categorical.from_codes(codes, pd.Index(list(REASONS)))
    old = ports["waiting_ns"].fillna(NEVER) >= older_than_ns
    ports = ports[ports["category"].notna() & old].reset_index(drop=True)
    words = [REASONS[row["category"]].format_map(row) for row in ports.to_dict("records")]
    ports["reason"] = np.array(words, str)
    return ports[COLUMNS]


def _candidates(run: Run) -> pd.DataFrame:
    """Return ports in use with an event that waits, or with notifications that went nowhere.

    Beside their counts and state: index, in the pool; saved, without an event word; uncontrolled,
    of a vcpu without control block; linked, into a queue; handler, the vcpu that would deliver.
    """
    counts = ["dom", "port", "state_name", "coalesced", "dropped", "no_control_block"]
    abis = run.state.domains()[["dom", "fifo", "num_evtchns"]]
    now = run.state.ports().astype(np.int64).rename(columns={"notify_vcpu": "vcpu"})
    now = now[now["state"] > PortState.RESERVED].merge(abis, on="dom")
    ports = now.merge(run.ports[counts], on=["dom", "port"])
    ports["index"] = run.state.pool_index(ports["dom"].to_numpy(), ports["port"].to_numpy())
    ports["saved"] = ports["uncontrolled"] = ports["linked"] = False
    ports["handler"] = ports["vcpu"]
    if run.state.tables.modern:
        _look_at_queues(run, ports)
    unbound = (ports["state"] == PortState.UNBOUND) & (ports["dropped"] > 0)
    waiting = (ports["pending"] == 1) | unbound | ports["saved"] | ports["uncontrolled"]
    return ports[waiting].reset_index(drop=True)


def _look_at_queues(run: Run, ports: pd.DataFrame) -> None:
    """Fill in saved, uncontrolled, linked and handler of ports under the FIFO ABI."""
    tables = run.state.tables
    fifo = ports["fifo"] == 1
    row = tables.domains["first_vcpu"][ports["dom"]] + ports["vcpu"].to_numpy()
    without = tables.vcpu_fifo["control"][row] == 0
    ports["uncontrolled"] = fifo & without & (ports["no_control_block"] > 0)
    beyond = ports["port"] >= ports["num_evtchns"]
    ports["saved"] = fifo & beyond & (ports["saved_pending"] == 1)
    words = ports[["dom", "port"]].merge(run.state.event_words(), how="left")["word"]
    ports["linked"] = words.fillna(0).astype(np.int64) & int(EventWord.LINKED) != 0
    queue = tables.port_fifo["last_vcpu"][ports["index"]].astype(np.int64)
    ports["handler"] = ports["vcpu"].where(~ports["linked"], queue)


def _selector_bits(run: Run, ports: pd.DataFrame) -> Array:
    """Return the bits that stand for the ports in a vcpu's selector; none under the FIFO ABI."""
    shift = run.state.tables.domains["word_shift"][ports["dom"]]
    word = ports["port"].to_numpy() >> shift
    bits: Array = np.uint64(1) << np.minimum(word, 63).astype(np.uint64)
    return np.where(ports["fifo"] == 1, np.uint64(0), bits)


def _elsewhere(run: Run, ports: pd.DataFrame) -> Array:
    """Return a vcpu that has each port's selector bit and is not the one it notifies, or -1."""
    vcpus = run.state.vcpus()[["dom", "vcpu", "pending_sel"]].rename(columns={"vcpu": "other"})
    vcpus = vcpus[vcpus["pending_sel"] != 0]
    wanted = ports[["dom", "vcpu"]].assign(place=ports.index, bit=_selector_bits(run, ports))
    pairs = wanted.merge(vcpus, on="dom")
    pairs = pairs[(pairs["pending_sel"] & pairs["bit"] != 0) & (pairs["other"] != pairs["vcpu"])]
    found = pairs.drop_duplicates("place").set_index("place")["other"]
    return found.reindex(ports.index, fill_value=-1).to_numpy()


def _categories(run: Run, ports: pd.DataFrame) -> Array:
    """Say why each port is stuck: a place in REASONS, or -1 if a guest is about to deliver it."""
    moved, upcalls_masked, never_woken, lost, hidden, saved, uncontrolled, no_peer = range(
        len(REASONS)
    )
    tables = run.state.tables
    row = tables.domains["first_vcpu"][ports["dom"]] + ports["handler"].to_numpy()
    vcpus = tables.vcpus[row]
    selector, told = vcpus["pending_sel"], vcpus["upcall_pending"] == 1
    handled = waits_for_eoi = np.zeros(len(ports), bool)
    if run.guest is not None:
        handlers = tables.guest_vcpus[row]
        handled = (handlers["due"] != NEVER) & (vcpus["upcall_mask"] == 0)
        selector = selector | np.where(handled, handlers["selector"], np.uint64(0))
        if len(tables.eois) > 1:
            waits_for_eoi = tables.eois["vcpu"][ports["index"]] != 0
    selected = ports["linked"] | (selector & _selector_bits(run, ports) != 0)
    masked = ports["mask"].to_numpy() == 1
    waits = ports["pending"] == 1
    return np.select(
        [
            ports["saved"],
            waits & np.where(masked, waits_for_eoi, handled & selected),
            waits & masked,
            waits & ~selected & (ports["other"] >= 0),
            waits & ~(selected & told),
            waits & (vcpus["upcall_mask"] == 1),
            waits,
            ports["uncontrolled"],
        ],
        [saved, -1, hidden, moved, lost, upcalls_masked, never_woken, uncontrolled],
        no_peer,
    )
