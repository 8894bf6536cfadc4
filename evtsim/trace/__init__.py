"""Traces: columns of records, their files and what can be checked before a replay."""

from evtsim.trace.builder import TraceBuilder
from evtsim.trace.reader import TraceReader
from evtsim.trace.trace import Trace
from evtsim.trace.validation import Note, Validation

__all__ = ["Note", "Trace", "TraceBuilder", "TraceReader", "Validation"]
