"""A call from Python, compiled: the arguments read where they lie, both sweeps, the results put together.

A binding's table of int64 says what arguments a program takes: a row a leaf, a row a gradient. `replay` checks leaves
and targets against the rows, and does nothing where one differs: the general way, in Python, then takes the call and
finds the words for what is wrong. It holds the interpreter lock but for long sweeps; meanwhile the table is marked
busy, and other callers take the general way, which has a workspace for each of them.
"""

from .jit import kernel
from .objects import (
    AXES,
    CALL,
    DATA,
    DIMENSIONS,
    DROP,
    DTYPE,
    EMPTY,
    FLAGS,
    HOLD,
    IN_ORDER,
    ITEMS,
    NEW_TUPLE,
    RELEASE_LOCK,
    TAKE_LOCK,
    TYPE,
    WRITEABLE,
)
from .pointers import as_b1, as_i4, as_i8, call1, call2, call4
from .sweeps import sweep

#: slots of a binding's table
(
    BUSY,
    PYTHON,
    WORKSPACE,
    LONG,
    LEAVES,
    LEAF_ROWS,
    SLOPES,
    SLOPE_ROWS,
    WITH_VALUE,
    SINGLE,
    VALUE,
    VALUE_BYTES,
    VALUE_TYPE,
    VALUE_ALLOCATOR,
) = range(14)
#: what a leaf is: the same object at every call; a number; an array
STATIC, SCALAR, ARRAY = range(3)
#: slots of a row: kind; type (or the object itself), dtype, axes, dimensions; the stretch of an arena that it is copied to
#: (or from), its bytes; the words that take the array's address where it is used in place, and how many
KIND, OF_TYPE, OF_DTYPE, OF_AXES, OF_DIMENSIONS, STRETCH, BYTES, PATCHES, PATCH_COUNT = range(9)
#: more slots of a gradient's row: the object that is written to, the allocator of a number, an array's shape and dtype
TARGET, ALLOCATOR, SHAPE, SHAPE_DTYPE = range(9, 13)
ROW = 13
#: what `replay` gives where it does not take the call, and where an exception is set
NOT_MINE, FAILED = 0, -1


@kernel
def is_array(row, thing):  # type: ignore[no-untyped-def]
    """Whether an object is an array of a row's dtype and shape, C-contiguous and aligned."""
    a = as_i8(thing)
    if a[TYPE] != row[OF_TYPE] or a[DTYPE] != row[OF_DTYPE] or as_i4(thing + AXES)[0] != row[OF_AXES]:
        return False
    if as_i4(thing + FLAGS)[0] & IN_ORDER != IN_ORDER:
        return False
    found, expected = as_i8(a[DIMENSIONS]), as_i8(row[OF_DIMENSIONS])
    for i in range(row[OF_AXES]):  # noqa: SIM110 (numba has no all())
        if found[i] != expected[i]:
            return False
    return True


@kernel
def is_leaf(row, thing):  # type: ignore[no-untyped-def]
    """Whether an object is what a leaf's row says."""
    if row[KIND] == ARRAY:
        return is_array(row, thing)
    return row[OF_TYPE] == (thing if row[KIND] == STATIC else as_i8(thing)[TYPE])


@kernel
def apart(one, size, other, other_size):  # type: ignore[no-untyped-def]
    """Whether two stretches of memory have no byte in common."""
    return one + size <= other or other + other_size <= one


@kernel
def accepts(t, leaves, outs):  # type: ignore[no-untyped-def]
    """Whether leaves and targets are what the table says, and no target reaches into another array."""
    for k in range(t[LEAVES]):
        if not is_leaf(as_i8(t[LEAF_ROWS] + 8 * ROW * k), leaves[k]):
            return False
    if outs == 0:
        return True
    targets = as_i8(outs)
    for k in range(t[SLOPES]):
        row = as_i8(t[SLOPE_ROWS] + 8 * ROW * k)
        if row[KIND] != ARRAY or not is_array(row, targets[k]) or as_i4(targets[k] + FLAGS)[0] & WRITEABLE == 0:
            return False
        data = as_i8(targets[k])[DATA]
        for i in range(t[LEAVES]):
            leaf = as_i8(t[LEAF_ROWS] + 8 * ROW * i)
            if leaf[KIND] == ARRAY and not apart(data, row[BYTES], as_i8(leaves[i])[DATA], leaf[BYTES]):
                return False
        for i in range(k):
            if not apart(data, row[BYTES], as_i8(targets[i])[DATA], as_i8(t[SLOPE_ROWS] + 8 * ROW * i)[BYTES]):
                return False
    return True


@kernel
def copy(source, target, size):  # type: ignore[no-untyped-def]
    """Copy bytes."""
    words, to_words = as_i8(source), as_i8(target)
    for i in range(size // 8):
        to_words[i] = words[i]
    single, to_single = as_b1(source), as_b1(target)
    for i in range(size - size % 8, size):
        to_single[i] = single[i]


@kernel
def data(row, thing):  # type: ignore[no-untyped-def]
    """Give the address of the numbers in an array, or of a number."""
    return as_i8(thing)[DATA] if row[KIND] == ARRAY else thing + 16


@kernel
def patch(row, address):  # type: ignore[no-untyped-def]
    """Write an array's address to all words that take it."""
    patches = as_i8(row[PATCHES])
    for i in range(row[PATCH_COUNT]):
        as_i8(patches[2 * i])[0] = address + patches[2 * i + 1]


@kernel
def bind_leaves(t, leaves):  # type: ignore[no-untyped-def]
    """Hand the leaves over to the workspace: small ones are copied in, large ones read in place."""
    for k in range(t[LEAVES]):
        row = as_i8(t[LEAF_ROWS] + 8 * ROW * k)
        if row[KIND] != STATIC:
            if row[STRETCH] != 0:
                copy(data(row, leaves[k]), row[STRETCH], row[BYTES])
            else:
                patch(row, data(row, leaves[k]))


@kernel
def drop_targets(t, count):  # type: ignore[no-untyped-def]
    """Let go of the first targets."""
    for k in range(count):
        call1(as_i8(t[PYTHON])[DROP], as_i8(t[SLOPE_ROWS] + 8 * ROW * k)[TARGET])


@kernel
def take_targets(t, outs):  # type: ignore[no-untyped-def]
    """Hold the targets, or make them; those outside the arena are handed over to the workspace. False: no memory."""
    python = as_i8(t[PYTHON])
    for k in range(t[SLOPES]):
        row = as_i8(t[SLOPE_ROWS] + 8 * ROW * k)
        if outs != 0:
            target = as_i8(outs)[k]
            call1(python[HOLD], target)
        elif row[KIND] == ARRAY:
            target = call4(python[CALL], python[EMPTY], t[SLOPE_ROWS] + 8 * (ROW * k + SHAPE), 2, 0)
        else:
            target = call2(row[ALLOCATOR], row[OF_TYPE], 0)
        if target == 0:
            drop_targets(t, k)
            return False
        row[TARGET] = target
    return True


@kernel
def bind_targets(t):  # type: ignore[no-untyped-def]
    """Let the sweep write large gradients where they are wanted."""
    for k in range(t[SLOPES]):
        row = as_i8(t[SLOPE_ROWS] + 8 * ROW * k)
        if row[STRETCH] == 0:
            patch(row, data(row, row[TARGET]))


@kernel
def run(t):  # type: ignore[no-untyped-def]
    """Run both sweeps; long ones without the interpreter lock."""
    if t[LONG] == 0:
        return sweep(t[WORKSPACE])
    python = as_i8(t[PYTHON])
    state = call1(python[RELEASE_LOCK], 0)
    status = sweep(t[WORKSPACE])
    call1(python[TAKE_LOCK], state)
    return status


@kernel
def paired(t, value, gradient):  # type: ignore[no-untyped-def]
    """Make a tuple of value and gradient, whose references it takes over."""
    pair = call1(as_i8(t[PYTHON])[NEW_TUPLE], 2) if value != 0 and gradient != 0 else 0
    if pair == 0:
        if value != 0:
            call1(as_i8(t[PYTHON])[DROP], value)
        if gradient != 0:
            call1(as_i8(t[PYTHON])[DROP], gradient)
        return FAILED
    items = as_i8(pair)
    items[ITEMS], items[ITEMS + 1] = value, gradient
    return pair


@kernel
def packed(t, flat):  # type: ignore[no-untyped-def]
    """Put the results together as the caller wants them: flat is (value, tuple of gradients)."""
    count = t[SLOPES]
    if t[SINGLE] != 0 and not flat:
        gradient = as_i8(t[SLOPE_ROWS])[TARGET]
    else:
        gradient = call1(as_i8(t[PYTHON])[NEW_TUPLE], count)
        if gradient == 0:
            drop_targets(t, count)
            return FAILED
        for k in range(count):
            as_i8(gradient)[ITEMS + k] = as_i8(t[SLOPE_ROWS] + 8 * ROW * k)[TARGET]
    if t[WITH_VALUE] == 0 and not flat:
        return gradient
    value = call2(t[VALUE_ALLOCATOR], t[VALUE_TYPE], 0)
    if value != 0:
        copy(t[VALUE], value + 16, t[VALUE_BYTES])
    return paired(t, value, gradient)


@kernel
def replayed(t, leaves, outs, flat):  # type: ignore[no-untyped-def]
    """Do what `replay` does once it takes the call."""
    if not take_targets(t, outs):
        return FAILED
    bind_leaves(t, leaves)
    bind_targets(t)
    if run(t) != 0:
        drop_targets(t, t[SLOPES])
        return NOT_MINE
    for k in range(t[SLOPES]):
        row = as_i8(t[SLOPE_ROWS] + 8 * ROW * k)
        if row[STRETCH] != 0:
            copy(row[STRETCH], data(row, row[TARGET]), row[BYTES])
    return packed(t, flat)


@kernel
def replay(binding, leaves, outs, flat):  # type: ignore[no-untyped-def]
    """Do a call: leaves and outs (0: none) are addresses of references; give the result, NOT_MINE or FAILED."""
    t = table_of(binding)
    if t[BUSY] != 0 or not accepts(t, as_i8(leaves), outs):
        return NOT_MINE
    python = as_i8(t[PYTHON])
    call1(python[HOLD], binding)  # another thread may throw it out while the lock is released
    t[BUSY] = 1
    result = replayed(t, as_i8(leaves), outs, flat)
    t[BUSY] = 0
    call1(python[DROP], binding)
    return result


@kernel
def table_of(binding):  # type: ignore[no-untyped-def]
    """Give a binding's table: the data of the array that is the tuple's first item."""
    return as_i8(as_i8(as_i8(binding)[ITEMS])[DATA])
