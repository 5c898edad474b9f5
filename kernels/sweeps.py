"""The loop over a program: forward from the tape's first instruction to the last, then back to the first.

A workspace hands over one address, of a table of int64: rows and their number, the parameter pool, the tables of value
and adjoint addresses, the services, the stretch of adjoints to zero, the seed. A row is a kernel's address and its
parameters' place in the pool. The planner has put the rows of both sweeps in order: a block whose adjoints are known
before its values stands in the list once, and does both at a stroke. A gradient is one call of `sweep`.
"""

from .constants import (
    ADJOINTS,
    COUNT,
    F8,
    PARAMETERS,
    ROWS,
    SEED,
    SEED_NUMBER,
    SERVICES,
    STATUS,
    VALUES,
    ZERO_COUNT,
    ZERO_FROM,
)
from .jit import kernel
from .pointers import as_f4, as_f8, as_i8, call2, call_kernel


@kernel
def prepare(table):  # type: ignore[no-untyped-def]
    """Zero the adjoints that are added to from the start, and put the seed on the output."""
    words = as_i8(table[ZERO_FROM])
    for i in range(table[ZERO_COUNT]):
        words[i] = 0
    if table[SEED] != 0:
        if table[SEED_NUMBER] == F8:
            as_f8(table[SEED])[0] += 1.0
        else:
            as_f4(table[SEED])[0] += 1.0


@kernel
def run_rows(table, start, stop):  # type: ignore[no-untyped-def]
    """Run some of the rows in order; stop at a status that is not 0 and leave the row in the status."""
    rows, pool = as_i8(table[ROWS]), table[PARAMETERS]
    for k in range(start, stop):
        status = call_kernel(rows[2 * k], pool + 8 * rows[2 * k + 1], table[VALUES], table[ADJOINTS], table[SERVICES])
        if status != 0:
            as_i8(as_i8(table[SERVICES])[STATUS])[3] = k
            return status
    return 0


@kernel
def sweep(table):  # type: ignore[no-untyped-def]
    """Sweep forward and back."""
    table = as_i8(table)
    prepare(table)
    return run_rows(table, 0, table[COUNT])


@kernel
def timed_sweep(table, clock, times, step):  # type: ignore[no-untyped-def]
    """Sweep as `sweep` does; note the time at the start, once all is prepared, and after every `step` rows.

    clock points to the address of a C function (kind, place) that writes seconds and nanoseconds, and to the kind.
    """
    table, clock = as_i8(table), as_i8(clock)
    call2(clock[0], clock[1], times)
    prepare(table)
    call2(clock[0], clock[1], times + 16)
    for start in range(0, table[COUNT], step):
        status = run_rows(table, start, min(start + step, table[COUNT]))
        if status != 0:
            return status
        call2(clock[0], clock[1], times + 32 + 16 * (start // step))
    return 0
