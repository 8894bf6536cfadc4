"""Names for numbers: the categorical columns that frames carry beside the integers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi

if TYPE_CHECKING:
    import numpy.typing as npt
    import pandas as pd


def _named(
    numbers: npt.NDArray[np.integer], name: Callable[[int], str], known: list[int]
) -> pd.Categorical[Any]:
    """Make a categorical of the numbers' names; categories are the known ones, then others."""
    import pandas as pd

    present, codes = np.unique(numbers, return_inverse=True)
    values = [*known, *(int(n) for n in present if int(n) not in known)]
    place = np.array([values.index(int(n)) for n in present], np.int64)
    categories = [name(value) for value in values]
    return pd.Categorical.from_codes(place[codes], categories=pd.Index(categories))


def op_names(numbers: npt.NDArray[np.integer]) -> pd.Categorical[Any]:
    """Name operations: ``send``, ``op_122``."""
    return _named(numbers, abi.op_name, [int(op) for op in abi.Op])


def errno_names(rc: npt.NDArray[np.integer]) -> pd.Categorical[Any]:
    """Name return codes: '' for 0, ``EINVAL`` for -22."""
    return _named(rc, abi.errno_name, [0, *(-int(errno) for errno in abi.Errno)])


def state_names(states: npt.NDArray[np.integer]) -> pd.Categorical[Any]:
    """Name port states: ``INTERDOMAIN``."""
    return _named(states, lambda n: abi.PortState(n).name, [int(state) for state in abi.PortState])
