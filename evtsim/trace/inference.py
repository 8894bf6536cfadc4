"""Guessing the host from a trace: the rule is that of Host.infer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim import abi
from evtsim.abi import Op
from evtsim.dtypes import DOMAIN_DTYPE

if TYPE_CHECKING:
    from evtsim.dtypes import Array
    from evtsim.trace.trace import Trace


def infer_domains(trace: Trace) -> Array:
    """Return the configuration, of DOMAIN_DTYPE, that a trace's records ask for."""
    columns = trace.columns
    real = columns.dom < abi.MAX_DOMAINS
    count = int(columns.dom[real].max(initial=0)) + 1
    domains = np.zeros(count, DOMAIN_DTYPE)
    domains["word_bits"] = 64
    domains["max_port"] = abi.MAX_PORT_FIFO - 1
    domains["alive"] = 1
    domains["privileged"][0] = domains["pirq_permitted"][0] = 1

    vcpus = np.zeros(count, np.int64)
    for ops, numbers in (
        (None, columns.vcpu),
        ((Op.BIND_IPI, Op.INIT_CONTROL), columns.arg0),
        ((Op.BIND_VIRQ, Op.BIND_VCPU, Op.RAISE_VIRQ), columns.arg1),
    ):
        used = real & (numbers < abi.MAX_VCPUS)
        if ops is not None:
            used &= np.isin(columns.op, ops)
        np.maximum.at(vcpus, columns.dom[used], numbers[used].astype(np.int64))
    domains["vcpus"] = vcpus + 1

    pirqs = np.zeros(count, np.int64)
    used = real & np.isin(columns.op, (Op.BIND_PIRQ, Op.RAISE_PIRQ)) & (columns.arg0 < 0xFFFF)
    np.maximum.at(pirqs, columns.dom[used], columns.arg0[used].astype(np.int64) + 1)
    domains["nr_pirqs"] = pirqs

    dom, first = np.unique(columns.dom[real], return_index=True)
    created = columns.op[real][first] == Op.CREATE_DOMAIN
    domains["alive"][dom[created]] = 0
    return domains
