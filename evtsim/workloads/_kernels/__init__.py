"""The event-driven generator, compiled: sources of records, merged by time.

A source is whatever acts on its own: a vcpu that takes its upcalls, a domain that plays a script
of its life, the two ends of a ring, a timer, an interrupt. Each has one time at which it acts
next. What it does then makes one record or none, and decides when it, or another, acts again.
"""
