"""Every structured dtype and every bundle of arrays that kernels work on, field by field.

The public ones (records, outcomes, domains' configuration) are packed and may be written by
users. The tables of a running host are aligned, so that kernels load each field in one access;
their order puts what one `send` touches side by side.
"""

from typing import Any, NamedTuple

import numpy as np

# One record of a trace: 24 bytes.
RECORD_DTYPE = np.dtype(
    [
        ("ts", "u8"),  # ns since the trace's own zero; 64 bits last 584 years
        ("dom", "u2"),  # calling domain, or the one acted on; Xen's domid_t
        ("vcpu", "u2"),  # calling vcpu
        ("op", "u2"),  # abi.Op
        ("flags", "u2"),  # abi.Fault
        ("arg0", "u4"),  # first argument, before it is narrowed to Xen's field
        ("arg1", "u4"),  # second argument
    ]
)

# What one record answered and did: 18 bytes.
OUTCOME_DTYPE = np.dtype(
    [
        ("rc", "i4"),  # 0 or -errno
        ("port", "u4"),  # the port, status code or count that it gave back
        ("vcpu", "u2"),  # status: the notify vcpu
        ("remote_dom", "u2"),  # status
        ("remote_port", "u4"),  # status; a VIRQ's or PIRQ's number too
        ("effects", "u2"),  # abi.Effect
    ]
)

# One domain's configuration, as Host takes it.
DOMAIN_DTYPE = np.dtype(
    [
        ("vcpus", "u2"),  # configured vcpus
        ("privileged", "u1"),  # 1: may act on other domains
        ("word_bits", "u1"),  # 32 or 64: the guest's word, decides the 2-level limit
        ("nr_pirqs", "u2"),  # physical interrupts that the domain knows
        ("pirq_permitted", "u1"),  # 1: may bind them
        ("alive", "u1"),  # 1: exists when the trace begins
        ("max_port", "u4"),  # highest port number allowed (xen-4.23)
    ]
)

BUCKET_PORTS = 128
"""Ports in one bucket of the pool; what is valid is counted per domain, not per bucket."""
BUCKET_SHIFT = 7

# One domain of a running host: 32 bytes, two to a cache line. Unsigned throughout the tables, so
# that no index made of a field needs Python's test for counting from the end.
DOMAIN_TABLE = np.dtype(
    [
        ("nr_ports", "u4"),  # a port is valid below this; 0 while the domain is dead
        ("first_vcpu", "u4"),  # row of vcpu 0 in the vcpu table
        ("nr_vcpus", "u2"),  # configured vcpus
        ("pollers", "u2"),  # vcpus in poll_mask, so that a notification can skip looking
        ("word_shift", "u1"),  # 5 or 6: ports per selector bit as a power of two
        ("alive", "u1"),
        ("privileged", "u1"),
        ("pirq_permitted", "u1"),
        ("max_ports", "u4"),  # only ports below may be given: the ABI's limit, and max_port
        ("free_hint", "u4"),  # no port below this is FREE
        ("first_pirq", "u4"),  # row of PIRQ 0 in the PIRQ map
        ("nr_pirqs", "u2"),  # physical interrupts known
        ("fifo", "u1"),  # 1: under the FIFO ABI
        ("event_pages", "u1"),  # of its event array
    ],
    align=True,
)

# One vcpu: 16 bytes, four to a cache line.
VCPU_TABLE = np.dtype(
    [
        ("pending_sel", "u8"),  # shared memory: evtchn_pending_sel, bits of words of ports
        ("poll_port", "u4"),  # Xen's poll_evtchn; 0: any port
        ("upcall_pending", "u1"),  # shared memory
        ("upcall_mask", "u1"),  # shared memory
        ("polling", "u1"),  # in the domain's poll_mask
        ("blocked", "u1"),  # waits in SCHEDOP_poll
    ],
    align=True,
)

# One port: 16 bytes, four to a cache line. A sender's own entry says all of its target, at the
# price that bind_vcpu has to tell the peer: one random access less in every send.
PORT_TABLE = np.dtype(
    [
        ("peer", "u4"),  # INTERDOMAIN: the peer's index in the pool
        ("remote_port", "u4"),  # INTERDOMAIN: the peer's port; VIRQ, PIRQ: the number; else 0
        ("remote_dom", "u2"),  # UNBOUND, INTERDOMAIN; else 0
        ("notify_vcpu", "u2"),
        ("peer_vcpu", "u2"),  # INTERDOMAIN: the peer's notify_vcpu
        ("state", "u1"),  # abi.PortState
        ("xen", "u1"),  # who consumes: XEN_HERE, XEN_PEER
    ],
    align=True,
)

# Whom a send notifies, as an int64, from the lowest bit on: port (17 bits), vcpu (13), domain (15),
# and what is done to it.
ROUTE_VCPU, ROUTE_DOM, ROUTE_KIND = 17, 30, 45

VIRQ_GLOBAL = 0
VIRQ_DOMAIN = 1
VIRQ_VCPU = 2
"""Who may bind a VIRQ: dom0, every domain on vcpu 0, every vcpu."""

XEN_HERE = 1
"""In a port's `xen`: this end is attached to Xen (consumer_is_xen)."""
XEN_PEER = 2
"""In a port's `xen`: INTERDOMAIN, and the other end is."""

# What the FIFO ABI keeps of a port, beside its event word: 8 bytes.
PORT_FIFO = np.dtype(
    [
        ("last_vcpu", "u2"),  # the queue that it was last on
        ("last_priority", "u1"),
        ("priority", "u1"),  # of the queue that it goes to next
        ("saved_pending", "u1"),  # notified, or pending, while it had no event word
    ],
    align=True,
)

# One queue of events: a quarter of a cache line.
QUEUE = np.dtype(
    [
        ("head", "u4"),  # in the vcpu's control block; written by Xen
        ("tail", "u4"),  # Xen's own
        ("local_head", "u4"),  # the guest's own
        ("padding", "u4"),
    ],
    align=True,
)

# One vcpu under the FIFO ABI.
VCPU_FIFO = np.dtype(
    [
        ("ready", "u2"),  # in its control block: priorities whose queues got a head
        ("control", "u1"),  # 1: has a control block
    ],
    align=True,
)

# 64 ports' worth of the 2-level bitmaps; pending and mask are always looked at together.
SHARED_WORD = np.dtype([("pending", "u8"), ("mask", "u8")], align=True)

# What the operation under way gives back; wide, so that no value needs a cast.
RESULT = np.dtype(
    [
        ("port", "i8"),
        ("vcpu", "i8"),
        ("remote_dom", "i8"),
        ("remote_port", "i8"),
        ("effects", "i8"),
    ],
    align=True,
)

# What the host as a whole keeps: one row.
HOST_TABLE = np.dtype(
    [
        ("buckets_used", "i8"),  # of the pool; bucket 0 is nobody's
        ("pages_used", "i8"),  # of all event arrays; page 0 is nobody's
        ("bucket_ports", "i8"),  # ports that become valid together
        ("most_ports", "i8"),  # valid ports of any domain, at most
        ("records", "i8"),  # applied so far
        ("last_ts", "u8"),  # ns; of the last record applied, or to where guests went on since
        ("delivered", "i8"),  # events that reached their handlers
        ("now", "u8"),  # ns; when what is under way happens; with statistics or a guest
        # statistics
        ("level", "i8"),  # 0 none, 1 domain, 2 port
        ("started", "i8"),  # 1 once there was a record
        ("first_ts", "u8"),  # ns; of the first record
        ("bin_shift", "u8"),  # the timeline's bins are 2**bin_shift ns wide
        ("bin", "i8"),  # the timeline's row of now
        ("bin_end", "u8"),  # ns; the last that belongs to it
        ("group_shift", "i8"),  # 2**group_shift domids share a group
        ("edges_used", "i8"),
        ("logged", "i8"),  # deliveries in the log
        ("log_until", "u8"),  # ns; later deliveries are not kept any more
    ],
    align=True,
)

PORT_LEVEL = 2
"""The level of the statistics at which ports have their own."""

# Statistics of one port: what notifications and deliveries touch, a cache line, and what is rare.
# They belong to the pool's place, hence to (dom, port), and outlive the port and the domain. What
# was delivered is what was set and is neither cleared nor there any more.
PORT_STATS = np.dtype(
    [
        ("since", "u8"),  # ns; when the pending bit was set, if it is
        ("set", "i8"),
        ("coalesced", "i8"),
        ("latency_sum", "u8"),  # ns, of what was delivered
        ("latency_max", "u8"),  # ns
        ("last", "u8"),  # ns, of the last delivery, plus 1; 0: none
        ("longest_gap", "u8"),  # ns between two deliveries
        ("type", "u1"),  # what the port was when the bit was set: a row of the latencies
    ],
    align=True,
)

PORT_RARE = np.dtype(
    [
        ("masked", "i8"),  # of those that set the bit: the port was masked
        ("masked_at", "u8"),  # ns; when the port was last masked
        ("masked_ns", "u8"),  # pending and masked, without what goes on now
        ("cleared", "i8"),  # the bit gone without a delivery
        ("cleared_ns", "u8"),  # how long those had been pending
        ("sends", "i8"),  # to a peer that has parted, see kernels/stats.py
        ("dropped", "i8"),
        ("to_xen", "i8"),
        ("set_before", "i8"),  # set when the present channel began
        ("coalesced_before", "i8"),
        ("coalesced_at_set", "i8"),  # with a log of deliveries
        ("saved", "i8"),  # notifications that found no event word
        ("no_control_block", "i8"),  # notifications lost on a vcpu without one
        ("lost_before", "i8"),  # saved and no_control_block when the present channel began
    ],
    align=True,
)

VCPU_STATS = np.dtype(
    [
        ("kicks", "i8"),
        ("upcalls", "i8"),  # that found upcall_pending set and the mask clear
        ("spurious", "i8"),  # of them, nothing delivered
        ("ignored_upcalls", "i8"),  # the other upcall records
        ("delivered", "i8"),
        ("largest_batch", "i8"),
        ("poll_wakes", "i8"),
    ],
    align=True,
)

DOMAIN_STATS = np.dtype(
    [
        ("in_use", "i8"),  # ports neither FREE nor RESERVED
        ("in_use_peak", "i8"),
        ("valid_peak", "i8"),  # valid ports at most
    ],
    align=True,
)

# Bits set in a domain: apart and narrow, since every notification comes by.
DOMAIN_PENDING = np.dtype([("now", "i4"), ("peak", "i4")], align=True)

OPERATION_STATS = np.dtype([("records", "i8"), ("first_ts", "u8")], align=True)

EDGE = np.dtype(
    [("dom", "u4"), ("target", "u4"), ("raised", "i8"), ("coalesced", "i8")], align=True
)

# One bin of one group of domains: a cache line.
TIMELINE = np.dtype(
    [
        ("set", "i8"),
        ("coalesced", "i8"),
        ("masked", "i8"),
        ("delivered", "i8"),
        ("cleared", "i8"),
        ("kicks", "i8"),
        ("errors", "i8"),
        ("opened", "i8"),  # ports that came into use, less those that went
    ],
    align=True,
)

# One event that reached its handler.
DELIVERY = np.dtype(
    [
        ("ts", "u8"),  # ns; when its handling started
        ("raised_ts", "u8"),  # ns; when its pending bit was set
        ("coalesced", "i8"),  # notifications since then
        ("batch", "i8"),  # number of the upcall on its vcpu, from 1
        ("port", "u4"),
        ("dom", "u2"),
        ("vcpu", "u2"),
        ("type", "i8"),  # of the channel when the bit was set: row of the histogram
    ],
    align=True,
)

# What a guest is like, one row for all domains alike: see guest.py.
GUEST_CONFIG = np.dtype(
    [
        ("wake_kind", "i8"),  # 0 constant, 1 exponential, 2 lognormal
        ("wake_a", "i8"),  # what draws wants of the distribution
        ("wake_b", "i8"),
        ("handler_kind", "i8"),
        ("handler_a", "i8"),
        ("handler_b", "i8"),
        ("eoi_ns", "u8"),
        ("seed", "u8"),
        ("linux", "i8"),  # 1: scans as Linux does
        ("late", "i8"),  # 1: a port is masked until its EOI
    ],
    align=True,
)

GUEST_DOMAIN = np.dtype(
    [
        ("due", "u8"),  # ns; nothing of the domain's is due before; NEVER
        ("config", "i8"),  # row of GUEST_CONFIG
    ],
    align=True,
)

# One vcpu's handler: a cache line.
GUEST_VCPU = np.dtype(
    [
        ("due", "u8"),  # ns; when the handler starts, or its event's handling ends; NEVER
        ("wakes", "i8"),  # times that it was scheduled
        ("events", "i8"),  # handled
        ("selector", "u8"),  # what is left of the selector taken
        ("waiting", "u8"),  # what is left of the word under way
        ("eoi_first", "u4"),  # pool index of the port whose EOI is due first; 0: none
        ("eoi_last", "u4"),
        ("batch", "u4"),  # events of the upcall under way
        ("stage", "u1"),  # see kernels/due.py
        ("word", "u1"),  # of the selector, under way
        ("in_word", "u1"),  # 1 until the word is done with
        ("start_word", "u1"),  # where the scan began
        ("start_bit", "u1"),
        ("first_turn", "u1"),  # 1 while it is the scan's first turn
        ("next_word", "u1"),  # Linux's current_word_idx
        ("next_bit", "u1"),  # Linux's current_bit_idx
    ],
    align=True,
)

# The port that is watched, and how it looked the last time: one row.
WATCH = np.dtype(
    [
        ("dom", "i8"),
        ("port", "i8"),
        ("state", "i8"),  # abi.PortState, or what kernels/watch.py has besides
        ("pending", "i8"),
        ("mask", "i8"),
        ("used", "i8"),  # rows of the changes that are written
    ],
    align=True,
)

# One change of it.
CHANGE = np.dtype(
    [
        ("record", "i8"),  # of the stretch; -1: the guest's, between two records
        ("ts", "u8"),  # ns
        ("vcpu", "i8"),  # whose handler it was, where it was the guest
        ("from_state", "i8"),
        ("from_pending", "i8"),
        ("from_mask", "i8"),
        ("state", "i8"),
        ("pending", "i8"),
        ("mask", "i8"),
    ],
    align=True,
)

NEVER = 2**64 - 1
"""The time at which nothing is due."""

# The EOI that a port waits for: a member of its vcpu's list, in the order in which they are due.
EOI = np.dtype(
    [
        ("due", "u8"),  # ns
        ("next", "u4"),  # pool index; 0: none
        ("previous", "u4"),
        ("vcpu", "u4"),  # row of the vcpu that handled the event, plus 1; 0: no EOI
        ("port", "u4"),
    ],
    align=True,
)

# Notifications by what the port was: see LATENCY_TYPES.
TYPE_STATS = np.dtype([("set", "i8"), ("coalesced", "i8"), ("masked", "i8")], align=True)

TIMELINE_BINS = 1024
TIMELINE_GROUPS = 256
LATENCY_TYPES = ("interdomain", "pirq", "virq", "ipi")
LATENCY_BINS = 60 * 32
"""Bins of a latency histogram: 32 to an octave of 64 bits."""
LATENCY_KINDS = len(LATENCY_TYPES) * 17
"""Rows of the histogram: type + 4 * (priority + 1), and no priority (-1) under the 2-level ABI."""

TALLY_OPS = 77
"""Rows of the tally: one per operation number to 75, one for all numbers above."""
TALLY_ERRNOS = 96
"""Columns of the tally: errno 0 (none) to 95."""
TALLY_EFFECTS = 1024
"""Every combination of effect flags."""

Array = np.ndarray[Any, Any]


class Tables(NamedTuple):
    """All that a running host is made of."""

    # Marks: by their types kernels are compiled with, or without, what a part needs. Without, its
    # tables are None too.
    level: np.int64 | None  # of the statistics
    guest: np.int64 | None  # 1 if there is one
    modern: np.int64 | None  # 1 for a profile with the FIFO ABI
    host: Array  # HOST_TABLE, (1,)
    domains: Array  # DOMAIN_TABLE, (domains,)
    vcpus: Array  # VCPU_TABLE, (vcpus of all domains,)
    buckets: Array  # uint32, (buckets of a full domain, domains): numbers into the pool, 0 none
    ports: Array  # PORT_TABLE, (buckets * BUCKET_PORTS,): the pool
    routes: Array  # int64, as the pool: what a send on the port comes to, 0 if it notifies none
    shared: Array  # SHARED_WORD, (64, domains): first words together, most domains use no other
    # uint64, (64, vcpus of all domains): which of a word's ports notify the vcpu; for vcpu 0 which
    # notify another
    vcpu_ports: Array
    max_port: Array  # uint32, (domains,): the toolstack's limit
    virqs: Array  # uint32, (NR_VIRQS, vcpus of all domains): bound port or 0
    pirqs: Array  # uint32, (PIRQs of all domains,): bound port or 0
    virq_kinds: Array  # uint8, (NR_VIRQS,): VIRQ_GLOBAL, VIRQ_DOMAIN, VIRQ_VCPU
    result: Array  # RESULT, (1,)
    done: Array  # int64, (TALLY_OPS,): records by operation where rc is 0
    failed: Array  # int64, (TALLY_OPS, TALLY_ERRNOS): records by operation and errno
    effects: Array  # int64, (TALLY_EFFECTS,): records by their effects
    # The FIFO ABI
    event_pages: Array  # uint32, (FIFO_PAGES, domains): numbers of pages of event words, 0 none
    # uint32, (pages * FIFO_PAGE_WORDS,): the first parts of all pages, then their second ones, …,
    # of BUCKET_PORTS words each: most domains use no other, and pages apart cost the TLB
    event_words: Array
    port_fifo: Array  # PORT_FIFO, as the pool
    vcpu_fifo: Array  # VCPU_FIFO, (vcpus of all domains,)
    queues: Array  # QUEUE, (vcpus of all domains, FIFO_PRIORITIES)
    # Statistics; of length 1 where the level does not keep them
    port_stats: Array  # PORT_STATS, as the pool
    port_rare: Array  # PORT_RARE, as the pool
    types: Array  # TYPE_STATS, (types,)
    vcpu_stats: Array  # VCPU_STATS, (vcpus of all domains,)
    domain_stats: Array  # DOMAIN_STATS, (domains,)
    domain_pending: Array  # DOMAIN_PENDING, (domains,)
    operations: Array  # OPERATION_STATS, (operations, errnos, domains + 1): last one not configured
    errno_slots: Array  # uint8, (TALLY_ERRNOS,): place of an errno in operations
    timeline: Array  # TIMELINE, (TIMELINE_BINS, groups)
    latency: Array  # int64, (LATENCY_KINDS, LATENCY_BINS)
    latency_groups: Array  # int64, (groups, LATENCY_BINS)
    edges: Array  # EDGE, (any,): a log, not yet summed up
    deliveries: Array  # DELIVERY, (any,): a log; of length 1 where it is not kept
    # The guest model
    guest_configs: Array  # GUEST_CONFIG, (any,)
    guest_domains: Array  # GUEST_DOMAIN, (domains,)
    guest_vcpus: Array  # GUEST_VCPU, (vcpus of all domains,)
    eois: Array  # EOI, as the pool where a guest's EOIs are late


class Columns(NamedTuple):
    """The columns of a stretch of a trace, as RECORD_DTYPE has them, contiguous and read-only."""

    ts: Array
    dom: Array
    vcpu: Array
    op: Array
    flags: Array
    arg0: Array
    arg1: Array


class Sorted(NamedTuple):
    """A block of records that threads share, each thread's part of it by groups of domains."""

    routes: Array  # int64, (parts, of a part): what each record does, to whom
    times: Array  # uint64, as the routes: their records' ts, ns; with statistics or a guest
    records: Array  # int32, as the routes: whose they are, by number in the block
    starts: Array  # int64, (parts, groups + 2): where each group's begin; one for room at the end


class OutcomeColumns(NamedTuple):
    """The columns of a stretch of outcomes, as OUTCOME_DTYPE has them; zero before the replay."""

    rc: Array
    port: Array
    vcpu: Array
    remote_dom: Array
    remote_port: Array
    effects: Array
