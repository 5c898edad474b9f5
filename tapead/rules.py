"""Rules of the user's own: custom_vjp, custom_jvp, and checkpoint.

What such a function computes is recorded as usual; behind it stands one instruction whose results are copies, and which
differentiates by the rule. Where a derivative flows into one, it is written on the tape (see `trace.OwnRule`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .adjoint import pull, transposed
from .calling import check_callable, name_of
from .errors import TapeadNotImplementedError, TapeadTypeError, TapeadValueError
from .kernels.op import STRUCTURAL
from .kernels.table import OPS, Structural
from .nested import fitted, fitted_leaf
from .passes import OWN
from .record import COPY, Recording, find_tensor, live_recordings
from .tape import describe, user_place
from .tensor import Tensor
from .trace import OwnRule
from .tree import flatten, paths, unflatten


def _traced(args: Any) -> Recording | None:
    """Give the live tape that arguments are on; None if there is none."""
    tensor = find_tensor(flatten(args)[0])
    return tensor.tape if tensor is not None and live_recordings() else None


class _Arguments:
    """The arguments of a function with an own rule: those that can be differentiated by, as tensors, and the others."""

    def __init__(self, recording: Recording, args: Sequence[Any], fixed: Sequence[int]) -> None:
        self.args, self.places = list(args), [i for i in range(len(args)) if i not in fixed]
        leaves, self.structure = flatten([args[i] for i in self.places])
        self.names = [f"args{name}" for name in paths([args[i] for i in self.places])]
        self.active = [k for k, leaf in enumerate(leaves) if type(leaf) is Tensor or find_tensor(leaf) is not None]
        self.active = [k for k in self.active if recording.tensor(leaves[k]).dtype.kind == "f"]
        self.leaves = leaves
        # copies: what is closed over is another value, though it be an argument, too, and later writes do not reach them
        given = [recording.tensor(leaves[k]) for k in self.active]
        self.tensors = [recording.elementwise(COPY, (x,), weak=True) for x in given]

    def frozen(self) -> list[Any]:
        """Give the arguments so that they cannot be assigned to."""
        return self.replaced([_frozen(x) for x in self.tensors])

    def replaced(self, tensors: Sequence[Tensor]) -> list[Any]:
        """Give the arguments with other tensors in the place of those differentiated by."""
        leaves, args = list(self.leaves), list(self.args)
        for k, tensor in zip(self.active, tensors, strict=True):
            leaves[k] = tensor
        for i, part in zip(self.places, unflatten(self.structure, leaves), strict=True):
            args[i] = part
        return args


def _frozen(x: Tensor) -> Tensor:
    """Give a tensor that cannot be assigned to."""
    if not isinstance(x._value, np.ndarray):
        return x
    value = x._value.view()
    value.flags.writeable = False
    return Tensor(x.tape, x.buffer, value, x.storage, x.weak)


def _outputs(recording: Recording, name: str, value: Any) -> tuple[list[Tensor], Any, list[str]]:
    leaves, structure = flatten(value)
    for leaf, path in zip(leaves, paths(value), strict=True):
        kind = None if find_tensor(leaf) is not None else np.asarray(leaf).dtype.kind
        if kind is not None and kind not in "fiub":
            raise TapeadTypeError(f"{name} returned {type(leaf).__name__} {leaf!r}{path}, not real numbers")
    return [recording.tensor(leaf) for leaf in leaves], structure, paths(value)


def _record(
    recording: Recording,
    name: str,
    operands: Sequence[Tensor],
    made: Sequence[Tensor],
    rule: Callable[..., Any],
    tangent: Callable[..., Any],
) -> list[Tensor]:
    """Append the instruction that differentiates by a rule: its results are copies of what was made."""
    active = any(x.storage.levels for x in operands)
    if not active:
        return list(made)
    if not recording.open_levels:
        if not recording.replays:
            raise TapeadNotImplementedError(
                f"{name} has a rule of its own, which tapead.Tape cannot use: differentiate with tapead.grad"
            )
        raise OwnRule
    op = Structural(
        name=f"{name} (own)" if name in OPS else name,  # ops of tapead's are known by their names
        code=STRUCTURAL - 1,
        doc="a rule of the user's",
        numpy=lambda *values: tuple(np.array(v, order="C")[()] for v in values[len(operands) :]),
        arity=len(operands) + len(made),
        group=OWN,
        active=tuple(range(len(operands))),
        rule=rule,
        tangent=tangent,
        contiguous=False,
    )
    results = recording.structural_op(op, [*operands, *made], {})
    return list(results)


class _OwnRule:
    """A function with a rule: what custom_vjp and custom_jvp have in common."""

    def __init__(self, function: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        check_callable(function)
        self.function, self.fixed = function, tuple(nondiff_argnums)
        functools.update_wrapper(self, function)  # type: ignore[arg-type]
        self.name = name_of(function)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"

    def _fixed(self, args: Sequence[Any]) -> list[int]:
        """Give the places of the arguments that are not differentiated by."""
        for a in self.fixed:
            if not -len(args) <= a < len(args):
                raise TapeadValueError(
                    f"nondiff_argnums={self.fixed!r}, but {self.name} was called with {len(args)} positional arguments"
                )
        fixed = [a % len(args) for a in self.fixed]
        for a in fixed:
            if any(type(leaf) is Tensor and leaf.storage.levels for leaf in flatten(args[a])[0]):
                raise TapeadTypeError(
                    f"argument {a} of {self.name} is among nondiff_argnums, but a derivative flows into it, at "
                    f"{describe(user_place())}: pass it through tapead.stop_gradient, or make it differentiable"
                )
        return fixed

    def _check_positional(self, kwargs: dict[str, Any]) -> None:
        if kwargs:
            raise TapeadTypeError(
                f"{self.name} has a rule of its own, which goes by position: pass {', '.join(map(repr, kwargs))} without a name"
            )

    def _run(self, recording: Recording, given: _Arguments, function: Callable[..., Any]) -> Any:
        """Run a function on the arguments; raise where a derivative could flow into it other than through them."""
        start, begun = len(recording), len(recording.storages)
        result = function(*given.frozen())
        if _closed_over(recording, start, begun, given.tensors):
            raise TapeadTypeError(
                f"{self.name} uses a traced value that is not among its arguments, at {describe(user_place())}: its rule "
                "would lose that value's derivative. Make it an argument"
            )
        return result


class custom_vjp(_OwnRule):
    """Give a function a reverse rule of its own, in NumPy code.

    f is decorated; `f.defvjp(forward, backward)` gives the rule: forward(*args) returns (value, residuals), and
    backward(residuals, cotangent) a tuple of cotangents, one for each differentiable argument (None: zero), of that
    argument's structure and shapes. nondiff_argnums are arguments that are not differentiated by; they come first in
    backward's arguments. In forward mode the rule is transposed.

    Raises TypeError or ValueError, naming f, where the rule returns the wrong number of cotangents, or ones of the
    wrong shape or dtype, and where f closes over traced values.

    >>> import numpy as np, tapead
    >>> @tapead.custom_vjp
    ... def clipped(x):
    ...     return x
    >>> clipped.defvjp(lambda x: (x, None), lambda _, d: (np.clip(d, -1.0, 1.0),))
    >>> float(tapead.grad(lambda x: 10.0 * clipped(x))(2.0))
    1.0
    """

    def __init__(self, function: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(function, nondiff_argnums)
        self._forward: Callable[..., Any] | None = None
        self._backward: Callable[..., Any] | None = None

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Set the rule: forward(*args) -> (value, residuals), backward(residuals, cotangent) -> cotangents."""
        for part in (forward, backward):
            if not callable(part):
                raise TapeadTypeError(f"the rule of {self.name} must be made of functions, not {type(part).__name__}")
        self._forward, self._backward = forward, backward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._check_positional(kwargs)
        recording = _traced(args)
        if recording is None:
            return self.function(*args)
        forward, backward = self._forward, self._backward
        if forward is None or backward is None:
            raise TapeadTypeError(f"{self.name} has no rule: call {self.name}.defvjp(forward, backward) first")
        fixed = self._fixed(args)
        given = _Arguments(recording, args, fixed)
        result = self._run(recording, given, forward)
        if not isinstance(result, tuple) or len(result) != 2:
            raise TapeadTypeError(
                f"the forward rule of {self.name} must return (value, residuals), not {type(result).__name__}"
            )
        value, residuals = result
        made, structure, _ = _outputs(recording, self.name, value)
        first = [args[i] for i in fixed]

        def rule(record: Any, parameters: Any, d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
            ds = [d] if len(made) == 1 else list(d)
            zeros = [np.zeros(x.shape, x.dtype) if c is None else _frozen(c) for c, x in zip(ds, made, strict=True)]
            cotangents = backward(*first, residuals, unflatten(structure, zeros))
            return tuple(self._checked(recording, given, cotangents))

        def tangent(record: Any, parameters: Any, dots: Any, results: Any, operands: Any) -> tuple[Any, ...]:
            def adjoints(ds: list[Tensor]) -> Sequence[Any]:
                return rule(record, parameters, ds[0] if len(ds) == 1 else ds, results, operands)

            return tuple(transposed(recording, adjoints, results, dots[: len(given.tensors)]))

        return unflatten(structure, _record(recording, self.name, given.tensors, made, rule, tangent))

    def _checked(self, recording: Recording, given: _Arguments, cotangents: Any) -> list[Tensor | None]:
        """Check what the backward rule gave; give the cotangents of the leaves that are differentiated by."""
        count = len(given.places)
        if not isinstance(cotangents, tuple) or len(cotangents) != count:
            found = f"{len(cotangents)}" if isinstance(cotangents, tuple) else f"a {type(cotangents).__name__}"
            raise TapeadTypeError(
                f"the backward rule of {self.name} must return a tuple of {count} cotangents, one for each argument that "
                f"can be differentiated by, not {found}"
            )
        made: list[Tensor | None] = []
        active, start = dict(zip(given.active, given.tensors, strict=True)), 0
        for part, place in zip(cotangents, given.places, strict=True):
            leaves, structure = flatten(given.args[place])
            mine = [k for k in range(start, start + len(leaves)) if k in active]
            start += len(leaves)
            if part is None:
                made += [None] * len(mine)
                continue
            own, found = flatten(part)
            what = f"the backward rule of {self.name}: its cotangent of argument {place}"
            if found != structure:
                raise TapeadTypeError(f"{what} must have the structure {structure}, not {found}")
            for k, name in zip(mine, [given.names[k] for k in mine], strict=True):
                leaf, x = own[k - (start - len(leaves))], active[k]
                made.append(fitted_leaf(recording, leaf, x, f"{what} ({name})"))
        return made


class custom_jvp(_OwnRule):
    """Give a function a forward rule of its own, in NumPy code.

    f is decorated; `f.defjvp(rule)` gives the rule: rule(primals, tangents) -> (value, tangent), linear in the tangents,
    where primals and tangents are tuples of the differentiable arguments. nondiff_argnums are arguments that are not
    differentiated by; they come first in the rule's arguments. In reverse mode the rule is transposed.

    Raises TypeError or ValueError, naming f, where the rule's tangent does not fit the value, and where f closes over
    traced values.

    >>> import numpy as np, tapead
    >>> @tapead.custom_jvp
    ... def relu(x):
    ...     return np.maximum(x, 0.0)
    >>> relu.defjvp(lambda primals, tangents: (relu(*primals), (primals[0] > 0) * tangents[0]))
    >>> float(tapead.grad(relu)(0.0)), float(tapead.grad(relu)(2.0))
    (0.0, 1.0)
    """

    def __init__(self, function: Callable[..., Any], nondiff_argnums: Sequence[int] = ()) -> None:
        super().__init__(function, nondiff_argnums)
        self._rule: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> None:
        """Set the rule: rule(primals, tangents) -> (value, tangent)."""
        if not callable(rule):
            raise TapeadTypeError(f"the rule of {self.name} must be a function, not {type(rule).__name__}")
        self._rule = rule

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self._check_positional(kwargs)
        recording = _traced(args)
        if recording is None:
            return self.function(*args)
        own = self._rule
        if own is None:
            raise TapeadTypeError(f"{self.name} has no rule: call {self.name}.defjvp(rule) first")
        fixed = self._fixed(args)
        given = _Arguments(recording, args, fixed)
        made, structure, names = _outputs(recording, self.name, self._run(recording, given, self.function))
        first, places = [args[i] for i in fixed], given.places

        def tangents(dots: Sequence[Any]) -> list[Tensor]:
            """Apply the rule to tangents of the leaves that are differentiated by."""
            leaves: list[Any] = [np.zeros(np.shape(leaf)) for leaf in given.leaves]
            for k, dot, x in zip(given.active, dots, given.tensors, strict=True):
                leaves[k] = recording.tensor(np.zeros(x.shape, x.dtype)) if dot is None else _frozen(dot)
            frozen = given.frozen()
            primals = tuple(frozen[i] for i in places)
            result = own(*first, primals, tuple(unflatten(given.structure, leaves)))
            if not isinstance(result, tuple) or len(result) != 2:
                raise TapeadTypeError(
                    f"the rule of {self.name} must return (value, tangent), not {type(result).__name__}"
                )
            return fitted(recording, result[1], made, structure, names, f"tangent that the rule of {self.name} gave")

        def tangent(record: Any, parameters: Any, dots: Any, results: Any, operands: Any) -> tuple[Any, ...]:
            return tuple(tangents(dots[: len(given.tensors)]))

        def rule(record: Any, parameters: Any, d: Any, results: Any, operands: Any) -> tuple[Any, ...]:
            return tuple(transposed(recording, tangents, given.tensors, [d] if len(made) == 1 else d))

        return unflatten(structure, _record(recording, self.name, given.tensors, made, rule, tangent))


def checkpoint(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a function that computes the same, but keeps none of its values for the reverse sweep: they are recomputed.

    Trades time for memory (`explain` tells the bytes): the reverse sweep runs the function once more, from its arguments
    and the traced values that it closes over. Derivatives of any order and mode are those of the function, which must not
    assign to its arguments (ValueError).

    >>> import numpy as np, tapead
    >>> block = tapead.checkpoint(lambda x: np.sin(np.exp(x)))
    >>> np.allclose(tapead.grad(lambda x: np.sum(block(x)))(np.ones(2)), np.cos(np.e) * np.e)
    True

    Source: Griewank & Walther, Evaluating Derivatives (2008), chapter 12.
    """
    check_callable(function)
    name = name_of(function)

    @functools.wraps(function)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        if not live_recordings():
            return function(*args, **kwargs)
        recording = live_recordings()[-1]
        given = _Arguments(recording, args, ())
        start, begun = len(recording), len(recording.storages)
        value = function(*given.frozen(), **kwargs)
        made, structure, _ = _outputs(recording, name, value)
        if not any(x.storage.levels for x in made):
            return value
        if not recording.open_levels and recording.replays:
            raise OwnRule
        outer = [_whole(recording, s) for s in _closed_over(recording, start, begun, given.tensors)]
        operands = [*given.tensors, *outer]

        def rule(record: Any, parameters: Any, d: Any, results: Any, values: Any) -> tuple[Any, ...]:
            ds = [d] if len(made) == 1 else list(d)
            late = next((c for c in ds if c is not None and c.size), None)
            count = len(given.tensors)
            again = [_after(recording, x, late) for x in values[:count]]
            begin = len(recording)
            outputs, _, _ = _outputs(recording, name, function(*given.replaced(again), **kwargs))
            seeds = [(x, c) for x, c in zip(outputs, ds, strict=True) if c is not None]
            return tuple(pull(recording, begin, seeds, [*again, *outer]))

        def tangent(record: Any, parameters: Any, dots: Any, results: Any, values: Any) -> tuple[Any, ...]:
            return tuple(dots[len(operands) :])

        return unflatten(structure, _record(recording, name, operands, made, rule, tangent))

    return checkpointed


def _after(recording: Recording, x: Tensor, late: Tensor | None) -> Tensor:
    """Give a copy of x that is made once an adjoint is there: what depends on it is not computed before."""
    if late is None:
        return recording.elementwise(COPY, (x,))  # type: ignore[no-any-return]
    number = recording.view(late, lambda v: v[(*(0,) * v.ndim, ...)]) if late.ndim else late
    return recording.elementwise(OPS["after"], (x, number))  # type: ignore[no-any-return]


def _closed_over(recording: Recording, start: int, begun: int, arguments: Sequence[Tensor]) -> list[int]:
    """Give the storages from before, beside those of the arguments, that instructions read and a derivative flows into."""
    mine = {recording.storage_of[x.buffer] for x in arguments}
    found: dict[int, None] = {}
    for operands in recording.operand_buffers[start:]:
        for b in operands:
            s = recording.storage_of[b]
            if s < begun and s not in mine and recording.storages[s].levels and recording.buffers[b].dtype.kind == "f":
                found[s] = None
    return list(found)


def _whole(recording: Recording, s: int) -> Tensor:
    """Give a tensor that is all of a storage."""
    whole = next((i for i, of in enumerate(recording.storage_of) if of == s and recording.is_whole(i)), None)
    if whole is None or recording.storages[s].written:
        raise TapeadNotImplementedError(
            "a function to checkpoint closes over an array that is assigned to: make it an argument"
        )
    return recording.tensor_of(whole)
