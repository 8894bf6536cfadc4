"""In which ways the Xen of one profile differs from the Xen of another.

Numbers, and one name for each habit that changed. What a habit means is said where it is asked.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

from tests.reference.interface import Op

FIFO_OPS = frozenset({Op.INIT_CONTROL, Op.EXPAND_ARRAY, Op.SET_PRIORITY, Op.RESET_CONT})


@dataclass(frozen=True)
class Profile:
    """A version of Xen.

    Attributes
    ----------
    name : str
        What traces and recordings call it.
    ports_per_bucket : int
        How many ports become valid at once.
    per_vcpu_virqs, per_domain_virqs : set of int
        VIRQs that are not global. Only those per vcpu have a table on every vcpu.
    operations : set of Op
        What is not -ENOSYS.
    usable_only : bool
        Notifying, unmasking, polling, and clearing on close pass over ports that are Xen-attached
        or in no use.
    own_number_is_self : bool
        A domain may act on itself under its own number, and permission is asked late.
    looks_at_max_port : bool
        The toolstack's limit counts.
    global_virqs_are_dom0s : bool
        No other domain may bind a global VIRQ.
    """

    name: str
    ports_per_bucket: int
    per_vcpu_virqs: Set[int]
    per_domain_virqs: Set[int]
    operations: Set[int]
    usable_only: bool
    own_number_is_self: bool
    looks_at_max_port: bool
    global_virqs_are_dom0s: bool

    @property
    def has_fifo(self) -> bool:
        """Tell whether a domain can use the FIFO ABI."""
        return Op.INIT_CONTROL in self.operations

    def is_global(self, virq: int) -> bool:
        """Tell whether there is one handler of a VIRQ on the whole host."""
        return virq not in self.per_vcpu_virqs | self.per_domain_virqs


XEN_4_0 = Profile(
    name="xen-4.0",
    ports_per_bucket=128,
    per_vcpu_virqs={0, 1, 7},  # TIMER, DEBUG, XENOPROF
    per_domain_virqs=frozenset(),
    operations=frozenset(Op) - FIFO_OPS,
    usable_only=False,
    own_number_is_self=False,
    looks_at_max_port=False,
    global_virqs_are_dom0s=False,
)
XEN_4_23 = Profile(
    name="xen-4.23",
    ports_per_bucket=64,
    per_vcpu_virqs={0, 1, 7, 13},  # and XENPMU
    per_domain_virqs={11},  # ARGO
    operations=frozenset(Op),
    usable_only=True,
    own_number_is_self=True,
    looks_at_max_port=True,
    global_virqs_are_dom0s=True,
)
PROFILES = {profile.name: profile for profile in (XEN_4_0, XEN_4_23)}
