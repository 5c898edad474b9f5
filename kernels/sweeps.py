"""The two loops over a program: forward from the first row to the last, reverse from the last to the first.

A workspace hands over one address, of a table of int64: rows and their number for either sweep, the parameter pool,
the tables of value and adjoint addresses, the services, and the stretches of adjoints to zero. A row is a kernel's
address and its parameters' place in the pool. A gradient is one call of `sweep`.
"""

from .constants import (
    ADJOINTS,
    F8,
    FORWARD_COUNT,
    FORWARD_ROWS,
    PARAMETERS,
    REVERSE_COUNT,
    REVERSE_ROWS,
    SEED,
    SEED_NUMBER,
    SERVICES,
    STATUS,
    VALUES,
    ZERO_COUNT,
    ZERO_FROM,
)
from .jit import kernel
from .pointers import as_f4, as_f8, as_i8, call_kernel


@kernel
def forward_sweep(table):  # type: ignore[no-untyped-def]
    """Run the rows from the first to the last; stop at a status that is not 0 and leave the row in the status."""
    rows, pool = as_i8(table[FORWARD_ROWS]), table[PARAMETERS]
    for k in range(table[FORWARD_COUNT]):
        status = call_kernel(rows[2 * k], pool + 8 * rows[2 * k + 1], table[VALUES], table[ADJOINTS], table[SERVICES])
        if status != 0:
            as_i8(as_i8(table[SERVICES])[STATUS])[3] = k
            return status
    return 0


@kernel
def reverse_sweep(table):  # type: ignore[no-untyped-def]
    """Zero the adjoints, put the seed on the output, run the rows from the last to the first."""
    words = as_i8(table[ZERO_FROM])
    for i in range(table[ZERO_COUNT]):
        words[i] = 0
    if table[SEED] != 0:
        if table[SEED_NUMBER] == F8:
            as_f8(table[SEED])[0] += 1.0
        else:
            as_f4(table[SEED])[0] += 1.0
    rows, pool = as_i8(table[REVERSE_ROWS]), table[PARAMETERS]
    for k in range(table[REVERSE_COUNT] - 1, -1, -1):
        call_kernel(rows[2 * k], pool + 8 * rows[2 * k + 1], table[VALUES], table[ADJOINTS], table[SERVICES])


@kernel
def sweep(table, gradient):  # type: ignore[no-untyped-def]
    """Sweep forward and, where a gradient is asked for, back."""
    status = forward_sweep(as_i8(table))
    if status == 0 and gradient:
        reverse_sweep(as_i8(table))
    return status
