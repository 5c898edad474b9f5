"""Trace: one recorded run of a function for one signature, planned into a program."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from .binding import Binding, bind
from .errors import TapeadError, TapeadTypeError, TapeadValueError
from .program import Program
from .record import COPY, Recording, find_tensor
from .tape import Place, describe
from .tensor import Tensor
from .tree import flatten, is_traced, unflatten


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python's garbage collector from running: a trace makes many objects, all of which stay."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True)
class Output:
    """Stands for an output of the program, by its place among them."""

    place: int


class Trace:
    """A function's run on some leaves: the tape, the program, and how the results are put together again.

    wrt are the leaves to differentiate by. guards are the decisions that were taken, in order.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        leaves: Sequence[Any],
        structure: Any,
        wrt: Sequence[int],
        has_aux: bool,
        scalar: bool,
        forced: Sequence[int] = (),
    ) -> None:
        with _collector_paused():
            self._make(function, leaves, structure, wrt, has_aux, scalar, forced)

    def _make(
        self,
        function: Callable[..., Any],
        leaves: Sequence[Any],
        structure: Any,
        wrt: Sequence[int],
        has_aux: bool,
        scalar: bool,
        forced: Sequence[int],
    ) -> None:
        self.has_aux = has_aux
        recording = Recording(replays=True)
        recording.forced = list(forced)
        self.traced = [i for i, leaf in enumerate(leaves) if is_traced(leaf)]
        opaque = [leaf for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray) and not is_traced(leaf)]
        try:
            with recording, np.errstate(all="ignore"):
                inside = list(leaves)
                for i in self.traced:
                    inside[i] = recording.enter(leaves[i], levels=int(i in wrt))
                inputs = [recording.buffers[inside[i].buffer].storage for i in self.traced]
                arguments, options = unflatten(structure, inside)
                value, aux = split(call(function, arguments, options), has_aux)
                outputs: list[Tensor] = []
                target = checked_output(recording, value) if scalar else value
                self.value = _settle(recording, target, outputs)
                aux_leaves, self.aux_structure = flatten(aux)
                self.aux_leaves = [_settle(recording, leaf, outputs) for leaf in aux_leaves]
        finally:
            recording.end()  # once more: Ctrl-C may have come between
        places = [self.traced.index(i) for i in wrt]
        differentiated = outputs[0].buffer if scalar and outputs and type(self.value) is Output else None
        self.program = Program(recording, inputs, [t.buffer for t in outputs], differentiated, places)
        self.guards: list[int] = list(recording.guards)
        self.volatile: list[tuple[str, Place]] = list(recording.volatile)
        self._bound, self._binding = False, None  # type: tuple[bool, Binding | None]
        if opaque:
            kinds = ", ".join(sorted({str(leaf.dtype) for leaf in opaque}))
            self.volatile.append((f"an array argument of dtype {kinds}", (function_code(function), 0)))

    def run(self, leaves: Sequence[Any], targets: Sequence[Any] | None) -> tuple[Any, Any, Sequence[Any]]:
        """Replay on the values of leaves: the value, the auxiliary result, and the gradients by each wrt.

        The gradients are written to targets, where there are some.
        """
        program = self.program
        workspace = program.take()
        try:
            bound = [program.bind(workspace, k, leaves[i]) for k, i in enumerate(self.traced)]
            targets = [None] * len(program.wrt) if targets is None else targets
            slopes = [program.bind_gradient(workspace, k, target) for k, target in enumerate(targets)]
            program.run(workspace)
            outputs = [program.result(workspace, k, bound) for k in range(len(program.outputs))]
            gradients = [self._taken(leaves, k, slopes[k], target) for k, target in enumerate(targets)]
        finally:
            program.give_back(workspace)

        value = outputs[self.value.place] if type(self.value) is Output else self.value
        if isinstance(value, np.ndarray) and not value.ndim:
            value = value[()]
        aux = None
        if self.has_aux:
            settled = [outputs[leaf.place] if type(leaf) is Output else leaf for leaf in self.aux_leaves]
            aux = unflatten(self.aux_structure, settled)
        return value, aux, gradients

    def _taken(self, leaves: Sequence[Any], k: int, slopes: Any, target: Any) -> Any:
        """Take the gradient by the k-th of wrt out of where the sweeps wrote it."""
        if target is not None:
            if slopes is not target:
                target[...] = slopes
            return target
        if self.program.is_large(self.program.wrt[k]):
            return slopes
        return slopes.copy() if type(leaves[self.traced[self.program.wrt[k]]]) is np.ndarray else slopes[()]

    def bind(self, general: Any, leaves: Sequence[Any], single: bool, with_value: bool) -> Binding | None:
        """Give the binding by which compiled code does calls with leaves like these; None where there is none."""
        if not self._bound:
            self._bound = True
            if type(self.value) is Output and not self.has_aux and not self.volatile:
                self._binding = bind(self.program, general, leaves, self.traced, single, with_value)
        return self._binding


def _settle(recording: Recording, leaf: Any, outputs: list[Tensor]) -> Any:
    """Make an output of a traced value; leave anything else as it is."""
    if type(leaf) is not Tensor and (
        not isinstance(leaf, np.ndarray) or leaf.dtype != object or find_tensor(leaf) is None
    ):
        return leaf
    tensor = recording.tensor(leaf)
    if tensor.storage.written:
        tensor = recording.elementwise(
            COPY, (tensor,)
        )  # the reverse sweep takes writes back; an output must not feel it
    outputs.append(tensor)
    return Output(len(outputs) - 1)


def checked_output(recording: Recording, value: Any) -> Any:
    """Check that what a function gave is one real number; give it, as a 0-d traced value if it is traced."""
    if value is None:
        raise TapeadTypeError(
            "the function returned None; it must return the number to differentiate (a missing return?)"
        )
    if isinstance(value, list | tuple | dict):
        raise TapeadTypeError(
            f"the function returned a {type(value).__name__}; to return more than the number, give (number, more) and has_aux=True"
        )
    if find_tensor(value) is not None:
        value = recording.lift(value)
    if type(value) is not Tensor:
        array = np.asarray(value)
        if array.dtype.kind not in "fiub":
            raise TapeadTypeError(f"the function returned {type(value).__name__}, not a real number")
        value = array
    if value.size != 1:
        raise TapeadValueError(
            f"the function must return one number, but returned an array of shape {value.shape}. Reduce it (np.sum), or seed it: "
            "the gradient of np.sum(seed * f(x))"
        )
    if type(value) is not Tensor:
        return value.reshape(())[()] if value.dtype.kind == "f" else float(value.reshape(()))
    if value.ndim:
        value = recording.view(value, lambda v: v.reshape(()))
    if value.dtype.kind != "f":
        return recording.cast(value, np.dtype(float))
    if value.storage.size > 1:  # the seed goes on its adjoint before any row runs, and rows may clear an array's
        return recording.elementwise(COPY, (value,))
    return value


def function_code(function: Any) -> Any:
    """Give the code object of a callable, for messages."""
    found = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    return found or Trace.__init__.__code__


def split(result: Any, has_aux: bool) -> tuple[Any, Any]:
    """Take a function's result apart into value and auxiliary result."""
    if not has_aux:
        return result, None
    if not isinstance(result, tuple) or len(result) != 2:
        raise TapeadTypeError(f"has_aux=True expects the function to return (value, aux), not {type(result).__name__}")
    return result


def call(function: Callable[..., Any], arguments: Any, options: Any) -> Any:
    """Call the user's function; explain those errors of NumPy's that stand for ours, leave all others as they are."""
    try:
        return function(*arguments, **options)
    except (ValueError, TypeError) as error:
        fix = None if isinstance(error, TapeadError) else _fix(error)
        if fix is None:
            raise
        raise TapeadTypeError(f"{fix[0]} at {describe(_innermost(error, function))}: {fix[1]}") from error


def _fix(error: Exception) -> tuple[str, str] | None:
    """Give what is wrong and what to do, where NumPy's (or SciPy's) error stands for ours; else None."""
    text, cause = str(error), error.__cause__
    if "setting an array element with a sequence" in text and isinstance(cause, TapeadError):
        fix = (
            "the array cannot hold it. Make the array with tapead.numpy.zeros instead of numpy.zeros (if a SciPy function "
            "did it: take its counterpart in tapead.scipy)"
        )
        return "a traced value was assigned into a plain NumPy array", fix
    if any(sign in text for sign in ("has no callable", "bject array", "dtype('O')", "ufunc 'isfinite' not supported")):
        fix = (
            f"the function got an object array of traced numbers, or does not know NumPy's protocols ({text}). Make the array "
            "with tapead.numpy.array, call the function from tapead.numpy, or use its counterpart in tapead.scipy"
        )
        return "a traced value in a function that cannot take it", fix
    return None


def _innermost(error: Exception, function: Any) -> Place:
    """Give the innermost place of an error that is the user's, not a library's."""
    place: Place = (function_code(function), 0)
    trail = error.__traceback__
    while trail is not None:
        file = trail.tb_frame.f_code.co_filename
        if not file.startswith(__file__.rpartition("trace.py")[0]) and "site-packages" not in file:
            place = trail.tb_frame.f_code, trail.tb_lasti
        trail = trail.tb_next
    return place
