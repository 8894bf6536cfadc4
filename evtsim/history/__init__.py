"""Time travel: what a host was before any record, how a port came to be so, why a record's rc.

`history` keeps snapshots and goes back to them; `rules` are Xen's checks, in order, as data, and
`moment` is what they look at; `effects` and `deeds` say what a record did, `explanation` puts it
together. Nothing here decides what a record does: that is the kernels' alone, and a property
holds the rules against them.
"""

from evtsim.history.explanation import Explanation
from evtsim.history.history import History

__all__ = ["Explanation", "History"]
