"""A run as one HTML page that needs nothing beside it: no network, no server, no other file.

``findings`` says in words what stands out, ``tables`` shows the frames of :mod:`evtsim.analysis`,
``figures`` the plots, ``page`` puts them together. What belongs here lays out answers; what
finds them belongs to ``analysis``, what draws to ``plots``.
"""

from evtsim.report.findings import Finding, findings
from evtsim.report.page import html, write

__all__ = ["Finding", "findings", "html", "write"]
