"""Batches written on the tape: instructions recorded for one column, written again for many columns at once.

Columns are the leading axis: what was one tangent (or adjoint) of shape s becomes an array of shape (m, *s). What does
not depend on the columns is computed once and broadcast.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .bands import Line
from .errors import TapeadNotImplementedError
from .kernels.table import OPS, Elementwise, Structural
from .record import Recording
from .scaled import Scaled
from .tape import WRITES
from .tensor import Tensor
from .walk import SILENT, strided


def batch(
    recording: Recording,
    start: int,
    inputs: Sequence[Tensor],
    columns: Sequence[Tensor],
    outputs: Sequence[Tensor],
    stop: int | None = None,
    first: int | None = None,
) -> list[Tensor]:
    """Write the instructions from `start` to `stop` for all columns of the inputs; give the outputs, columns first.

    `first` tells that the columns are those of the identity, from this one on.
    """
    made = Batch(recording, start, inputs, columns, stop, first)
    made.take("columns", needed_for(recording, start, made.stop, outputs), made.step)
    return [made.of_tensor(x) for x in outputs]


def needed_for(recording: Recording, start: int, stop: int, outputs: Sequence[Tensor]) -> list[int]:
    """Give the instructions from `start` to `stop` that outputs depend on, in order."""
    of = recording.storage_of
    wanted = {of[x.buffer] for x in outputs}
    found = []
    for k in range(stop - 1, start - 1, -1):
        if any(of[b] in wanted for b in recording.result_buffers[k]):
            wanted.update(of[b] for b in recording.operand_buffers[k])
            found.append(k)
    return found[::-1]


class Batch(Scaled):
    """A batch being written.

    `columns`, `bands` or `scaled` hold each storage that depends on the columns, from the inputs on.
    """

    def __init__(
        self,
        recording: Recording,
        start: int,
        inputs: Sequence[Tensor],
        columns: Sequence[Tensor],
        stop: int | None,
        first: int | None,
    ) -> None:
        super().__init__(recording, start, stop, columns[0].shape[0])
        place = 0
        for x, c in zip(inputs, columns, strict=True):
            s = self.of[x.buffer]
            self.columns[s] = self.shaped(c, (self.count, x.size))
            if first is not None:
                self.bands[s] = {Line(place - first, 1): recording.tensor(np.ones(x.size, x.dtype))}
            place += x.size
        results = [recording.result_buffers[k] for k in range(start, self.stop)]
        #: memory that is written to part by part: one for each column, whether it depends on the columns or not
        self._parts = self.written() | {self.of[b[0]] for b in results if b and not recording.is_whole(b[0])}

    def of_tensor(self, x: Tensor) -> Tensor:
        """Give the columns of a tensor."""
        return self._of(x.buffer) if self.held(x.buffer) else self.of_all(x)

    def _of(self, buffer: int) -> Tensor:
        """Give the columns of a buffer: the same view of each column of its storage."""
        recording, b = self.recording, self.recording.buffers[buffer]
        whole = self.dense(self.of[buffer], b.dtype)
        all_of = recording.buffers[whole.buffer]
        shape, strides = (self.count, *b.shape), (recording.storages[self.of[buffer]].size, *b.strides)
        value = strided(whole._value.reshape(-1), shape, strides, b.offset)
        made = recording.new_buffer(
            recording.storage_of[whole.buffer], whole.dtype, shape, strides, all_of.offset + b.offset
        )
        return recording.keep(Tensor(recording, made, value, whole.storage))

    def whole(self, buffer: int) -> Tensor:
        """Give the columns of a buffer, also where it is the same in each."""
        return self._of(buffer) if self.held(buffer) else self.of_all(self.value(buffer))

    def of_all(self, x: Tensor) -> Tensor:
        """Give a tensor once for each column."""
        return self.recording.view(x, lambda v: np.broadcast_to(v, (self.count, *v.shape)))

    def against(self, buffer: int, ndim: int) -> Tensor:
        """Give an operand for a result of so many axes: its columns, or itself if it has none."""
        if not self.held(buffer):
            return self.value(buffer)
        x = self._of(buffer)
        shape = (self.count, *(1,) * (ndim + 1 - x.ndim), *x.shape[1:])
        return self.shaped(x, shape)

    def step(self, k: int) -> None:
        """Write an instruction for all columns, if it depends on them."""
        recording = self.recording
        op, operands, results = recording.ops[k], recording.operand_buffers[k], recording.result_buffers[k]
        if op.name in SILENT or not results:
            return
        target = results[0]
        if not any(map(self.held, operands)) and self.of[target] not in self._parts:
            return
        if self.by_bands(k):
            return
        steady = recording.watch is None and self._parts.isdisjoint(self.of[b] for b in (*operands, target))
        if steady and self.by_factors(k):
            return
        if op.name in WRITES:
            self._write(k)
        elif isinstance(op, Elementwise) or op.name == "sum" or (isinstance(op, Structural) and op.broadcasts):
            ndim = len(recording.buffers[target].shape)
            total = self.total(k)
            self._settle(target, self.again(k, [self.against(b, ndim) for b in operands]) if total is None else total)
        else:
            for buffer, made in zip(results, self._structural(k), strict=True):
                self._settle(buffer, made)

    def _settle(self, target: int, made: Tensor) -> None:
        """Note the columns of an instruction's result."""
        self.look(made, target)
        recording, s = self.recording, self.of[target]
        b = recording.buffers[target]
        shape = (self.count, *b.shape)
        if made.shape != shape:  # the result of operands that have no columns
            made = recording.view(made, lambda v: np.broadcast_to(v, shape))
        if recording.is_whole(target):
            self.bands.pop(s, None)
        if s in self._parts and s not in self.columns and recording.is_whole(target):
            self.columns[s] = memory = recording.empty((self.count, recording.storages[s].size), b.dtype)
            recording.write(memory, self._flat(made, s))
        elif s in self._parts:
            recording.overwrite(self._memory(target), made)
        else:
            self.columns[s] = self._flat(made, s)

    def _flat(self, x: Tensor, s: int) -> Tensor:
        return self.shaped(self.recording.contiguous(x), (self.count, self.recording.storages[s].size))

    def _memory(self, target: int) -> Tensor:
        """Give the columns of memory that is written to, which is made when it is met first."""
        recording, s = self.recording, self.of[target]
        if s in self.bands:
            self.dense(s, recording.buffers[target].dtype)
            del self.bands[s]
        if s not in self.columns:
            if not recording.is_whole(target) and recording.storages[s].written:
                raise TapeadNotImplementedError("columns of memory that was made before the derivative began")
            dtype = recording.buffers[target].dtype
            self.columns[s] = memory = recording.empty((self.count, recording.storages[s].size), dtype)
            recording.write(memory, dtype.type(0))
        return self._of(target)

    def near(self, k: int) -> Sequence[tuple[str, Any]]:
        operands = self.recording.operand_buffers[k]
        found = []
        for i, s in enumerate([self.of[b] for b in operands], 1):
            kept = [self.columns[s]] if s in self.columns else self.bands.get(s, {}).values()
            found += [(f"columns of operand {i}", c._value) for c in kept]
        return found

    # ---- structural ops --------------------------------------------------------------------------------------------

    def _write(self, k: int) -> None:
        recording = self.recording
        op, operands, target = recording.ops[k], recording.operand_buffers[k], recording.result_buffers[k][0]
        memory = self._memory(target)
        if op.name == "assign":
            recording.overwrite(memory, self.against(operands[0], len(recording.buffers[target].shape)))
        else:

            def into(_: str, rows: Tensor, *indices: Tensor, axes: tuple[int, ...]) -> None:
                recording.scatter_into(memory, indices, axes, recording.contiguous(rows))

            if self._by_rule(k, into) is NotImplemented:
                raise TapeadNotImplementedError(
                    "an array is assigned to at places that a tangent or an adjoint names: they cannot be taken for all columns"
                )
        self.look(memory, target)

    def _structural(self, k: int) -> tuple[Tensor, ...]:
        """Write an op by its rule for columns, or column by column."""
        made = self._by_rule(k, self.recording.structural)
        if made is NotImplemented:
            made = self._one_by_one(k)
        return made if isinstance(made, tuple) else (made,)

    def _by_rule(self, k: int, record: Callable[..., Any]) -> Any:
        rule = self.structural_of(k).columns
        operands = [Operand(self, b) for b in self.recording.operand_buffers[k]]
        return NotImplemented if rule is None else rule(record, self.recording.parameters[k] or {}, operands)

    def _one_by_one(self, k: int) -> tuple[Tensor, ...]:
        """Write an op column by column: for ops that nothing is known of."""
        recording = self.recording
        op, operands = self.structural_of(k), recording.operand_buffers[k]
        wholes = [self.whole(b) for b in operands]
        made = []
        for i in range(self.count):
            column = [recording.contiguous(self._column(x, i)) for x in wholes]
            results = recording.structural_op(op, column, recording.parameters[k] or {})
            made.append(results if isinstance(results, tuple) else (results,))
        stacked = []
        for same in zip(*made, strict=True):
            memory = recording.empty((self.count, *same[0].shape), same[0].dtype)
            for i, part in enumerate(same):
                recording.write(self._column(memory, i), part)
            stacked.append(memory)
        return tuple(stacked)

    def _column(self, x: Tensor, i: int) -> Tensor:
        return self.recording.view(x, lambda v: v[i, ...])


class Operand:
    """An operand of an op that is written for many columns, as the op's rule for columns sees it."""

    def __init__(self, made: Batch, buffer: int) -> None:
        self._made, self._buffer = made, buffer
        self.shape = made.recording.buffers[buffer].shape
        self.held = made.held(buffer)

    @property
    def value(self) -> Tensor:
        """What the operand is, where it is the same in each column."""
        return self._made.value(self._buffer)

    @property
    def columns(self) -> Tensor:
        """The columns, also where they are all the same."""
        return self._made.whole(self._buffer)

    def against(self, ndim: int) -> Tensor:
        """Give the columns, or the value, to be broadcast against others of so many axes in each column."""
        return self._made.against(self._buffer, ndim)

    def times(self, matrix: Tensor) -> Any:
        """Multiply a vector's columns, as rows, by a matrix: one product for all of them."""
        made = self._made
        d = made.diagonal(self._buffer)
        if d is not None:
            return made.recording.elementwise(OPS["chain"], (made.shaped(d, (made.count, 1)), matrix))
        return np.matmul(made.shaped(self.columns, (made.count, matrix.shape[0])), matrix)
