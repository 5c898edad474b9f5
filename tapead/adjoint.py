"""Adjoints written on the tape: the reverse sweep as new instructions, behind those of the function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .kernels.table import OPS, Elementwise
from .record import COPY, Recording
from .tape import WRITES
from .tensor import Tensor
from .walk import Walk, rule_of

Seed = tuple[Tensor, Tensor]


def pull(
    recording: Recording, start: int, seeds: Sequence[Seed], variables: Sequence[Tensor], stop: int | None = None
) -> list[Tensor]:
    """Write the reverse sweep over the instructions from `start` to `stop`; give the adjoints of the variables.

    seeds are pairs of a target and the adjoint that is put on it.
    """
    sweep = Adjoints(recording, start, seeds, variables, stop)
    sweep.run()
    return [sweep.adjoint_of(v) for v in variables]


def transposed(
    recording: Recording,
    linear: Callable[[list[Tensor]], Sequence[Any]],
    likes: Sequence[Tensor],
    cotangents: Sequence[Tensor | None],
) -> list[Tensor]:
    """Write the transpose of a linear map of tensors like some: what its arguments' adjoints are for these cotangents.

    The map is recorded on arguments of zeros; those instructions are dead, as the transpose does not depend on them.
    """
    arguments = [recording.elementwise(COPY, (recording.tensor(np.zeros(like.shape, like.dtype)),)) for like in likes]
    start = len(recording)
    with recording.looking_away():
        results = [None if r is None else recording.tensor(r) for r in linear(arguments)]
    pairs = [(r, c) for r, c in zip(results, cotangents, strict=True) if r is not None and c is not None]
    return pull(recording, start, pairs, arguments)


class Adjoints(Walk):
    """A reverse sweep being written.

    An adjoint is first a tensor that contributions are added to (`whole`); where only a part of a storage receives
    one it becomes memory of its own that is updated in place (`flat`), laid out like the storage. Memory that the
    function has written to is copied (`values`), and its former values are put back into the copy on the way.
    """

    def __init__(
        self,
        recording: Recording,
        start: int,
        seeds: Sequence[Seed],
        variables: Sequence[Tensor],
        stop: int | None,
    ) -> None:
        super().__init__(recording, start, stop)
        self.seeds = seeds
        self.whole: dict[int, Tensor] = {}
        self.flat: dict[int, Tensor] = {}
        self._zero: set[int] = set()  # storages whose adjoint is memory that is zero everywhere
        self.reached = reached = {self.of[v.buffer] for v in variables}
        written = self.written()
        for _ in range(2 if written else 1):  # memory may be written to after it was read
            for k in range(start, self.stop):
                if self.carried(k, reached.__contains__):
                    results = recording.result_buffers[k]
                    reached.update(self.of[b] for b in results if recording.buffers[b].dtype.kind == "f")
        for s in sorted(written):
            self.values[s] = recording.elementwise(COPY, (recording.memory(s),))

    def run(self) -> None:
        """Write the sweep."""
        for target, seed in self.seeds:
            if self.of[target.buffer] in self.reached:
                self._add(target.buffer, seed)
        self.take("adjoint", range(self.stop - 1, self.start - 1, -1), self._reverse)

    def adjoint_of(self, variable: Tensor) -> Tensor:
        """Give the adjoint of a variable as a tensor of its own."""
        if self.of[variable.buffer] in self.flat:
            return self._adjoint(variable.buffer)
        return self.recording.elementwise(COPY, (self._adjoint_or_zero(variable.buffer),))  # type: ignore[no-any-return]

    # ---- adjoints of buffers -----------------------------------------------------------------------------------------

    def _adjoint(self, buffer: int) -> Tensor:
        """Give the adjoint of a buffer: the same view of the adjoint of its storage."""
        recording, s = self.recording, self.of[buffer]
        b = recording.buffers[buffer]
        if s in self.whole and recording.is_whole(buffer):
            return self.shaped(self.whole[s], b.shape)
        self._into_memory(buffer)
        return self.stretch(self.flat[s], buffer)

    def _adjoint_or_zero(self, buffer: int) -> Tensor:
        """Give the adjoint of a buffer; zeros where nothing has reached it."""
        if self.of[buffer] in self.whole or self.of[buffer] in self.flat:
            return self._adjoint(buffer)
        b = self.recording.buffers[buffer]
        return self.recording.tensor(np.zeros(b.shape, b.dtype))

    def near(self, k: int) -> Sequence[tuple[str, Any]]:
        found = []
        for i, b in enumerate(self.recording.result_buffers[k], 1):
            d = self.whole.get(self.of[b], self.flat.get(self.of[b]))
            found.append((f"adjoint of result {i}", None if d is None else d._value))
        return found

    def _add(self, buffer: int, contribution: Tensor) -> None:
        """Add to the adjoint of a buffer; axes along which it was broadcast are summed."""
        self.look(contribution, buffer)
        self._put(buffer, contribution)
        s = self.of[buffer]
        self.look(self.whole[s] if s in self.whole else self.flat[s], buffer)

    def _put(self, buffer: int, contribution: Tensor) -> None:
        recording, s = self.recording, self.of[buffer]
        b = recording.buffers[buffer]
        contribution = self._summed(contribution, b.shape)
        if contribution.dtype != b.dtype:
            contribution = recording.cast(contribution, b.dtype)
        if recording.is_whole(buffer) and s not in self.flat:
            if s in self.whole:
                former = self.shaped(self.whole[s], b.shape)
                self.whole[s] = recording.elementwise(OPS["add"], (former, contribution))
            elif any(contribution.storage is flat.storage for flat in self.flat.values()):
                self.whole[s] = recording.elementwise(COPY, (contribution,))  # that memory will be updated
            else:
                self.whole[s] = contribution
            return
        target = self._adjoint(buffer)
        repeated = tuple(
            i for i, (step, dim) in enumerate(zip(b.strides, b.shape, strict=True)) if step == 0 and dim > 1
        )
        if repeated:
            contribution = recording.sum(contribution, repeated)
            target = recording.view(
                target, lambda v: v[tuple(slice(0, 1) if i in repeated else slice(None) for i in range(v.ndim))]
            )
        if s in self._zero:
            self._zero.discard(s)
            recording.overwrite(target, contribution)
        else:
            recording.overwrite(target, recording.elementwise(OPS["add"], (target, contribution)))

    def _summed(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        if x.shape == shape:
            return x
        extra = x.ndim - len(shape)
        axes = tuple(i for i in range(x.ndim) if i < extra or (shape[i - extra] == 1 and x.shape[i] != 1))
        if axes:
            x = self.recording.sum(x, axes)
        if x.size != int(np.prod(shape)):
            x = self.recording.view(x, lambda v: np.broadcast_to(v, shape))
        return self.shaped(x, shape)

    # ---- instructions ------------------------------------------------------------------------------------------------

    def _reverse(self, k: int) -> None:
        recording = self.recording
        op, operands, results = recording.ops[k], recording.operand_buffers[k], recording.result_buffers[k]
        if op.name in WRITES:
            self._undo(k)
            return
        active = self.carried(k, self.reached.__contains__)
        if not active or not any(self.of[r] in self.flat or self.of[r] in self.whole for r in results):
            return
        if isinstance(op, Elementwise):
            d, names = self._adjoint(results[0]), self.partial_values(op, k, active)
            for i in active:
                self._add(operands[i], self.times_partial(op, i, d, names))
            return
        structural = self.structural_of(k)
        ds: Any = [self._adjoint_or_zero(r) if recording.buffers[r].dtype.kind == "f" else None for r in results]
        contributions = rule_of(structural)(
            recording.structural,
            recording.parameters[k] or {},
            ds[0] if len(results) == 1 else tuple(ds),
            [self.value(b) for b in results],
            [self.value(b) for b in operands],
        )
        for i, contribution in zip(structural.active, contributions, strict=True):
            if i in active and contribution is not None:
                self._add(operands[i], recording.tensor(contribution))

    def _undo(self, k: int) -> None:
        """Take the adjoint away from what was written, and put the overwritten values back into the copy."""
        recording = self.recording
        operands, target = recording.operand_buffers[k], recording.result_buffers[k][0]
        s = self.of[target]
        saved = recording.former[k]
        flows = self.of[operands[0]] in self.reached
        if recording.ops[k].name == "assign":
            if s in self.flat or s in self.whole:
                self._into_memory(target)
                d = self._adjoint(target)
                if flows:
                    self._add(operands[0], d)
                recording.overwrite(d, recording.tensor(np.zeros((), d.dtype)))
            recording.overwrite(self.stretch(self.values[s], target), saved)
            return
        axes = (recording.parameters[k] or {})["axes"]
        indices = tuple(recording.tensor_of(b) for b in operands[1:])
        if s in self.flat or s in self.whole:
            self._into_memory(target)
            d = self._adjoint(target)
            rows = recording.structural("gather", d, *indices, axes=axes)
            if flows:
                last = self._last_writes(indices, axes, recording.buffers[target].shape, rows.ndim)
                self._add(operands[0], recording.elementwise(OPS["where"], (last, rows, d.dtype.type(0))))
            recording.scatter_into(d, indices, axes, recording.tensor(np.zeros(rows.shape, d.dtype)))
        recording.scatter_into(self.stretch(self.values[s], target), indices, axes, saved)

    def _into_memory(self, buffer: int) -> None:
        """Turn the adjoint of a buffer's storage into memory that can be updated in place."""
        s = self.of[buffer]
        if s not in self.flat:
            if s not in self.whole:
                self._zero.add(s)
            self.flat[s] = self.memory(buffer, self.whole.pop(s, None))

    def _last_writes(self, indices: Sequence[Tensor], axes: Sequence[int], shape: Sequence[int], ndim: int) -> Tensor:
        """Tell which of the places that are written are not written again by the same instruction."""
        recording = self.recording
        order = np.arange(indices[0].size)
        who = recording.empty(tuple(shape[a] for a in axes), np.int64)
        recording.write(who, np.int64(0))
        every = tuple(range(len(axes)))
        recording.scatter_into(who, indices, every, recording.tensor(order))
        last = recording.elementwise(OPS["equal"], (recording.structural("gather", who, *indices, axes=every), order))
        return recording.view(last, lambda v: v.reshape((-1,) + (1,) * (ndim - 1)))
