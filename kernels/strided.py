"""Walking a strided index space: an index vector and the offset that goes with it; parts of a space."""

from .jit import kernel


@kernel
def bound(n, unit, k, parts):  # type: ignore[no-untyped-def]
    """Give where the k-th part of n elements begins: at a multiple of a unit."""
    if k == 0 or k == parts:
        return n if k else 0
    return n * k // parts // unit * unit


@kernel
def seek(ndim, shape, strides, start, index):  # type: ignore[no-untyped-def]
    """Set the index vector to the start-th element; give its offset."""
    offset = 0
    rest = start
    for d in range(ndim - 1, -1, -1):
        index[d] = rest % shape[d]
        rest //= shape[d]
        offset += index[d] * strides[d]
    return offset


@kernel
def carry(ndim, shape, strides, index, offset):  # type: ignore[no-untyped-def]
    """Carry over after the last axis has been advanced; give the new offset."""
    d = ndim - 1
    while d > 0 and index[d] == shape[d]:
        offset -= index[d] * strides[d]
        index[d] = 0
        d -= 1
        index[d] += 1
        offset += strides[d]
    return offset
