"""Linear maps to be called many times: what depends on the primals alone is computed once, and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, NoReturn

import numpy as np

from .binding import Binding, bind
from .calling import name_of
from .errors import TapeadTypeError
from .finite import look_at_result, watching
from .nested import Run, fitted
from .program import Program
from .record import COPY, ForeignTape, Recording, live_recordings
from .replayed import MAX_TRACES, Traces
from .tape import CONSTANT, INPUT, WRITES, Storage, Wengert
from .tensor import Tensor
from .trace import Trace, run_anew
from .tree import PLAIN, Reader, argument_names, flatten, normal, paths, reader, signature, unflatten

TANGENT, COTANGENT = "tangent", "cotangent"


class Like(NamedTuple):
    """What a tangent or cotangent must look like."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Cut:
    """A function's run and its derivative at a point, cut into two programs.

    The first computes, of the primals, the value and the residuals: whatever the second needs of it, which maps
    tangents (or cotangents) to those on the other side.
    """

    def __init__(
        self, function: Callable[..., Any], has_aux: bool, what: str, leaves: Sequence[Any], structure: Any, forced: Any
    ) -> None:
        self.function, self.has_aux, self.what = function, has_aux, what
        self.binding: Binding | None = None  # of the second program
        self._tried = False
        self.trace = Trace(self._record, leaves, structure, forced=forced, plan=self._plan)
        self.guards, self.volatile = self.trace.guards, self.trace.volatile

    def _record(self, *primals: Any) -> Any:
        run = Run(self.function, primals, {}, range(len(primals)), self.has_aux)
        recording, forward = run.recording, self.what == TANGENT
        self.structure = flatten(primals)[1] if forward else run.structure
        self.names = paths(primals) if forward else run.names
        given = run.variables if forward else run.outputs
        self.like = [Like(x.shape, x.dtype) for x in given]
        self._inputs = [recording.enter(np.zeros(x.shape, x.dtype)) for x in given]
        made = run.push(self._inputs) if forward else run.pull(self._inputs)
        run.close()
        self._made = [x.buffer for x in made]
        places = list(range(len(made)))
        self._tree = unflatten(run.structure, places) if forward else tuple(run.trees(places))
        return (run.value, run.aux) if self.has_aux else run.value

    def _plan(self, recording: Recording, inputs: list[int], outputs: list[int]) -> Program:
        """Cut the tape: what depends on the tangents goes to the second program."""
        given = [recording.storage_of[x.buffer] for x in self._inputs]
        late = _dependent(recording, given)
        second = recording.part(late)
        residuals = _residuals(second, given, self._made)
        for s in residuals:
            storage = recording.storages[s]
            second.storages[s] = Storage(INPUT, storage.number, storage.size)
        self.second = Program(second, [*given, *residuals], self._made, None, ())
        first = recording.part(set(range(len(recording))) - late)
        whole = {s: i for i, s in reversed(list(enumerate(recording.storage_of)))}  # the first buffer of each
        kept = [whole[s] for s in residuals]
        self.outputs = len(outputs)
        return Program(first, inputs, [*outputs, *kept], None, ())

    def go(self, leaves: Sequence[Any]) -> tuple[Any, list[Any]]:
        """Compute the value (and what is beside it), and the residuals."""
        outputs, _ = self.trace.sweep(leaves)
        return self.trace.assembled(outputs), outputs[self.outputs :]

    def apply(self, given: Sequence[Any], residuals: Sequence[Any]) -> list[Any]:
        """Map the leaves of tangents or cotangents."""
        program = self.second
        workspace = program.take()
        try:
            values = [*given, *residuals]
            bound = [program.bind(workspace, k, np.asarray(x)) for k, x in enumerate(values)]
            program.run(workspace)
            return [program.result(workspace, k, bound) for k in range(len(program.outputs))]
        finally:
            program.give_back(workspace)

    def bind(self, leaves: Sequence[Any], residuals: Sequence[Any]) -> None:
        """Let compiled code map leaves like these, if it can."""
        if not self._tried:
            self._tried = True
            values = [*leaves, *residuals]
            self.binding = bind(self.second, LinearMap.__call__, values, range(len(values)), False, False)

    def assembled(self, leaves: Sequence[Any]) -> Any:
        """Put mapped leaves into their tree."""
        places, structure = flatten(self._tree)
        found = [leaves[place] for place in places]
        return unflatten(structure, [x[()] if isinstance(x, np.ndarray) and not x.ndim else x for x in found])


class LinearMap:
    """A derivative at a point: a linear map of tangents to tangents (`linearize`) or of cotangents to them (`vjp`)."""

    def __init__(self, cut: Cut, residuals: Sequence[Any]) -> None:
        self._cut, self._residuals = cut, residuals

    def __repr__(self) -> str:
        return f"<linear map of {self._cut.what}s of {name_of(self._cut.function)}>"

    def __call__(self, *given: Any) -> Any:
        cut = self._cut
        tree = _argument(given, cut.what)
        leaves, structure = flatten(tree)
        if cut.binding is not None and structure == cut.structure and not watching():
            replayed = cut.binding.replay(cut.binding, [*leaves, *self._residuals], None)
            if replayed is not None:
                return cut.assembled(replayed[1])
        if Tensor in map(type, leaves):
            _refuse(cut.what)
        with Recording(replays=False) as recording:
            checked = fitted(recording, tree, cut.like, cut.structure, cut.names, cut.what)
            values = [np.asarray(x._value, like.dtype) for x, like in zip(checked, cut.like, strict=True)]
        cut.bind([x if x.ndim else x[()] for x in values], self._residuals)
        found = cut.apply(values, self._residuals)
        for leaf in found:
            look_at_result(leaf, f"a result of {self!r}", "the map was made before debug_nans was switched on")
        return cut.assembled(found)


class Linearizing:
    """Makes linear maps of a function's derivative: traced once for each signature of the primals."""

    def __init__(self, function: Callable[..., Any], what: str, has_aux: bool) -> None:
        self.function, self.what, self.has_aux = function, what, has_aux
        self._bound: tuple[Cut, Binding, Reader] | None = None
        self.traces: Traces[Cut] = Traces(name_of(function), MAX_TRACES)

    def __call__(self, *primals: Any) -> tuple[Any, ...]:
        if self._bound is not None and not watching():
            latest, bound, known = self._bound
            found: list[Any] = []
            if known.read(primals, found):
                replayed = bound.replay(bound, found, None)
                if replayed is not None:
                    return self._packed(latest, latest.trace.assembled(replayed[1]), replayed[1][latest.outputs :])
        leaves, structure = flatten((primals, {}))
        if Tensor in map(type, leaves):
            return self._nested(primals)
        leaves = [leaf if type(leaf) in PLAIN else normal(leaf) for leaf in leaves]
        key = (structure, *map(signature, leaves))
        make = partial(Cut, self.function, self.has_aux, self.what, leaves, structure)
        try:
            if watching():
                return self._anew(leaves, structure)
            cut, (result, residuals), _ = self.traces.run(key, make, lambda cut: cut.go(leaves))
        except ForeignTape:
            if not live_recordings():
                raise
            return self._nested(primals)
        binding, read = cut.trace.bind(Linearizing.__call__, leaves, False, False), reader(structure.child(0))
        self._bound = None if binding is None or read is None else (cut, binding, read)
        return self._packed(cut, result, residuals)

    def _packed(self, cut: Cut, result: Any, residuals: Sequence[Any]) -> tuple[Any, ...]:
        made = LinearMap(cut, residuals)
        return (result[0], made, result[1]) if self.has_aux else (result, made)

    def _anew(self, leaves: Sequence[Any], structure: Any) -> tuple[Any, ...]:
        """Give value and map, which run the function anew at each call."""
        leaves = [leaf.copy() if type(leaf) is np.ndarray else leaf for leaf in leaves]

        def value(*primals: Any) -> Any:
            value, _, *aux = self._nested(primals)
            return value, aux

        def at(primals: Any, given: Any) -> Any:
            return self._nested(primals)[1](*given)

        def mapped(*given: Any) -> Any:
            found, _ = flatten(given)
            if Tensor in map(type, found):
                _refuse(self.what)
            both, whole = flatten(((unflatten(structure, leaves)[0], given), {}))
            names = argument_names(unflatten(structure, leaves)[0], {})
            names += [f"the {self.what}{path}" for path in paths(_argument(given, self.what))]
            return run_anew(at, [x if type(x) in PLAIN else normal(x) for x in both], whole, names)

        found, aux = run_anew(value, leaves, structure)
        return (found, mapped, *aux)

    def _nested(self, primals: tuple[Any, ...]) -> tuple[Any, ...]:
        """Give value and map within a trace: the map writes on its tape when it is called."""
        run = Run(self.function, primals, {}, range(len(primals)), self.has_aux)
        run.close(keep=True)
        forward = self.what == TANGENT
        structure, names = (flatten(primals)[1], paths(primals)) if forward else (run.structure, run.names)

        value = self._copied(run.recording, run.value)  # which may be assigned to
        aux = self._copied(run.recording, run.aux)

        def mapped(*given: Any) -> Any:
            run.check_unchanged("linearize" if forward else "vjp")
            like = run.variables if forward else run.outputs
            tensors = fitted(run.recording, _argument(given, self.what), like, structure, names, self.what)
            return unflatten(run.structure, run.push(tensors)) if forward else tuple(run.trees(run.pull(tensors)))

        return (value, mapped, aux) if self.has_aux else (value, mapped)

    def _copied(self, recording: Recording, tree: Any) -> Any:
        """Give a tree with copies of its traced values."""
        leaves, structure = flatten(tree)
        return unflatten(
            structure, [recording.elementwise(COPY, (x,), weak=True) if type(x) is Tensor else x for x in leaves]
        )


def _refuse(what: str) -> NoReturn:
    how = "linearize" if what == TANGENT else "vjp"
    raise TapeadTypeError(f"a linear map made outside of a traced function got a traced value: call {how} inside")


def _argument(given: tuple[Any, ...], what: str) -> Any:
    if what == TANGENT:
        return given
    if len(given) != 1:
        raise TapeadTypeError(f"a pullback takes one cotangent, of the structure of the value, not {len(given)}")
    return given[0]


def _dependent(tape: Wengert, given: Sequence[int]) -> set[int]:
    """Give the instructions that depend on some inputs, or write to memory that those read before it is complete."""
    of = tape.storage_of
    last = {of[b]: k for k, results in enumerate(tape.result_buffers) for b in results}  # the last that writes
    reached = set(given)
    late: set[int] = set()
    while True:
        before = len(late)
        for k, (operands, results) in enumerate(zip(tape.operand_buffers, tape.result_buffers, strict=True)):
            if k in late or not (
                reached.intersection([of[b] for b in operands]) or reached.intersection([of[b] for b in results])
            ):
                continue
            late.add(k)
            reached.update(of[b] for b in results)
        for k in late:
            reached.update(of[b] for b in tape.operand_buffers[k] if last.get(of[b], -1) > k)
        if len(late) == before:
            return late


def _residuals(tape: Wengert, given: Sequence[int], outputs: Sequence[int]) -> list[int]:
    """Give the storages that a tape reads for its outputs, but neither makes nor is given."""
    of = tape.storage_of
    made = {of[b] for results in tape.result_buffers for b in results}
    wanted = {of[b] for b in outputs}
    for k in range(len(tape) - 1, -1, -1):
        results = tape.result_buffers[k]
        if tape.ops[k].name in WRITES or any(of[b] in wanted for b in results):
            wanted.update(of[b] for b in tape.operand_buffers[k])
    wanted -= made | set(given)
    return sorted(s for s in wanted if tape.storages[s].kind != CONSTANT)
