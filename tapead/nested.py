"""Derivatives within a trace: a function is run on fresh variables of the live tape, and differentiated there.

All transforms are made of a `Run`: its adjoints (`pull`) and tangents (`push`) are written on the tape as new
instructions, so they can be differentiated again, and replay like any others. One tape and fresh buffers: an outer
derivative cannot be confused with an inner one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from .adjoint import pull
from .batch import batch, needed_for
from .calling import call, checked_output, name_of, split
from .errors import TapeadTypeError, TapeadValueError
from .kernels.table import OPS
from .record import COPY, Recording, current, find_tensor
from .tangent import push
from .tape import WRITES, describe
from .tensor import Tensor
from .tree import flatten, is_traced, normal, paths, unflatten

FORWARD, REVERSE, SYMMETRIC = "forward", "reverse", "symmetric"

#: numbers in the columns of one batch; more columns are done chunk by chunk
CHUNK = 1 << 21


def check_differentiable(leaf: Any, name: str) -> None:
    """Raise unless a leaf is a number or array that can be differentiated by."""
    dtype = leaf.dtype if type(leaf) is Tensor else getattr(leaf, "dtype", None)
    if (type(leaf) is Tensor or is_traced(leaf)) and (dtype is None or dtype.kind == "f"):
        return
    what = f"an array of dtype {dtype}" if dtype is not None else f"{type(leaf).__name__} {leaf!r}"
    kind = getattr(dtype, "kind", "c" if isinstance(leaf, complex) else "")
    if kind == "c":
        raise TapeadTypeError(
            f"{name} is complex; complex numbers are not supported yet: split it into real and imaginary parts"
        )
    whole = (kind and kind in "iub") or isinstance(leaf, int)
    fix = "convert it with astype(float), or pass float(...)" if whole else "pass a float or a float array"
    raise TapeadTypeError(
        f"{name} is {what}: only float64 and float32 values can be differentiated by. To do so, {fix}"
    )


class Shaped(Protocol):
    """What has a shape and a dtype."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...


class Run:
    """A function's run on fresh variables of the live tape, which take the place of the arguments named by argnums."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: dict[str, Any],
        argnums: Sequence[int],
        has_aux: bool = False,
        scalar: bool = False,
    ) -> None:
        self.recording = recording = current("a derivative")
        self.name = name_of(function)
        self._level = recording.open_level()
        self.variables: list[Tensor] = []
        self.structures = []
        replaced = list(args)
        try:
            for a in argnums:
                leaves, structure = flatten(args[a])
                names = paths(args[a])
                fresh = [self._fresh(leaf, f"args[{a}]{name}") for leaf, name in zip(leaves, names, strict=True)]
                self.variables += fresh
                self.structures.append(structure)
                replaced[a] = unflatten(structure, fresh)
            self.start = len(recording)
            value, self.aux = split(call(function, replaced, kwargs), has_aux)
            self.value = checked_output(recording, value) if scalar else value
            leaves, self.structure = flatten(self.value)
            self.names = paths(self.value)
            self.outputs = [self._output(leaf, name) for leaf, name in zip(leaves, self.names, strict=True)]
            self._stop = len(recording)
        except BaseException:
            self.close()
            raise

    def _fresh(self, leaf: Any, name: str) -> Tensor:
        leaf = normal(leaf)
        check_differentiable(leaf, name)
        made: Tensor = self.recording.elementwise(COPY, (self.recording.tensor(leaf),), weak=True)
        made.storage.levels |= self._level
        if isinstance(made._value, np.ndarray):
            made._value.flags.writeable = False  # it stands for an argument, which is the caller's
        return made

    def _output(self, leaf: Any, name: str) -> Tensor:
        if type(leaf) is not Tensor and find_tensor(leaf) is None and np.asarray(leaf).dtype.kind not in "fiub":
            raise TapeadTypeError(f"{self.name} returned {type(leaf).__name__} {leaf!r}{_at(name)}, not real numbers")
        tensor = self.recording.tensor(leaf)
        if tensor.dtype.kind != "f":
            if type(leaf) is not Tensor:
                return self.recording.tensor(np.asarray(leaf, float))
            raise TapeadTypeError(
                f"{self.name} returned integers or truth values{_at(name)} (dtype {tensor.dtype}): they have no derivative. "
                "Convert them with astype(float), or return them beside the rest with has_aux=True"
            )
        if tensor.storage.written:  # it may be written to again
            tensor = self.recording.elementwise(COPY, (tensor,))
        return tensor

    def close(self, keep: bool = False) -> None:
        """End the derivative; `keep` lets it be pushed or pulled later, until the trace ends."""
        self.recording.close_level(self._level, keep)

    def check_unchanged(self, what: str) -> None:
        """Raise if memory that the run read or made was assigned to after it: the derivative would see what is there now."""
        recording = self.recording
        ops, operands, results, places = (
            recording.ops,
            recording.operand_buffers,
            recording.result_buffers,
            recording.places,
        )
        of = recording.storage_of
        mine = {of[b] for k in range(self.start, self._stop) for b in (*operands[k], *results[k])}
        for k in range(self._stop, len(recording)):
            if ops[k].name in WRITES and of[results[k][0]] in mine:
                raise TapeadValueError(
                    f"the linear map that {what} made of {self.name} was called after an array that it needs had been assigned "
                    f"to, at {describe(places[k])}: assign to a copy (y = y.copy()) instead"
                )

    def pull(self, seeds: Sequence[Tensor]) -> list[Tensor]:
        """Write the adjoints of the variables, for adjoints of the outputs."""
        return pull(self.recording, self.start, list(zip(self.outputs, seeds, strict=True)), self.variables, self._stop)

    def push(self, tangents: Sequence[Tensor | None]) -> list[Tensor]:
        """Write the tangents of the outputs, for tangents of the variables."""
        made = push(self.recording, self.start, self.variables, tangents, self._stop)
        tangents = [self.or_zero(made.of_tensor(x), x) for x in self.outputs]
        return [self.recording.elementwise(COPY, (t,), weak=True) for t in tangents]  # they may be what was given

    def or_zero(self, tangent: Tensor | None, x: Tensor) -> Tensor:
        """Give a tangent; zeros like x where there is none."""
        return self.recording.tensor(np.zeros(x.shape, x.dtype)) if tangent is None else tangent

    def dummies(self, like: Sequence[Tensor]) -> list[Tensor]:
        """Give stand-ins for tangents or adjoints, of which columns are made."""
        zeros = [self.recording.tensor(np.zeros(x.shape, x.dtype)) for x in like]
        return [self.recording.elementwise(COPY, (z,)) for z in zeros]

    def trees(self, leaves: Sequence[Any]) -> list[Any]:
        """Put what belongs to the variables into the structures of the arguments."""
        given = iter(leaves)
        return [unflatten(s, [next(given) for _ in range(s.num_leaves)]) for s in self.structures]


def _at(name: str) -> str:
    return f" at {name}" if name else ""


def grad_on_tape(
    function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], argnums: Sequence[int], has_aux: bool
) -> tuple[Any, Any, list[Any]]:
    """Give a function's value, auxiliary result, and its gradient, a tree for each of argnums."""
    run = Run(function, args, kwargs, argnums, has_aux, scalar=True)
    try:
        gradients = run.pull([run.recording.tensor(np.ones((), run.outputs[0].dtype))])
    finally:
        run.close()
    return run.outputs[0], run.aux, run.trees(gradients)


def fitted(
    recording: Recording, tree: Any, like: Sequence[Shaped], structure: Any, names: Sequence[str], what: str
) -> list[Tensor]:
    """Check a tree of tangents or cotangents against the values that they belong to; give its leaves as tensors."""
    leaves, own = flatten(tree)
    if own != structure:
        raise TapeadTypeError(f"the {what} must have the structure {structure}, not {own}")
    return [
        fitted_leaf(recording, leaf, x, f"the {what}{_at(name)}")
        for leaf, x, name in zip(leaves, like, names, strict=True)
    ]


def fitted_leaf(recording: Recording, leaf: Any, x: Shaped, what: str) -> Tensor:
    """Check a tangent or cotangent against the value that it belongs to; give it as a tensor."""
    leaf = normal(leaf)
    if find_tensor(leaf) is None and not is_traced(leaf) and not isinstance(leaf, int | float):
        raise TapeadTypeError(f"{what} is {type(leaf).__name__} {leaf!r}, not a float or a float array")
    tensor = recording.tensor(leaf)
    if tensor.shape != x.shape:
        raise TapeadValueError(f"{what} has shape {tensor.shape}; {x.shape} is expected")
    weak = tensor.weak or (not tensor.ndim and isinstance(leaf, float | int))
    if tensor.dtype != x.dtype and not weak:
        raise TapeadTypeError(f"{what} has dtype {tensor.dtype}; {x.dtype} is expected")
    return tensor if tensor.dtype == x.dtype else recording.cast(tensor, x.dtype)


def jvp_on_tape(
    function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...], has_aux: bool
) -> Any:
    """Give a function's value and its tangent (and its auxiliary result)."""
    run = Run(function, primals, {}, range(len(primals)), has_aux)
    try:
        structure = flatten(primals)[1]
        dots = fitted(run.recording, tangents, run.variables, structure, paths(primals), "tangent")
        made = unflatten(run.structure, run.push(dots))
    finally:
        run.close()
    return (run.value, made, run.aux) if has_aux else (run.value, made)


def basis(recording: Recording, like: Sequence[Tensor], first: int, count: int) -> list[Tensor]:
    """Give `count` columns of the identity, from the first on, spread over tensors like these."""
    columns, start = [], 0
    for x in like:
        rows = np.eye(count, x.size, first - start, dtype=x.dtype)
        columns.append(recording.tensor(rows.reshape(count, *x.shape)))
        start += x.size
    return columns


def columns_of(
    run: Run,
    like: Sequence[Tensor],
    write: Callable[[list[Tensor]], list[Tensor]],
) -> list[Tensor]:
    """Write a linear map of tensors like some for every column of the identity: its results, all columns first.

    The map is written once for one column, then again for all, or for as many at a time as memory is well used for.
    """
    recording = run.recording
    total = sum(x.size for x in like)
    dummies = run.dummies(like)
    start = len(recording)
    with recording.looking_away():
        results = write(dummies)
    stop = len(recording)
    if not like:
        return [recording.tensor(np.zeros((0, *x.shape), x.dtype)) for x in results]
    needed = needed_for(recording, start, stop, results)
    made = {recording.storage_of[b] for k in needed for b in recording.result_buffers[k]}
    elements = sum(recording.storages[s].size for s in made)
    chunk = max(CHUNK // max(elements, 1), 1)
    if chunk >= total:
        return batch(recording, start, dummies, basis(recording, like, 0, total), results, stop, 0)
    whole = [recording.empty((total, *x.shape), x.dtype) for x in results]
    done: Tensor | None = None
    for first in range(0, total, chunk):
        count = min(chunk, total - first)
        columns = basis(recording, like, first, count)
        if done is not None:  # chunk after chunk: together they would take the memory of all
            columns = [recording.elementwise(OPS["after"], (c, done)) for c in columns]
        for memory, part in zip(whole, batch(recording, start, dummies, columns, results, stop, first), strict=True):
            recording.write(_rows(memory, first, count), part)
            done = recording.view(part, lambda v: v[(*(0,) * v.ndim, ...)]) if part.size else done
    return whole


def jacobian_on_tape(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    argnums: int | Sequence[int],
    has_aux: bool,
    mode: str | None,
) -> Any:
    """Give the Jacobian: for each leaf of the value a tree of the arguments, whose leaves have both shapes.

    The mode is one of `FORWARD`, `REVERSE`, `SYMMETRIC` (the value is a gradient by the same arguments: forward), or
    None: forward or reverse, whichever takes fewer seeds.
    """
    chosen = argnums if isinstance(argnums, list | tuple) else (argnums,)
    run = Run(function, args, kwargs, chosen, has_aux)
    try:
        if mode is None:
            fewer = sum(v.size for v in run.variables) <= sum(x.size for x in run.outputs)
            mode = FORWARD if fewer else REVERSE
        blocks = {FORWARD: _forward_blocks, REVERSE: _reverse_blocks, SYMMETRIC: _symmetric_blocks}[mode](run)
    finally:
        run.close()
    rows = []
    for row in blocks:
        trees = run.trees(row)
        rows.append(tuple(trees) if isinstance(argnums, list | tuple) else trees[0])
    jacobian = unflatten(run.structure, rows)
    return (jacobian, run.aux) if has_aux else jacobian


def _forward_blocks(run: Run) -> list[list[Tensor]]:
    """Give the block of each output by each variable, from tangents: a column for each element of the variables."""
    recording = run.recording
    made = columns_of(run, run.variables, run.push)
    blocks = []
    for x, columns in zip(run.outputs, made, strict=True):
        row, start = [], 0
        for v in run.variables:
            part = recording.view(_rows(columns, start, v.size), lambda c: np.moveaxis(c, 0, -1))
            row.append(_reshaped(recording.contiguous(part), (*x.shape, *v.shape)))
            start += v.size
        blocks.append(row)
    return blocks


def _reverse_blocks(run: Run) -> list[list[Tensor]]:
    """Give the block of each output by each variable, from adjoints: a row for each element of the outputs."""
    return _row_blocks(run.outputs, run.variables, columns_of(run, run.outputs, run.pull))


def _symmetric_blocks(run: Run) -> list[list[Tensor]]:
    """Give the blocks of a Hessian, whose columns are its rows, from tangents of the gradient."""
    return _row_blocks(run.variables, run.outputs, columns_of(run, run.variables, run.push))


def _row_blocks(like: Sequence[Tensor], others: Sequence[Tensor], made: Sequence[Tensor]) -> list[list[Tensor]]:
    """Take the rows of each tensor apart: those of the elements of each of some tensors."""
    blocks, start = [], 0
    for x in like:
        blocks.append(
            [_reshaped(_rows(rows, start, x.size), (*x.shape, *v.shape)) for v, rows in zip(others, made, strict=True)]
        )
        start += x.size
    return blocks


def _rows(x: Tensor, first: int, count: int) -> Tensor:
    return x.tape.view(x, lambda v: v[first : first + count])


def _reshaped(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x.tape.view(x, lambda v: v.reshape(shape))


def slope_on_tape(function: Callable[..., Any], primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Tensor:
    """Give the directional derivative of a function that returns one number."""
    run = Run(function, primals, {}, range(len(primals)), scalar=True)
    try:
        dots = fitted(run.recording, tangents, run.variables, flatten(primals)[1], paths(primals), "tangent")
        return run.push(dots)[0]
    finally:
        run.close()


def curvature_on_tape(
    function: Callable[..., Any],
    args: Sequence[Any],
    kwargs: dict[str, Any],
    argnums: int | tuple[int, ...],
    total: bool,
) -> Any:
    """Give the second derivatives by each variable of a function that returns one number, or their sum."""
    chosen = argnums if isinstance(argnums, tuple) else (argnums,)
    run = Run(function, args, kwargs, chosen, scalar=True)
    recording = run.recording

    def twice(dots: list[Tensor]) -> list[Tensor]:
        (slope,) = run.push(dots)
        made = push(recording, run.start, run.variables, dots)
        return [run.or_zero(made.of_tensor(slope), slope)]

    try:
        (columns,) = columns_of(run, run.variables, twice)
    finally:
        run.close()
    if total:
        return np.sum(columns)
    parts, start = [], 0
    for v in run.variables:
        parts.append(_reshaped(_rows(columns, start, v.size), v.shape))
        start += v.size
    trees = run.trees(parts)
    return tuple(trees) if isinstance(argnums, tuple) else trees[0]
