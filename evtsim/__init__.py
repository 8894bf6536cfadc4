"""Bulk simulation and trace analysis of Xen event channels.

The names below are the public interface. Importing the package is cheap: what a name needs is
imported when the name is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Domain": "host",
    "Host": "host",
    "Trace": "trace",
    "TraceBuilder": "trace",
    "TraceReader": "trace",
    "Outcomes": "outcomes",
    "Guest": "guest",
    "Constant": "guest",
    "Exponential": "guest",
    "Lognormal": "guest",
    "Simulator": "simulator",
    "Run": "run",
    "replay": "run",
    "replay_file": "streaming",
    "Verification": "verification",
    "verify": "verification",
    "History": "history",
    "RECORD_DTYPE": "dtypes",
    "DOMAIN_DTYPE": "dtypes",
    "OUTCOME_DTYPE": "dtypes",
    "EvtsimError": "errors",
    "HostError": "errors",
    "TraceError": "errors",
}
_ROOMS = ("abi", "analysis", "fleet", "plots", "report", "samples", "workloads")

__all__ = ["__version__", *_HOMES, *_ROOMS]

if TYPE_CHECKING:
    from evtsim import abi, analysis, fleet, plots, report, samples, workloads
    from evtsim.dtypes import DOMAIN_DTYPE, OUTCOME_DTYPE, RECORD_DTYPE
    from evtsim.errors import EvtsimError, HostError, TraceError
    from evtsim.guest import Constant, Exponential, Guest, Lognormal
    from evtsim.history import History
    from evtsim.host import Domain, Host
    from evtsim.outcomes import Outcomes
    from evtsim.run import Run, replay
    from evtsim.simulator import Simulator
    from evtsim.streaming import replay_file
    from evtsim.trace import Trace, TraceBuilder, TraceReader
    from evtsim.verification import Verification, verify


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"evtsim.{_HOMES[name]}"), name)
    elif name in _ROOMS:
        value = import_module(f"evtsim.{name}")
    else:
        raise AttributeError(f"module 'evtsim' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
