"""Trace: one recorded run of a function for one signature, planned into a program."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .binding import Binding, bind
from .calling import call, checked_output, function_code, parameter_names, split
from .finite import watching
from .kernels.table import Structural
from .passes import OWN, has_rules
from .program import Program
from .record import COPY, Recording, find_tensor
from .switches import collector_paused
from .tape import NODES_SHOWN, Place
from .tensor import Tensor
from .tree import argument_names, flatten, is_traced, unflatten

if TYPE_CHECKING:
    from .graph import Graph


@dataclass(frozen=True)
class Output:
    """Stands for an output of the program, by its place among them."""

    place: int


class OwnRule(BaseException):  # which the user's function should not catch
    """A function to differentiate has a rule of its own inside: its gradient must be written on the tape."""


def run_anew(
    function: Callable[..., Any], leaves: Sequence[Any], structure: Any, names: Sequence[str] | None = None
) -> Any:
    """Run a function, recording, and give what it returned: without a program, and looked at while `debug_nans` is on.

    names are those of the leaves, where these are not the paths of arguments.
    """
    recording = Recording(replays=True, watched=watching())
    try:
        with recording, np.errstate(all="ignore"):
            inside = list(leaves)
            for i, leaf in enumerate(leaves):
                if is_traced(leaf):
                    if recording.watch is not None:
                        recording.watch.given(leaf, (names or argument_names(*unflatten(structure, leaves)))[i])
                    inside[i] = recording.enter(leaf)
            arguments, options = unflatten(structure, inside)
            found, made = flatten(call(function, arguments, options))
            return unflatten(made, [_as_value(recording, leaf) for leaf in found])
    finally:
        recording.end()


def _as_value(recording: Recording, leaf: Any) -> Any:
    """Give a result as the caller's own: what is traced as its value."""
    if is_result(leaf):
        tensor = recording.tensor(leaf)
        return np.array(tensor._value, tensor.dtype)[()]
    return _own(leaf)


def has_own_rule(recording: Recording) -> bool:
    """Whether a derivative of the trace itself flows into the result of a rule of the user's."""
    if not has_rules(recording):
        return False
    levels = [recording.storages[s].levels for s in recording.storage_of]
    columns = zip(recording.ops, recording.result_buffers, strict=True)
    return any(op.group == OWN and any(levels[b] & 1 for b in made) for op, made in columns if type(op) is Structural)


class Trace:
    """A function's run on some leaves: the tape, the program, and how the results are put together again.

    With wrt, the leaves to differentiate by, the function returns one number (and an auxiliary result, with has_aux),
    whose gradient the sweeps compute; else it returns any tree. guards are the decisions that were taken, in order.
    plan makes the program of the recording, its inputs (storages) and outputs (buffers), where it is not to be all of it.
    """

    #: whether what the function returns is (value, gradients), the gradients written on the tape
    written = False

    def __init__(
        self,
        function: Callable[..., Any],
        leaves: Sequence[Any],
        structure: Any,
        wrt: Sequence[int] | None = None,
        has_aux: bool = False,
        forced: Sequence[int] = (),
        plan: Callable[[Recording, list[int], list[int]], Program] | None = None,
    ) -> None:
        with collector_paused():
            self._make(function, leaves, structure, wrt, has_aux, forced, plan)

    def _make(
        self,
        function: Callable[..., Any],
        leaves: Sequence[Any],
        structure: Any,
        wrt: Sequence[int] | None,
        has_aux: bool,
        forced: Sequence[int],
        plan: Callable[[Recording, list[int], list[int]], Program] | None,
    ) -> None:
        recording = Recording(replays=True)
        recording.forced = list(forced)
        self.arguments = structure
        by = () if wrt is None else wrt
        self.traced = [i for i, leaf in enumerate(leaves) if is_traced(leaf)]
        opaque = [leaf for i, leaf in enumerate(leaves) if isinstance(leaf, np.ndarray) and not is_traced(leaf)]
        try:
            with recording, np.errstate(all="ignore"):
                inside = list(leaves)
                for i in self.traced:
                    inside[i] = recording.enter(leaves[i], levels=int(i in by))
                inputs = [recording.storage_of[inside[i].buffer] for i in self.traced]
                arguments, options = unflatten(structure, inside)
                result = call(function, arguments, options)
                if wrt is not None:
                    value, aux = split(result, has_aux)
                    value = checked_output(recording, value)
                    result = (value, aux) if has_aux else value
                outputs: list[Tensor] = []
                found, self.structure = flatten(result)
                self.leaves = [_settle(recording, leaf, outputs, wrt is not None) for leaf in found]
        finally:
            recording.end()  # once more: Ctrl-C may have come between
        if wrt is not None and has_own_rule(recording):
            raise OwnRule
        places = [self.traced.index(i) for i in by]
        differentiated = outputs[0].buffer if wrt is not None and type(self.leaves[0]) is Output else None
        buffers = [t.buffer for t in outputs]
        if plan is None:
            self.program = Program(recording, inputs, buffers, differentiated, places)
        else:
            self.program = plan(recording, inputs, buffers)
        self.guards: list[int] = list(recording.guards)
        self.volatile: list[tuple[str, Place]] = list(recording.volatile)
        self._bound, self._binding = False, None  # type: tuple[bool, Binding | None]
        if opaque:
            kinds = ", ".join(sorted({str(leaf.dtype) for leaf in opaque}))
            self.volatile.append((f"an array argument of dtype {kinds}", (function_code(function), 0)))

    def run(self, leaves: Sequence[Any], targets: Sequence[Any] | None = None) -> tuple[Any, Sequence[Any]]:
        """Replay on the values of leaves: what the function returned, and the gradients by each wrt.

        The gradients are written to targets, where there are some.
        """
        outputs, gradients = self.sweep(leaves, targets)
        return self.assembled(outputs), gradients

    def sweep(self, leaves: Sequence[Any], targets: Sequence[Any] | None = None) -> tuple[list[Any], Sequence[Any]]:
        """Replay on the values of leaves: the program's outputs, and the gradients."""
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
        return outputs, gradients

    def assembled(self, outputs: Sequence[Any]) -> Any:
        """Make what the function returned of the program's outputs."""
        settled = [outputs[leaf.place] if type(leaf) is Output else _own(leaf) for leaf in self.leaves]
        settled = [x[()] if isinstance(x, np.ndarray) and not x.ndim else x for x in settled]
        return settled[0] if self.structure.is_leaf() else unflatten(self.structure, settled)

    def _taken(self, leaves: Sequence[Any], k: int, slopes: Any, target: Any) -> Any:
        """Take the gradient by the k-th of wrt out of where the sweeps wrote it."""
        if target is not None:
            if slopes is not target:
                target[...] = slopes
            return target
        if self.program.is_large(self.program.wrt[k]):
            return slopes
        return slopes.copy() if type(leaves[self.traced[self.program.wrt[k]]]) is np.ndarray else slopes[()]

    def graph(
        self, function: Callable[..., Any], seconds: Sequence[float] | None = None, limit: int | None = NODES_SHOWN
    ) -> Graph:
        """Give the computational graph of the program; inputs are called as the function calls them."""
        names = parameter_names(function, self.arguments)
        return self.program.graph({k: names[i] for k, i in enumerate(self.traced)}, seconds, limit)

    @property
    def is_flat(self) -> bool:
        """Whether what the function returned is one output, or the tuple of all of them."""
        return self.structure.is_leaf() or (
            self.structure.type is tuple and all(child.is_leaf() for child in self.structure.children())
        )

    def bind(self, general: Any, leaves: Sequence[Any], single: bool, with_value: bool) -> Binding | None:
        """Give the binding by which compiled code does calls with leaves like these; None where there is none."""
        if not self._bound:
            self._bound = True
            known = all(type(leaf) is Output for leaf in self.leaves)
            if known and not self.volatile and (self.structure.is_leaf() or not self.program.wrt):
                self._binding = bind(self.program, general, leaves, self.traced, single, with_value)
        return self._binding


def _own(leaf: Any) -> Any:
    """Give a result that is the same at every call as the caller's own."""
    return leaf.copy() if type(leaf) is np.ndarray else leaf


def is_result(leaf: Any) -> bool:
    """Whether a leaf of what a function returned is a traced value, or an array of them."""
    return type(leaf) is Tensor or (
        isinstance(leaf, np.ndarray) and leaf.dtype == object and find_tensor(leaf) is not None
    )


def _settle(recording: Recording, leaf: Any, outputs: list[Tensor], swept: bool) -> Any:
    """Make an output of a traced value; leave anything else as it is."""
    if not is_result(leaf):
        return leaf
    tensor = recording.tensor(leaf)
    if swept and tensor.storage.written:  # the reverse sweep takes writes back; an output must not feel it
        tensor = recording.elementwise(COPY, (tensor,))
    outputs.append(tensor)
    return Output(len(outputs) - 1)
