"""Trace: one recorded run of a function for one signature, planned into a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import EscapedError, TapeadTypeError, TapeadValueError
from .program import Program
from .record import Recording, find_tensor
from .tape import Place, describe
from .tensor import Tensor
from .tree import flatten, is_traced, unflatten


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
        self.recording = Recording(replays=True)
        self.recording.forced = list(forced)
        recording = self.recording
        self.traced = [i for i, leaf in enumerate(leaves) if is_traced(leaf)]
        opaque = [leaf for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray) and not is_traced(leaf)]
        with recording, np.errstate(all="ignore"):
            inside = list(leaves)
            for i in self.traced:
                inside[i] = recording.enter(leaves[i], levels=int(i in wrt))
            inputs = [recording.buffers[inside[i].buffer].storage for i in self.traced]
            arguments, options = unflatten(structure, inside)
            result = call(function, arguments, options)
            value, aux = split(result, has_aux)
            self.value = self._output(value, scalar)
            self.aux_leaves, self.aux_structure = flatten(aux)
            self.aux_leaves = [self._leaf(leaf) for leaf in self.aux_leaves]
        tensors = [t for t in (self.value, *self.aux_leaves) if type(t) is Tensor]
        self.outputs = {id(t): k for k, t in enumerate(tensors)}
        target = self.value.buffer if type(self.value) is Tensor and scalar else None
        places = [self.traced.index(i) for i in wrt]
        self.program = Program(recording, inputs, [t.buffer for t in tensors], target, places)
        self.guards: list[int] = list(recording.guards)
        self.volatile: list[tuple[str, Place]] = list(recording.volatile)
        if opaque:
            kinds = ", ".join(sorted({str(leaf.dtype) for leaf in opaque}))
            self.volatile.append((f"an array argument of dtype {kinds}", (function_code(function), 0)))
        for tensor in tensors:
            tensor._value = None  # what the trace computed is not needed any more
        recording.forced = []

    def _leaf(self, leaf: Any) -> Any:
        if isinstance(leaf, np.ndarray) and leaf.dtype == object and find_tensor(leaf) is not None:
            return self.recording.lift(leaf)
        if type(leaf) is Tensor:
            return self.recording.lift(leaf)
        return leaf

    def _output(self, value: Any, scalar: bool) -> Any:
        """Check what the function gave."""
        value = self._leaf(value)
        if not scalar:
            return value
        if value is None:
            raise TapeadTypeError("the function returned None; it must return the number to differentiate (a missing return?)")
        if isinstance(value, list | tuple | dict):
            raise TapeadTypeError(
                f"the function returned a {type(value).__name__}; to return more than the number, give (number, more) and has_aux=True"
            )
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
        if type(value) is Tensor and value.ndim:
            value = self.recording.view(value, lambda v: v.reshape(()))
        if type(value) is Tensor and value.dtype.kind != "f":
            value = self.recording.cast(value, np.dtype(float))
        return value

    def run(self, leaves: Sequence[Any], gradient: bool) -> tuple[Any, Any, list[Any]]:
        """Replay on the values of leaves: the value, the auxiliary result, and the gradients by each wrt."""
        program = self.program
        workspace = program.take()
        try:
            bound = [workspace.bind(k, leaves[i]) for k, i in enumerate(self.traced)]
            workspace.run(gradient)
            outputs = [workspace.result(k, bound) for k in range(len(program.outputs))]
            gradients = []
            if gradient:
                for k, place in enumerate(program.wrt):
                    leaf = leaves[self.traced[place]]
                    flat = workspace.gradients[k]
                    gradients.append(flat.reshape(leaf.shape).copy() if isinstance(leaf, np.ndarray) else flat[0])
        finally:
            program.give_back(workspace)

        def settled(leaf: Any) -> Any:
            return outputs[self.outputs[id(leaf)]] if type(leaf) is Tensor else leaf

        value = settled(self.value)
        if isinstance(value, np.ndarray) and not value.ndim:
            value = value[()]
        aux = unflatten(self.aux_structure, [settled(leaf) for leaf in self.aux_leaves])
        return value, aux, gradients


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
    """Call the user's function; explain the one error of NumPy's that stands for ours."""
    try:
        return function(*arguments, **options)
    except (ValueError, TypeError) as error:
        cause = error.__cause__
        if isinstance(error, EscapedError) or not isinstance(cause, EscapedError | TypeError):
            raise
        if "setting an array element with a sequence" not in str(error):
            raise
        if not isinstance(cause, EscapedError) and "one element" not in str(cause):
            raise
        trail = error.__traceback__
        place: Place = (function_code(function), 0)
        while trail is not None:
            file = trail.tb_frame.f_code.co_filename
            if not file.startswith((__file__.rpartition("trace.py")[0], np.__file__[: -len("__init__.py")])):
                place = trail.tb_frame.f_code, trail.tb_lasti
            trail = trail.tb_next
        raise TapeadTypeError(
            f"a traced value was assigned into a plain NumPy array at {describe(place)}: the array cannot hold it. "
            "Make the array with tapead.numpy.zeros instead of numpy.zeros"
        ) from error
