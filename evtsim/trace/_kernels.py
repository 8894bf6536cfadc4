"""What is asked of every record of a trace, whoever reads it."""

import numpy as np

from evtsim._jit import entry


@entry
def first_backwards(ts):
    """Return the number of the first record whose ts is below the one before it, or -1.

    Parameters
    ----------
    ts : ndarray of uint64
        Read-only, contiguous, 1-D; ns.
    """
    block = 1024
    for begin in range(1, len(ts), block):
        end = min(begin + block, len(ts))
        backwards = 0
        for i in range(begin, end):  # without a way out, so that it is vectorized
            backwards += ts[np.uint64(i)] < ts[np.uint64(i - 1)]
        if backwards:
            for i in range(begin, end):
                if ts[i] < ts[i - 1]:
                    return i
    return -1
