"""The simulated hypervisor: numba kernels over the tables of dtypes.py, and nothing else.

Kernels never raise: operations return a port, 0 or a negative errno. Everything that reaches
them was checked before; indices that records carry are compared with the tables' sizes here,
as Xen compares them.
"""
