"""Binding: a program with a workspace of its own, and a table by which compiled code takes a call's arguments to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, NamedTuple

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


def let_call(function: Any) -> None:
    """Let calls of a differentiated function go to compiled code, which looks at its binding."""
    objects.set_call(function, library.load("sweeps").call.address)


def bind(
    program: Program, general: Any, leaves: Sequence[Any], traced: Sequence[int], single: bool, with_value: bool
) -> Binding | None:
    """Bind a program to leaves of these shapes and dtypes; None where compiled code cannot do its calls.

    traced are the places, among the leaves, of the program's inputs. The program's first output is the value.
    """
    buffer = program.buffers[program.outputs[0]]
    inputs = {i: k for k, i in enumerate(traced)}
    if not objects.readable() or not all(_fits(program, k, leaves[i]) for i, k in inputs.items()):
        return None
    workspace = program.take()
    value = workspace.results[0]
    if value is None or value.dtype != buffer.dtype or value.dtype.kind != "f":
        program.give_back(workspace)
        return None
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
    slopes = np.zeros((len(program.wrt), ROW), np.int64)
    for k, place in enumerate(program.wrt):
        leaf, slot = leaves[traced[place]], workspace.slots[place]
        arena = workspace.gradients[k]
        words = program.adjoint_words(workspace, k) if arena is None else []
        _describe(slopes[k], leaf, arena, slot.nbytes, words, kept)
        if slopes[k, KIND] == SCALAR:
            kind = NUMBERS[type(leaf)]
            slopes[k, OF_TYPE], slopes[k, ALLOCATOR] = id(kind), objects.allocator(kind)
        else:
            shape = tuple(leaf.shape)
            slopes[k, SHAPE], slopes[k, SHAPE_DTYPE] = id(shape), id(leaf.dtype)
            kept += [shape, leaf.dtype]
    kept += [rows, slopes]
    table[WORKSPACE], table[LONG] = workspace.handle, program.long
    table[LEAVES], table[LEAF_ROWS] = len(rows), _address(rows)
    table[SLOPES], table[SLOPE_ROWS] = len(slopes), _address(slopes)
    table[WITH_VALUE], table[SINGLE] = with_value, single
    table[VALUE], table[VALUE_BYTES] = _address(value), value.nbytes
    table[VALUE_TYPE], table[VALUE_ALLOCATOR] = id(value.dtype.type), objects.allocator(value.dtype.type)
    return Binding(table, replay(), tuple(kept))


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
