"""Walking over recorded instructions to write new ones: what the passes for tangents, adjoints and batches share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import CodeType
from typing import Any

import numpy as np

from .blocks import carries, reads
from .errors import TapeadNotImplementedError
from .kernels.elementwise import FUNCTIONS as EXPRESSION_FUNCTIONS
from .kernels.table import OPS, Elementwise, Op, Structural
from .record import COPY, Recording, find_tensor
from .tape import WRITES
from .tensor import Tensor

#: ops that decide, or check, and have no results that a derivative could flow to
SILENT = ("guard", "nonzero")


class Walk:
    """A walk over instructions of a live tape, from `start` to `stop` (None: the end), which writes derivatives behind them.

    `values` has a stand-in for memory that the function writes to in place: it holds what that memory held when the
    instruction at hand ran.
    """

    def __init__(self, recording: Recording, start: int, stop: int | None = None) -> None:
        self.recording, self.start, self.stop = recording, start, len(recording) if stop is None else stop
        self.of = list(recording.storage_of)
        self.values: dict[int, Tensor] = {}

    def take(self, what: str, instructions: Iterable[int], step: Callable[[int], None]) -> None:
        """Take the step of each of some instructions, which writes something ("adjoint", "tangent") for it."""
        watch = self.recording.watch
        if watch is not None:
            watch.walk(what, instructions, step)
            return
        for k in instructions:
            step(k)

    def look(self, made: Tensor, buffer: int) -> None:
        """Look at a derivative of a buffer that was written for the instruction at hand, while `debug_nans` is on."""
        if self.recording.watch is not None:
            self.recording.watch.derived(made, self.of[buffer], self.near)

    def near(self, k: int) -> Sequence[tuple[str, Any]]:
        """Give what the derivatives of an instruction are made of, beside its operands."""
        raise NotImplementedError

    def written(self) -> set[int]:
        """Give the storages that are written to in place."""
        results, ops = self.recording.result_buffers, self.recording.ops
        return {self.of[results[k][0]] for k in range(self.start, self.stop) if ops[k].name in WRITES}

    def value(self, buffer: int) -> Tensor:
        """Give a buffer's value as it was when the instruction at hand ran."""
        s = self.of[buffer]
        return self.stretch(self.values[s], buffer) if s in self.values else self.recording.tensor_of(buffer)

    def stretch(self, whole: Tensor, buffer: int) -> Tensor:
        """Give the view that a buffer is of its storage, of a tensor without gaps that is laid out like the storage."""
        recording = self.recording
        b, all_of = recording.buffers[buffer], recording.buffers[whole.buffer]
        value = strided(np.asarray(whole._value).reshape(-1), b.shape, b.strides, b.offset)
        made = recording.new_buffer(
            recording.storage_of[whole.buffer], whole.dtype, b.shape, b.strides, all_of.offset + b.offset
        )
        return recording.keep(Tensor(recording, made, value, whole.storage))

    def shaped(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Give a tensor in another shape."""
        return x if x.shape == shape else self.recording.view(x, lambda v: v.reshape(shape))

    def memory(self, buffer: int, former: Tensor | None) -> Tensor:
        """Give new memory that is laid out like a buffer's storage, and holds what `former` holds, or zeros."""
        recording = self.recording
        dtype = recording.buffers[buffer].dtype
        flat = recording.empty((recording.storages[self.of[buffer]].size,), dtype)
        recording.write(flat, dtype.type(0) if former is None else self.shaped(former, flat.shape))
        flat.storage.written = True
        return flat

    def again(self, k: int, operands: list[Tensor]) -> Any:
        """Record an instruction once more, with other operands; give its result, or results."""
        recording = self.recording
        op, result = recording.ops[k], recording.buffers[recording.result_buffers[k][0]]
        if op.name == "sum":
            x = operands[0]
            shift = x.ndim - len(result.shape)  # of an axis for columns, in front
            axes = tuple(i for i, dim in enumerate(x.shape[shift:], shift) if result.shape[i - shift] == 1 != dim)
            return recording.sum(x, axes, result.dtype)
        if op is COPY and operands[0].dtype != result.dtype:
            return recording.cast(operands[0], result.dtype)
        if isinstance(op, Elementwise):
            return recording.elementwise(op, tuple(operands))
        return recording.structural_op(op, operands, recording.parameters[k] or {})

    def partial_values(self, op: Elementwise, k: int, active: list[int]) -> dict[str, Any]:
        """Give what the partials of some operands read, by name, for an expression to be evaluated with."""
        recording = self.recording
        needed = set().union(*(reads(op, i) for i in active))
        names: dict[str, Any] = dict(_EXPRESSIONS)
        for name, buffer in [
            *zip("xyw", recording.operand_buffers[k], strict=False),
            ("z", recording.result_buffers[k][0]),
        ]:
            if name in needed:
                names[name] = self.value(buffer)
        return names

    def times_partial(self, op: Elementwise, i: int, d: Tensor, names: dict[str, Any]) -> Tensor:
        """Give a tangent or adjoint times the partial of an operand."""
        partial = op.partials[i]
        if partial == "1.0":
            return d
        if partial == "-1.0":
            return self.recording.elementwise(OPS["negative"], (d,))  # type: ignore[no-any-return]
        value = eval(_code(partial or "0.0"), names)
        return self.recording.elementwise(OPS["mask" if op.select else "chain"], (d, value))  # type: ignore[no-any-return]

    def structural_of(self, k: int) -> Structural:
        """Give the op of an instruction that is not elementwise."""
        op: Op = self.recording.ops[k]
        if not isinstance(op, Structural):
            raise TapeadNotImplementedError(f"{op.name} has no rule for derivatives within a traced function")
        return op

    def carried(self, k: int, has: Callable[[int], bool]) -> list[int]:
        """Give the operands of an instruction through which a derivative flows, and whose storages have one."""
        op, operands = self.recording.ops[k], self.recording.operand_buffers[k]
        return [i for i, b in enumerate(operands) if carries(op, i) and has(self.of[b])]


@cache
def _code(partial: str) -> CodeType:
    """Compile an expression of the op table, never the user's text; to `tape.user_place` it is code of this module."""
    return compile(partial, __file__, "eval")


def rule_of(op: Structural) -> Callable[..., tuple[Any, ...]]:
    """Give the rule by which a structural op's adjoint is written on the tape."""
    rule: Callable[..., tuple[Any, ...]] | None = op.rule
    if rule is None:
        raise TapeadNotImplementedError(f"{op.name} has no rule for derivatives within a traced function")
    return rule


def strided(flat: Any, shape: tuple[int, ...], strides: tuple[int, ...], offset: int) -> Any:
    """Give a view of a flat array; strides and offset count elements."""
    item = flat.itemsize
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, [s * item for s in strides])


def is_flat(tensor: Tensor) -> bool:
    """Whether a tensor's elements lie one after another, without gaps."""
    return bool(np.asarray(tensor._value).flags.c_contiguous)


def _where(condition: Any, x: Any, y: Any) -> Any:
    tensor = find_tensor([condition, x, y])
    return tensor.tape.elementwise(OPS["where"], (condition, x, y)) if tensor is not None else np.where(condition, x, y)


_EXPRESSIONS: dict[str, Any] = {name: getattr(np, name) for name in EXPRESSION_FUNCTIONS if hasattr(np, name)}
_EXPRESSIONS |= {"where": _where, "erf": lambda x: x.erf(), "__builtins__": {"abs": abs}}
