"""The calibration: a loop over flat arrays that does only the bit work of the records.

No checks, no life cycle, no growth, no prefetch: what a replay cannot do without, in the
plainest form that numba compiles well. Every domain has one vcpu and 64-bit words.
"""

from typing import NamedTuple

import numba
import numpy as np

import evtsim
from evtsim.abi import Effect, Op
from evtsim.dtypes import Array, Columns
from evtsim.kernels.bits import trailing_zeros

ONE = np.uint64(1)
SEND, UPCALL, MASK = int(Op.SEND), int(Op.UPCALL), int(Op.MASK)
SET, COALESCED, MASKED = int(Effect.SET), int(Effect.COALESCED), int(Effect.MASKED)
SELECTED, KICK = int(Effect.SELECTED), int(Effect.KICK)


class Records(NamedTuple):
    """The columns that the loop reads, as numba takes them by itself."""

    dom: Array
    op: Array
    arg0: Array


@numba.njit(nogil=True, error_model="numpy")
def bare(trace, peer_dom, peer_port, pending, mask, selector, upcall_pending, rc, port, effects):
    """Apply records to (domains, ports) peers and (domains, words) bitmaps."""
    for i in range(len(trace.op)):
        dom = np.int64(trace.dom[i])
        p = np.int64(trace.arg0[i])
        op = trace.op[i]
        effect = 0
        delivered = 0
        if op == SEND:
            target = np.int64(peer_dom[dom, p])
            q = np.int64(peer_port[dom, p])
            w = q >> 6
            flag = ONE << np.uint64(q & 63)
            if pending[target, w] & flag:
                effect = COALESCED
            else:
                pending[target, w] |= flag
                effect = SET
                if mask[target, w] & flag:
                    effect |= MASKED
                else:
                    bit = ONE << np.uint64(w)
                    if not selector[target] & bit:
                        selector[target] |= bit
                        effect |= SELECTED
                        if not upcall_pending[target]:
                            upcall_pending[target] = 1
                            effect |= KICK
        elif op == UPCALL:
            if upcall_pending[dom]:
                upcall_pending[dom] = 0
                chosen = selector[dom]
                selector[dom] = 0
                while chosen:
                    w = trailing_zeros(chosen)
                    chosen &= chosen - ONE
                    waiting = pending[dom, w] & ~mask[dom, w]
                    pending[dom, w] ^= waiting
                    while waiting:
                        waiting &= waiting - ONE
                        delivered += 1
        else:
            w = p >> 6
            flag = ONE << np.uint64(p & 63)
            if op == MASK:
                mask[dom, w] |= flag
            elif mask[dom, w] & flag:
                mask[dom, w] &= ~flag
                if pending[dom, w] & flag:
                    bit = ONE << np.uint64(w)
                    if not selector[dom] & bit:
                        selector[dom] |= bit
                        effect = SELECTED
                        if not upcall_pending[dom]:
                            upcall_pending[dom] = 1
                            effect |= KICK
        rc[i] = 0
        port[i] = delivered
        effects[i] = effect


class BareLoop:
    """The bare loop over the channels that a simulator has.

    Parameters
    ----------
    sim : evtsim.Simulator
        After the channels were made; its bitmaps are copied.
    """

    def __init__(self, sim: evtsim.Simulator) -> None:
        ports = sim.state.ports()
        domains, width = len(sim.host), int(ports["port"].max()) + 1
        where = (ports["dom"].to_numpy(), ports["port"].to_numpy())
        self.peer_dom = np.zeros((domains, width), np.uint16)
        self.peer_port = np.zeros((domains, width), np.uint16)
        self.peer_dom[where] = ports["remote_dom"]
        self.peer_port[where] = ports["remote_port"]
        words = -(-width // 64)
        shared = sim.state.tables.shared[:words].T
        self.pending = shared["pending"].copy()
        self.mask = shared["mask"].copy()
        self.selector = sim.state.tables.vcpus["pending_sel"].copy()
        self.upcall_pending = sim.state.tables.vcpus["upcall_pending"].copy()

    def apply(self, columns: Columns) -> tuple[Array, Array, Array]:
        """Apply a trace's columns; rc, port and effects, new as those of a replay are."""
        records = len(columns.op)
        rc = np.zeros(records, np.int32)
        port = np.zeros(records, np.uint32)
        effects = np.zeros(records, np.uint16)
        bare(
            Records(columns.dom, columns.op, columns.arg0),
            self.peer_dom,
            self.peer_port,
            self.pending,
            self.mask,
            self.selector,
            self.upcall_pending,
            rc,
            port,
            effects,
        )
        return rc, port, effects
