"""Derivatives written on the tape: the reverse sweep as new instructions, for gradients within traced functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blocks import carries, reads
from .errors import TapeadNotImplementedError, TapeadTypeError
from .kernels.elementwise import FUNCTIONS as EXPRESSION_FUNCTIONS
from .kernels.table import OPS, Elementwise, Structural
from .record import Recording, find_tensor, live_recordings
from .tensor import Tensor
from .trace import checked_output, split
from .tree import flatten, is_traced, normal, unflatten

#: ops that write into memory in place
WRITES = ("assign", "scatter")


def grad_on_tape(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], argnums: Sequence[int], has_aux: bool
) -> tuple[Any, Any, list[Any]]:
    """Run a function on fresh variables of the live tape, and write its gradient on that tape.

    Gives value, auxiliary result, and a gradient tree for each of argnums. One tape and fresh buffers: an outer
    derivative cannot be confused with the inner one.
    """
    recording = live_recordings()[-1]
    level = recording.open_level()
    args = tuple(args)
    variables: list[list[Tensor]] = []
    replaced = list(args)
    structures = []
    for a in argnums:
        leaves, structure = flatten(args[a])
        fresh = []
        for leaf in leaves:
            leaf = normal(leaf)
            if type(leaf) is not Tensor and not is_traced(leaf):
                raise TapeadTypeError(
                    f"a {type(leaf).__name__} cannot be differentiated by: pass a float or a float array"
                )
            tensor = recording.tensor(np.asarray(leaf) if type(leaf) is not Tensor else leaf)
            if tensor.dtype.kind != "f":
                raise TapeadTypeError(
                    f"an array of dtype {tensor.dtype} cannot be differentiated by: convert it with astype(float)"
                )
            copied = recording.elementwise(OPS["copy"], (tensor,))
            copied.storage.levels |= level
            fresh.append(copied)
        variables.append(fresh)
        structures.append(structure)
        replaced[a] = unflatten(structure, fresh)
    start = len(recording)
    try:
        value, aux = split(function(*replaced, **kwargs), has_aux)
        value = recording.tensor(checked_output(recording, value))
        gradients = iter(reverse_on_tape(recording, start, value, [v for fresh in variables for v in fresh]))
    finally:
        recording.close_level(level)
    trees = [unflatten(s, [next(gradients) for _ in fresh]) for s, fresh in zip(structures, variables, strict=True)]
    return value, aux, trees


def reverse_on_tape(recording: Recording, start: int, target: Tensor, variables: Sequence[Tensor]) -> list[Tensor]:
    """Write the reverse sweep over the instructions from `start` on; give the adjoints of the variables."""
    sweep = _Sweep(recording, start, target, variables)
    sweep.run()
    return [sweep.adjoint_of(v) for v in variables]


class _Sweep:
    """A reverse sweep being written.

    An adjoint is first a tensor that contributions are added to (`whole`); where only a part of a storage receives
    one it becomes memory of its own that is updated in place (`flat`), laid out like the storage. Memory that the
    function has written to is copied (`old`), and its former values are put back into the copy on the way.
    """

    def __init__(self, recording: Recording, start: int, target: Tensor, variables: Sequence[Tensor]) -> None:
        self.recording, self.start, self.stop, self.target = recording, start, len(recording), target
        self.whole: dict[int, Tensor] = {}
        self.flat: dict[int, Tensor] = {}
        self.old: dict[int, Tensor] = {}
        self.of = of = [b.storage for b in recording.buffers]
        self.reached = reached = {of[v.buffer] for v in variables}
        written = {
            of[recording.result_buffers[k][0]] for k in range(start, self.stop) if recording.ops[k].name in WRITES
        }
        for _ in range(2 if written else 1):  # memory may be written to after it was read
            for k in range(start, self.stop):
                operands = recording.operand_buffers[k]
                if any(carries(recording.ops[k], i) and of[b] in reached for i, b in enumerate(operands)):
                    reached.update(of[b] for b in recording.result_buffers[k] if recording.buffers[b].dtype.kind == "f")
        for s in sorted(written):
            self.old[s] = recording.elementwise(OPS["copy"], (recording.memory(s),))

    def run(self) -> None:
        """Write the sweep."""
        if self.of[self.target.buffer] in self.reached:
            self._add(self.target.buffer, self.recording.tensor(np.ones(self.target.shape, self.target.dtype)))
        for k in range(self.stop - 1, self.start - 1, -1):
            self._reverse(k)

    def adjoint_of(self, variable: Tensor) -> Tensor:
        """Give the adjoint of a variable as a tensor of its own."""
        return self.recording.elementwise(OPS["copy"], (self._adjoint(variable.buffer),))  # type: ignore[no-any-return]

    # ---- values and adjoints of buffers ------------------------------------------------------------------------------

    def _value(self, buffer: int) -> Tensor:
        """Give a buffer's value as it was when the instruction at hand ran."""
        s = self.of[buffer]
        return self._stretch(self.old[s], buffer) if s in self.old else self.recording.tensor_of(buffer)

    def _stretch(self, flat: Tensor, buffer: int) -> Tensor:
        """Give the view of a flat tensor that a buffer is of its storage."""
        recording = self.recording
        b, whole = recording.buffers[buffer], recording.buffers[flat.buffer]
        item = flat.itemsize
        value = np.lib.stride_tricks.as_strided(flat._value[b.offset :], b.shape, [s * item for s in b.strides])
        made = recording.new_buffer(whole.storage, flat.dtype, b.shape, b.strides, whole.offset + b.offset)
        return recording.keep(Tensor(recording, made, value, flat.storage))

    def _shaped(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        return x if x.shape == shape else self.recording.view(x, lambda v: v.reshape(shape))

    def _adjoint(self, buffer: int) -> Tensor:
        """Give the adjoint of a buffer: the same view of the adjoint of its storage."""
        recording, s = self.recording, self.of[buffer]
        b = recording.buffers[buffer]
        if s in self.whole and recording.is_whole(buffer):
            return self._shaped(self.whole[s], b.shape)
        self._into_memory(buffer)
        return self._stretch(self.flat[s], buffer)

    def _add(self, buffer: int, contribution: Tensor) -> None:
        """Add to the adjoint of a buffer; axes along which it was broadcast are summed."""
        recording, s = self.recording, self.of[buffer]
        b = recording.buffers[buffer]
        contribution = self._summed(contribution, b.shape)
        if contribution.dtype != b.dtype:
            contribution = recording.cast(contribution, b.dtype)
        if recording.is_whole(buffer) and s not in self.flat:
            if s in self.whole:
                former = self._shaped(self.whole[s], b.shape)
                self.whole[s] = recording.elementwise(OPS["add"], (former, contribution))
            elif any(contribution.storage is flat.storage for flat in self.flat.values()):
                self.whole[s] = recording.elementwise(OPS["copy"], (contribution,))  # that memory will be updated
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
        return self._shaped(x, shape)

    # ---- instructions ------------------------------------------------------------------------------------------------

    def _reverse(self, k: int) -> None:
        recording = self.recording
        op, operands, results = recording.ops[k], recording.operand_buffers[k], recording.result_buffers[k]
        if op.name in WRITES:
            self._undo(k)
            return
        active = [i for i, b in enumerate(operands) if carries(op, i) and self.of[b] in self.reached]
        if not active or not any(self.of[r] in self.flat or self.of[r] in self.whole for r in results):
            return
        if isinstance(op, Elementwise):
            self._elementwise(op, operands, results[0], active)
            return
        if not isinstance(op, Structural) or op.rule is None:
            raise TapeadNotImplementedError(f"{op.name} has no rule for derivatives within a traced function")
        d: Any = [self._adjoint(r) if recording.buffers[r].dtype.kind == "f" else None for r in results]
        contributions = op.rule(
            recording.structural,
            recording.parameters[k] or {},
            d[0] if len(results) == 1 else tuple(d),
            [self._value(b) for b in results],
            [self._value(b) for b in operands],
        )
        for i, contribution in zip(op.active, contributions, strict=True):
            if i in active and contribution is not None:
                self._add(operands[i], recording.tensor(contribution))

    def _elementwise(self, op: Elementwise, operands: tuple[int, ...], result: int, active: list[int]) -> None:
        recording = self.recording
        d = self._adjoint(result)
        names: dict[str, Any] = dict(_EXPRESSIONS)
        needed = set().union(*(reads(op, i) for i in active))
        for name, buffer in [*zip("xyw", operands, strict=False), ("z", result)]:
            if name in needed:
                names[name] = self._value(buffer)
        for i in active:
            partial = op.partials[i]
            if partial == "1.0":
                contribution = d
            elif partial == "-1.0":
                contribution = recording.elementwise(OPS["negative"], (d,))
            else:
                value = eval(partial or "0.0", names)  # an expression of the op table, never the user's text
                contribution = recording.elementwise(OPS["mask" if op.select else "chain"], (d, value))
            self._add(operands[i], contribution)

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
            recording.overwrite(self._stretch(self.old[s], target), saved)
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
        recording.scatter_into(self._stretch(self.old[s], target), indices, axes, saved)

    def _into_memory(self, buffer: int) -> None:
        """Turn the adjoint of a buffer's storage into memory that can be updated in place."""
        recording, s = self.recording, self.of[buffer]
        if s not in self.flat:
            dtype = recording.buffers[buffer].dtype
            flat = recording.empty((recording.storages[s].size,), dtype)
            former = self.whole.pop(s, None)
            recording.write(flat, dtype.type(0) if former is None else self._shaped(former, flat.shape))
            self.flat[s] = flat

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


def _where(condition: Any, x: Any, y: Any) -> Any:
    tensor = find_tensor([condition, x, y])
    return tensor.tape.elementwise(OPS["where"], (condition, x, y)) if tensor is not None else np.where(condition, x, y)


_EXPRESSIONS: dict[str, Any] = {name: getattr(np, name) for name in EXPRESSION_FUNCTIONS if hasattr(np, name)}
_EXPRESSIONS |= {"where": _where, "erf": lambda x: x.erf(), "__builtins__": {"abs": abs}}
