"""The public transforms: each a few lines over trace, plan and program."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np

from .adjoint import grad_on_tape
from .errors import TapeadTypeError, TapeadValueError
from .kernels import library
from .program import GuardFailed
from .record import ForeignTape, current, live_recordings
from .tensor import Tensor
from .trace import Output, Trace
from .tree import flatten, is_traced, normal, paths, signature, unflatten

#: how many traces a function keeps, unless told otherwise
MAX_TRACES = 64


class Differentiated:
    """A function that gives a gradient (and value): what `grad` and `value_and_grad` make.

    Traces the function once per signature and replays from then on. Callable from several threads at once.
    """

    def __init__(
        self, function: Callable[..., Any], argnums: int | Sequence[int], has_aux: bool, with_value: bool, max_traces: int
    ) -> None:
        if not callable(function):
            raise TapeadTypeError(f"expected a function to differentiate, not {type(function).__name__}")
        chosen = tuple(argnums) if isinstance(argnums, list | tuple) else (argnums,)
        if not chosen or not all(isinstance(a, int) and not isinstance(a, bool) for a in chosen):
            raise TapeadTypeError(f"argnums must be an int or a tuple of ints, not {argnums!r}")
        if len(set(chosen)) != len(chosen):
            raise TapeadValueError(f"argnums names an argument twice: {argnums!r}")
        if max_traces < 1:
            raise TapeadValueError(f"max_traces must be at least 1, not {max_traces}")
        self.function, self.argnums, self.has_aux, self.with_value = function, argnums, has_aux, with_value
        self.max_traces = max_traces
        self.seconds_tracing = 0.0
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.__doc__ = getattr(function, "__doc__", None)
        self.__wrapped__ = function
        self._chosen = chosen
        self._latest: dict[Hashable, Trace] = {}
        self._kept: OrderedDict[int, tuple[Hashable, Trace]] = OrderedDict()
        self._branches: dict[Hashable, Trace] = {}
        self._fast: _Fast | None = None
        self._lock = threading.RLock()
        self.last: Trace | None = None

    def __repr__(self) -> str:
        return f"<{'value_and_grad' if self.with_value else 'grad'} of {self.__name__}>"

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        fast = self._fast
        if fast is not None and len(args) == 1 and not kwargs and not live_recordings():
            x = args[0]
            if type(x) is np.ndarray and x.dtype is fast.dtype and x.shape == fast.shape:
                found = fast(x, out)
                if found is not None:
                    return found if self.with_value else found[1]
        return self._call(args, kwargs, out)

    @property
    def traces_kept(self) -> int:
        """The number of traces that are kept."""
        return len(self._kept)

    # ---- the general way -------------------------------------------------------------------------------------------

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        for a in self._chosen:
            if not -len(args) <= a < len(args):
                raise TapeadValueError(f"argnums={self.argnums!r}, but {self.__name__} was called with {len(args)} positional arguments")
        if len({a % len(args) for a in self._chosen}) != len(self._chosen):
            raise TapeadValueError(f"argnums names an argument twice: {self.argnums!r} of {len(args)}")
        leaves, structure = flatten((args, kwargs))
        if any(type(leaf) is Tensor for leaf in leaves):
            current("a traced value as an argument")
            return self._nested(args, kwargs, out)
        leaves = [normal(leaf) for leaf in leaves]
        wrt, trees = self._differentiated(args)
        for i in wrt:
            self._check_leaf(leaves[i], args, i)
        key = (structure, tuple(signature(leaf) for leaf in leaves))
        targets = None if out is None else self._targets(out, trees, leaves, wrt)
        try:
            value, aux, gradients = self._run(key, leaves, structure, wrt)
        except ForeignTape:
            if not live_recordings():
                raise
            return self._nested(args, kwargs, out)
        if targets is not None:
            for target, gradient in zip(targets, gradients, strict=True):
                target[...] = gradient
            gradients = targets
        made = []
        start = 0
        for tree in trees:
            made.append(unflatten(tree, gradients[start : start + tree.num_leaves]))
            start += tree.num_leaves
        gradient = made[0] if isinstance(self.argnums, int) else tuple(made)
        return self._packed(value, aux, gradient)

    def _packed(self, value: Any, aux: Any, gradient: Any) -> Any:
        if self.with_value:
            return ((value, aux) if self.has_aux else value), gradient
        return (gradient, aux) if self.has_aux else gradient

    def _differentiated(self, args: tuple[Any, ...]) -> tuple[list[int], list[Any]]:
        """Give the places of the differentiated leaves, and the trees that they make."""
        starts, start = [], 0
        trees = []
        for arg in args:
            starts.append(start)
            trees.append(flatten(arg)[1])
            start += trees[-1].num_leaves
        wrt: list[int] = []
        for a in self._chosen:
            a %= len(args)
            wrt += range(starts[a], starts[a] + trees[a].num_leaves)
        return wrt, [trees[a % len(args)] for a in self._chosen]

    def _check_leaf(self, leaf: Any, args: tuple[Any, ...], i: int) -> None:
        dtype = getattr(leaf, "dtype", None)
        if is_traced(leaf) and (dtype is None or dtype.kind == "f"):
            return
        name = ("args" + paths(args)[i]) if i < len(paths(args)) else f"leaf {i}"
        what = f"an array of dtype {dtype}" if dtype is not None else f"{type(leaf).__name__} {leaf!r}"
        kind = getattr(dtype, "kind", "c" if isinstance(leaf, complex) else "")
        if kind == "c":
            raise TapeadTypeError(f"{name} is complex; complex numbers are not supported yet: split it into real and imaginary parts")
        fix = "convert it with astype(float), or pass float(...)" if kind in "iub" or isinstance(leaf, int) else "pass a float or a float array"
        raise TapeadTypeError(f"{name} is {what}: only float64 and float32 values can be differentiated by. To do so, {fix}")

    def _targets(self, out: Any, trees: list[Any], leaves: list[Any], wrt: list[int]) -> list[Any]:
        """Check the arrays that the gradient is to be written to."""
        outs = [out] if isinstance(self.argnums, int) else list(out)
        found: list[Any] = []
        for tree, part in zip(trees, outs, strict=True):
            part_leaves, structure = flatten(part)
            if structure != tree:
                raise TapeadValueError(f"out= has the structure {structure}, the differentiated argument {tree}")
            found += part_leaves
        for target, i in zip(found, wrt, strict=True):
            leaf = np.asarray(leaves[i])
            check_out(target, leaf)
            for other in leaves:
                if isinstance(other, np.ndarray) and np.may_share_memory(target, other):
                    raise TapeadValueError("out= overlaps an argument: give an array of its own")
        return found

    def _run(self, key: Hashable, leaves: list[Any], structure: Any, wrt: list[int]) -> tuple[Any, Any, list[Any]]:
        trace = self._latest.get(key)
        forced: Sequence[int] = ()
        attempts = 0
        while True:
            if trace is None:
                trace = self._trace(key, leaves, structure, wrt, forced)
            try:
                result = trace.run(leaves, True)
            except GuardFailed as failure:
                forced = (*trace.guards[: failure.place], failure.seen)
                trace = self._branches.get((key, forced))
                attempts += 1
                if attempts > 10_000:
                    raise TapeadValueError(
                        f"{self.__name__} takes other branches each time it is traced on the same values: does it depend on "
                        "random numbers or on state?"
                    ) from None
                continue
            self.last = trace
            if not trace.volatile:
                self._latest[key] = trace
                if self._fast is None or self._fast.trace is not trace:
                    self._fast = _Fast.of(self, trace, leaves, structure)
            return result

    def _trace(self, key: Hashable, leaves: list[Any], structure: Any, wrt: list[int], forced: Sequence[int]) -> Trace:
        start, loading = time.perf_counter(), sum(library.seconds.values())
        trace = Trace(self.function, leaves, structure, wrt, self.has_aux, True, forced)
        loading = sum(library.seconds.values()) - loading
        with self._lock:
            self.seconds_tracing += time.perf_counter() - start - loading
            if not trace.volatile:
                self._keep(key, trace)
        return trace

    def _keep(self, key: Hashable, trace: Trace) -> None:
        self._kept[id(trace)] = (key, trace)
        for k in range(1, len(trace.guards) + 1):
            self._branches[key, tuple(trace.guards[:k])] = trace
        while len(self._kept) > self.max_traces:
            _, (old_key, old) = self._kept.popitem(last=False)
            self._branches = {k: t for k, t in self._branches.items() if t is not old}
            if self._latest.get(old_key) is old:
                del self._latest[old_key]
            if self._fast is not None and self._fast.trace is old:
                self._fast = None

    def _nested(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """Differentiate within a trace: the gradient is written on the tape of the outer function."""
        if out is not None:
            raise TapeadTypeError("out= cannot be used while a function is traced: the gradient is a traced value there")
        value, aux, gradients = grad_on_tape(self.function, args, kwargs, self._chosen, self.has_aux)
        return self._packed(value, aux, gradients[0] if isinstance(self.argnums, int) else tuple(gradients))


def check_out(target: Any, like: Any) -> None:
    """Raise unless a gradient like an array can be written to a target."""
    if type(target) is not np.ndarray:
        raise TapeadTypeError(f"out= must be a NumPy array, not {type(target).__name__}")
    if target.shape != like.shape or target.dtype != like.dtype:
        raise TapeadValueError(f"out= has shape {target.shape} and dtype {target.dtype}; the gradient has {like.shape} and {like.dtype}")
    if not target.flags.c_contiguous or not target.flags.writeable:
        raise TapeadValueError("out= must be a C-contiguous array that can be written to")


class _Fast:
    """The short way for a function of one array: signature check, copy in, both sweeps, copy out."""

    __slots__ = ("dtype", "program", "shape", "trace")

    def __init__(self, trace: Trace, dtype: Any, shape: tuple[int, ...]) -> None:
        self.trace, self.program, self.dtype, self.shape = trace, trace.program, dtype, shape

    @staticmethod
    def of(owner: Differentiated, trace: Trace, leaves: list[Any], structure: Any) -> _Fast | None:
        """Give the short way, if the function's call is of the kind that has one."""
        plain = len(leaves) == 1 and type(leaves[0]) is np.ndarray and structure == flatten(((leaves[0],), {}))[1]
        if not plain or owner.has_aux or type(trace.value) is not Output or owner.argnums not in (0, (0,)) or owner.argnums != 0:
            return None
        return _Fast(trace, leaves[0].dtype, leaves[0].shape)

    def __call__(self, x: Any, out: Any) -> Any:
        """Give value and gradient; None where a guard fails."""
        if out is None:
            gradient = np.empty(self.shape, self.dtype)
        else:
            check_out(out, x)
            if np.may_share_memory(out, x):
                raise TapeadValueError("out= overlaps an argument: give an array of its own")
            gradient = out
        program = self.program
        workspace = program.take()
        try:
            bound = program.bind(workspace, 0, x)
            program.run(workspace, True)
            value = program.result(workspace, 0, (bound,))
            gradient[...] = workspace.gradients[0].reshape(self.shape)
        except GuardFailed:
            return None
        finally:
            program.give_back(workspace)
        return value, gradient


def value_and_grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, max_traces: int = MAX_TRACES
) -> Differentiated:
    """Give a function that returns the value of f and its gradient.

    f is ordinary NumPy code that returns one number. It is run once per signature (structure, shapes, dtypes, static
    values) to record its tape; later calls replay the tape. argnums names the differentiated argument, or a tuple of
    them; they may be pytrees. With has_aux, f returns (number, aux), and the value is that pair. max_traces bounds
    the traces kept; the oldest goes. The returned function takes `out=`, an array (or tree) for the gradient.

    Raises TypeError for arguments that cannot be differentiated, ValueError where f does not return one number.

    >>> import numpy as np, tapead
    >>> value, gradient = tapead.value_and_grad(lambda x: np.sum(x**2))(np.array([1.0, 2.0]))
    >>> float(value), gradient.tolist()
    (5.0, [2.0, 4.0])

    Source: Griewank & Walther, Evaluating Derivatives (2008), chapter 3: the reverse mode.
    """
    return Differentiated(f, argnums, has_aux, True, max_traces)


def grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, max_traces: int = MAX_TRACES
) -> Differentiated:
    """Give a function that returns the gradient of f; see `value_and_grad`. With has_aux: (gradient, aux).

    >>> import numpy as np, tapead
    >>> tapead.grad(lambda x: np.sum(np.sin(x)))(np.zeros(2)).tolist()
    [1.0, 1.0]
    """
    return Differentiated(f, argnums, has_aux, False, max_traces)
