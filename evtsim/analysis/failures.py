"""Which operations failed, how, and who asked for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evtsim.analysis._common import choose, share

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

KEYS = {"domain": ["dom", "op_name", "errno_name"], "operation": ["op_name", "errno_name"]}


def errors(run: Run, by: str = "domain") -> pd.DataFrame:
    """Tell which operations failed with which errno, and when first.

    Parameters
    ----------
    run : Run
        With stats.
    by : {"domain", "operation"}
        A row for every caller, operation and errno; or for every operation and errno.

    Returns
    -------
    DataFrame
        Most records first. dom (the caller; -1: one that is not configured; by domain only),
        op_name, errno_name, records, share (of that caller's, or of all, records of the operation;
        0 to 1), domains (callers; by operation only), first_ns (ns; the first of them), first_dom
        (its caller; by operation only).
    """
    keys = KEYS[choose(by, KEYS)]
    operations = run.operations
    operations = operations.assign(
        all_records=operations.groupby([key for key in keys if key != "errno_name"], observed=True)[
            "records"
        ].transform("sum")
    )
    failed = operations[operations["rc"] < 0].sort_values(["first_ts", "dom"])
    frame = failed.groupby(keys, as_index=False, observed=True).agg(
        records=("records", "sum"),
        all_records=("all_records", "first"),
        domains=("dom", "nunique"),
        first_ns=("first_ts", "first"),
        first_dom=("dom", "first"),
    )
    frame.insert(len(keys) + 1, "share", share(frame["records"], frame.pop("all_records")))
    if by == "domain":
        frame = frame.drop(columns=["domains", "first_dom"])
    return frame.sort_values("records", ascending=False, kind="stable", ignore_index=True)
