"""Tangents written on the tape: forward mode as new instructions behind those of the function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .adjoint import transposed
from .errors import TapeadNotImplementedError
from .kernels.table import OPS, Elementwise, Structural
from .record import COPY, Recording
from .tape import WRITES
from .tensor import Tensor
from .walk import SILENT, Walk, is_flat, rule_of


def push(
    recording: Recording,
    start: int,
    variables: Sequence[Tensor],
    tangents: Sequence[Tensor | None],
    stop: int | None = None,
) -> Tangents:
    """Write the tangent of every instruction from `start` on, for tangents (None: zero) of the variables."""
    made = Tangents(recording, start, variables, tangents, stop)
    made.take("tangent", range(start, made.stop), made.step)
    return made


class Tangents(Walk):
    """Tangents being written, in the order of the instructions.

    The tangent of a storage is a tensor (`whole`); that of memory which is written to part by part is memory, too
    (`flat`). What has neither has the tangent zero.
    """

    def __init__(
        self,
        recording: Recording,
        start: int,
        variables: Sequence[Tensor],
        tangents: Sequence[Tensor | None],
        stop: int | None,
    ) -> None:
        super().__init__(recording, start, stop)
        self.whole = {self.of[v.buffer]: t for v, t in zip(variables, tangents, strict=True) if t is not None}
        self.flat: dict[int, Tensor] = {}
        self._written = self.written()

    def of_tensor(self, x: Tensor) -> Tensor | None:
        """Give the tangent of a tensor; None for zero."""
        return self._tangent(x.buffer) if x.buffer < len(self.of) and self._has(self.of[x.buffer]) else None

    def _has(self, s: int) -> bool:
        return s in self.whole or s in self.flat

    def _tangent(self, buffer: int) -> Tensor:
        s = self.of[buffer]
        if s in self.flat:
            return self.stretch(self.flat[s], buffer)
        if self.recording.is_whole(buffer):
            return self.shaped(self.whole[s], self.recording.buffers[buffer].shape)
        if not is_flat(self.whole[s]):
            self.whole[s] = self.recording.elementwise(COPY, (self.whole[s],))
        return self.stretch(self.whole[s], buffer)

    def step(self, k: int) -> None:
        """Write the tangent of an instruction's results."""
        recording = self.recording
        op, operands, results = recording.ops[k], recording.operand_buffers[k], recording.result_buffers[k]
        if op.name in SILENT or not results:
            return
        target = results[0]
        if op.name in WRITES:
            self._write(k)
        elif not recording.is_whole(target):  # a part of memory that was made empty
            (source,) = operands
            self._put(target, self._tangent(source) if self._has(self.of[source]) else None)
            if self.of[target] in self._written:
                self._remember(target, self.value(source))
        else:
            computed = self._computed(k)
            tangents = computed if isinstance(computed, tuple) else (computed,)
            for result, tangent in zip(results, tangents, strict=False):
                if tangent is not None:
                    self.whole[self.of[result]] = own = self._own(result, tangent)
                    self.look(own, result)
            if self.of[target] in self._written:
                again = self.again(k, [self.value(b) for b in operands])
                self._remember(target, again[0] if isinstance(again, tuple) else again)

    def near(self, k: int) -> Sequence[tuple[str, Any]]:
        operands = [self.of[b] for b in self.recording.operand_buffers[k]]
        dots = [self.whole.get(s, self.flat.get(s)) for s in operands]
        return [(f"tangent of operand {i}", None if dot is None else dot._value) for i, dot in enumerate(dots, 1)]

    # ---- memory ----------------------------------------------------------------------------------------------------

    def _own(self, buffer: int, tangent: Tensor) -> Tensor:
        """See to it that a tangent has its result's shape and dtype, and is no view of memory that changes."""
        recording, b = self.recording, self.recording.buffers[buffer]
        if tangent.shape != b.shape:
            tangent = recording.view(tangent, lambda v: np.broadcast_to(v, b.shape))
        if tangent.dtype != b.dtype:
            return recording.cast(tangent, b.dtype)
        if any(tangent.storage is flat.storage for flat in self.flat.values()):
            return recording.elementwise(COPY, (tangent,))  # type: ignore[no-any-return]
        return tangent

    def _put(self, target: int, tangent: Tensor | None) -> None:
        """Write a tangent into that of memory; None is zero, and makes no memory."""
        s = self.of[target]
        if tangent is None and not self._has(s):
            return
        if s not in self.flat:
            self.flat[s] = self.memory(target, self.whole.pop(s, None))
        into = self.stretch(self.flat[s], target)
        zero = self.recording.tensor(np.zeros((), into.dtype))
        self.recording.overwrite(into, zero if tangent is None else self._matched(tangent, into))
        self.look(into, target)

    def _matched(self, tangent: Tensor, into: Tensor) -> Tensor:
        return tangent if tangent.dtype == into.dtype else self.recording.cast(tangent, into.dtype)

    def _remember(self, target: int, value: Tensor) -> None:
        """Keep what memory holds by now: the function will overwrite it before this walk has read it."""
        s = self.of[target]
        if s not in self.values:
            self.values[s] = self.memory(target, None)
        self.recording.overwrite(self.stretch(self.values[s], target), value)

    def _write(self, k: int) -> None:
        recording = self.recording
        operands, target = recording.operand_buffers[k], recording.result_buffers[k][0]
        s, source = self.of[target], operands[0]
        tangent = self._tangent(source) if self._has(self.of[source]) else None
        value = self.value(source)
        self._ready(target)
        if recording.ops[k].name == "assign":
            self._put(target, tangent)
            recording.overwrite(self.stretch(self.values[s], target), value)
            return
        axes = (recording.parameters[k] or {})["axes"]
        indices = tuple(recording.tensor_of(b) for b in operands[1:])
        if tangent is not None or self._has(s):
            if s not in self.flat:
                self.flat[s] = self.memory(target, self.whole.pop(s, None))
            into = self.stretch(self.flat[s], target)
            rows = recording.tensor(np.zeros(value.shape, into.dtype)) if tangent is None else tangent
            recording.scatter_into(into, indices, axes, recording.contiguous(rows))
            self.look(into, target)
        recording.scatter_into(self.stretch(self.values[s], target), indices, axes, recording.contiguous(value))

    def _ready(self, target: int) -> None:
        """See to it that memory which is about to be written to has a stand-in."""
        if self.of[target] not in self.values:
            raise TapeadNotImplementedError(
                "an array that was made outside a function is assigned to within it, while a tangent of it is taken: make "
                "the array inside"
            )

    # ---- rules -----------------------------------------------------------------------------------------------------

    def _computed(self, k: int) -> Any:
        """Give the tangent of an instruction's result, or a tuple of those of its results; None for zero."""
        recording = self.recording
        active = self.carried(k, self._has)
        op, operands = recording.ops[k], recording.operand_buffers[k]
        if not active or recording.buffers[recording.result_buffers[k][0]].dtype.kind != "f":
            return None
        if isinstance(op, Elementwise):
            names = self.partial_values(op, k, active)
            terms = [self.times_partial(op, i, self._tangent(operands[i]), names) for i in active]
            total = terms[0]
            for term in terms[1:]:
                total = recording.elementwise(OPS["add"], (total, term))
            return total
        structural = self.structural_of(k)
        if structural.linear:
            return self.again(k, [self._tangent(operands[0]), *map(recording.tensor_of, operands[1:])])
        dots = [self._tangent(b) if self._has(self.of[b]) else None for b in operands]
        results, values = [self.value(b) for b in recording.result_buffers[k]], [self.value(b) for b in operands]
        parameters = recording.parameters[k] or {}
        if structural.tangent is not None:
            return structural.tangent(recording.structural, parameters, dots, results, values)
        return self._transposed(structural, parameters, [dots[i] for i in structural.active], results, values)

    def _transposed(
        self,
        op: Structural,
        parameters: dict[str, Any],
        dots: list[Tensor | None],
        results: list[Tensor],
        values: list[Tensor],
    ) -> tuple[Tensor | None, ...]:
        """Give a structural op's tangents: its rule maps adjoints to adjoints, and the transpose of that map is wanted."""
        recording, rule = self.recording, rule_of(op)
        several = len(results) > 1

        def adjoints(ds: list[Tensor]) -> Sequence[Any]:
            d: Any = (ds[0], *[None] * (len(results) - 1)) if several else ds[0]
            return rule(recording.structural, parameters, d, results, values)

        first = transposed(recording, adjoints, results[:1], dots)[0]
        return first, *[None] * (len(results) - 1)
