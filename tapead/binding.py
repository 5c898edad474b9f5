"""Binding: a program with a workspace of its own, and a table by which compiled code takes a call's arguments to it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakSet

import numpy as np

from .kernels import library, objects
from .kernels.replay import (
    ALLOCATOR,
    ARRAY,
    BUSY,
    BYTES,
    KIND,
    LEAF_ROWS,
    LEAVES,
    LONG,
    OF_AXES,
    OF_DIMENSIONS,
    OF_DTYPE,
    OF_TYPE,
    PATCH_COUNT,
    PATCHES,
    PYTHON,
    ROW,
    SCALAR,
    SHAPE,
    SHAPE_DTYPE,
    SINGLE,
    SLOPE_ROWS,
    SLOPES,
    STATIC,
    STRETCH,
    VALUE,
    VALUE_ALLOCATOR,
    VALUE_BYTES,
    VALUE_TYPE,
    WITH_VALUE,
    WORKSPACE,
)
from .program import Program

#: types of leaves that are numbers, and the dtypes that gradients by them have
NUMBERS = {float: np.float64, np.float64: np.float64, np.float32: np.float32}


class Binding(NamedTuple):
    """What a call goes through. Compiled code reads the table only; the rest stays alive by this.

    As a tuple it is at once what the table lies in and what keeps all of it alive while a call runs.
    """

    table: Any
    replay: Callable[[Binding, list[Any], list[Any] | None], Any]
    kept: tuple[Any, ...]


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


def _table(general: Any) -> Any:
    table = np.zeros(16, np.int64)
    table[PYTHON] = _address(objects.functions(general))
    return table


@cache
def idle(general: Any) -> Binding:
    """Give the binding that takes no call: general does all of them."""
    table = _table(general)
    table[BUSY] = 1
    return Binding(table, replay(), ())


@cache
def replay() -> Any:
    """Give the compiled function (binding, leaves, targets or None) -> (value, gradients), or None where it is not fit."""
    return objects.builtin("replay", library.load("sweeps").replay_lists.address)


#: the functions that compiled code calls, and whether it may
_called: WeakSet[Any] = WeakSet()
_may_call = True
_lock = threading.Lock()


def let_calls(allowed: bool) -> None:
    """Let compiled code take calls again, by bindings to come; or let all calls go through Python."""
    global _may_call
    _may_call = allowed
    if not allowed:
        with _lock:
            functions = list(_called)
        for function in functions:
            function.rest()


def let_call(function: Any, binding: Binding | None) -> None:
    """Let compiled code take the calls of a function by a binding; None: let them go through Python.

    Compiled code finds the binding in the object's first slot, `_binding`; the function's `rest` puts the idle one there.
    """
    former = function._binding
    if binding is former:
        return
    if binding is None:
        function.rest()
        return
    function._binding = binding
    if former is None:
        with _lock:
            _called.add(function)
        objects.set_call(function, library.load("sweeps").call.address)
    if not _may_call:  # asked last, for it may have been forbidden before the function was among those called
        function.rest()


def bind(
    program: Program, general: Any, leaves: Sequence[Any], traced: Sequence[int], single: bool, with_value: bool
) -> Binding | None:
    """Bind a program to leaves of these shapes and dtypes; None where compiled code cannot do its calls.

    traced are the places, among the leaves, of the program's inputs. The program's first output is the value that is
    differentiated; without one, calls give all outputs.
    """
    inputs = {i: k for k, i in enumerate(traced)}
    if not objects.readable() or not all(_fits(program, k, leaves[i]) for i, k in inputs.items()):
        return None
    workspace = program.take()
    swept = program.target is not None
    outputs = program.outputs[:1] if swept else program.outputs
    if not outputs or not all(_fresh(program, b, x) for b, x in zip(outputs, workspace.results, strict=False)):
        program.give_back(workspace)
        return None
    value = workspace.results[0] if swept else np.zeros(())
    table = _table(general)
    kept: list[Any] = [program, workspace]
    rows = np.zeros((len(leaves), ROW), np.int64)
    for i, leaf in enumerate(leaves):
        if i in inputs:
            slot, large = workspace.slots[inputs[i]], program.is_large(inputs[i])
            words = program.value_words(workspace, inputs[i]) if large else []
            _describe(rows[i], leaf, None if large else slot, slot.nbytes, words, kept)
        else:
            rows[i, KIND], rows[i, OF_TYPE] = STATIC, id(leaf)
            kept.append(leaf)
    slopes = _slopes(program, workspace, leaves, traced, kept) if swept else _results(program, workspace, kept)
    kept += [rows, slopes]
    table[WORKSPACE], table[LONG] = workspace.handle, program.long
    table[LEAVES], table[LEAF_ROWS] = len(rows), _address(rows)
    table[SLOPES], table[SLOPE_ROWS] = len(slopes), _address(slopes)
    table[WITH_VALUE], table[SINGLE] = with_value, single
    table[VALUE], table[VALUE_BYTES] = _address(value), value.nbytes
    table[VALUE_TYPE], table[VALUE_ALLOCATOR] = id(value.dtype.type), objects.allocator(value.dtype.type)
    return Binding(table, replay(), tuple(kept))


def _fresh(program: Program, buffer: int, x: Any) -> bool:
    """Whether an output is made by the sweeps, in the arena, as the floats or integers that the caller gets."""
    return x is not None and x.dtype == program.buffers[buffer].dtype and x.flags.c_contiguous and x.dtype.kind in "fi"


def _slopes(program: Program, workspace: Any, leaves: Sequence[Any], traced: Sequence[int], kept: list[Any]) -> Any:
    """Describe the gradients that a call gives."""
    slopes = np.zeros((len(program.wrt), ROW), np.int64)
    for k, place in enumerate(program.wrt):
        leaf, slot = leaves[traced[place]], workspace.slots[place]
        arena = workspace.gradients[k]
        words = program.adjoint_words(workspace, k) if arena is None else []
        _describe(slopes[k], leaf, arena, slot.nbytes, words, kept)
        _make(slopes[k], leaf, kept)
    return slopes


def _results(program: Program, workspace: Any, kept: list[Any]) -> Any:
    """Describe the results that a call gives, where it gives no gradient that was swept."""
    rows = np.zeros((len(workspace.results), ROW), np.int64)
    for k, (row, x) in enumerate(zip(rows, workspace.results, strict=True)):
        like, words = x if x.ndim else x.dtype.type(0), program.output_words(workspace, k)
        _describe(row, like, None if words else x, x.nbytes, words, kept)
        _make(row, like, kept)
    return rows


def _make(row: Any, like: Any, kept: list[Any]) -> None:
    """Say how an object like one is made."""
    if row[KIND] == SCALAR:
        kind = NUMBERS.get(type(like), type(like))
        row[OF_TYPE], row[ALLOCATOR] = id(kind), objects.allocator(kind)
    else:
        shape = tuple(like.shape)
        row[SHAPE], row[SHAPE_DTYPE] = id(shape), id(like.dtype)
        kept += [shape, like.dtype]


def _fits(program: Program, k: int, leaf: Any) -> bool:
    """Whether compiled code can read a leaf as the k-th input, as it lies in memory."""
    dtype = program.dtype(k)
    if type(leaf) is np.ndarray:
        return leaf.dtype is dtype
    return NUMBERS.get(type(leaf)) is dtype.type


def _describe(row: Any, leaf: Any, stretch: Any, size: int, words: Sequence[tuple[Any, int]], kept: list[Any]) -> None:
    """Fill a row: what objects it takes, and where their numbers are copied to, or which words take their address."""
    if type(leaf) is np.ndarray:
        dimensions = np.array([*leaf.shape, 0], np.int64)
        row[KIND], row[OF_TYPE], row[OF_DTYPE] = ARRAY, id(np.ndarray), id(leaf.dtype)
        row[OF_AXES], row[OF_DIMENSIONS] = leaf.ndim, _address(dimensions)
        kept += [dimensions, leaf.dtype]
    else:
        row[KIND], row[OF_TYPE] = SCALAR, id(type(leaf))
    row[STRETCH], row[BYTES] = 0 if stretch is None else _address(stretch), size
    patches = np.array([(_address(word), offset) for word, offset in words], np.int64).reshape(-1, 2)
    row[PATCHES], row[PATCH_COUNT] = _address(patches), len(patches)
    kept.append(patches)
