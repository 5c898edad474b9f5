"""The public transforms: each a few lines over trace, plan and program."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from .binding import Binding, idle, let_call
from .calling import check_callable, chosen_arguments, name_of, places_of
from .errors import TapeadLinAlgError, TapeadNotImplementedError, TapeadTypeError, TapeadValueError
from .finite import look_at_result, watching
from .kernels import objects
from .nested import check_differentiable, grad_on_tape
from .profiling import Profile
from .record import ForeignTape, current, live_recordings
from .replayed import MAX_TRACES, Traces, check_out, graph_call, profile_call
from .tape import NODES_SHOWN
from .tensor import Tensor
from .trace import OwnRule, Trace, run_anew
from .tree import PLAIN, Reader, argument_names, flatten, normal, reader, signature, unflatten

if TYPE_CHECKING:
    from .graph import Graph


class Differentiated:
    """A function that gives a gradient (and value): what `grad` and `value_and_grad` make.

    Traces the function once per signature and replays from then on. Callable from several threads at once.

    A call like the last one goes past `__call__`, to compiled code that finds the binding in the object's first slot.
    """

    __slots__ = ("__dict__", "__weakref__", "_binding")

    def __init__(
        self,
        function: Callable[..., Any],
        argnums: int | Sequence[int],
        has_aux: bool,
        with_value: bool,
        max_traces: int,
    ) -> None:
        check_callable(function)
        self.function, self.argnums, self.has_aux, self.with_value = function, argnums, has_aux, with_value
        self.__name__ = name_of(function)
        self.traces: Traces[Trace] = Traces(self.__name__, max_traces)
        self.__doc__ = getattr(function, "__doc__", None)
        self.__wrapped__ = function
        self._chosen = chosen_arguments(argnums)
        self._written = False  # new traces have the gradient written on the tape, not swept
        self._forms: dict[Any, _Form] = {}
        self._form: _Form | None = None
        self._binding: Binding | None = None
        self.last: Trace | None = None

    def __repr__(self) -> str:
        return f"<{'value_and_grad' if self.with_value else 'grad'} of {self.__name__}>"

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        form = self._form
        if form is not None and form.reader is not None and not kwargs:
            leaves: list[Any] = []
            if form.reader.read(args, leaves):
                replayed = self._replay(form, leaves, out)
                if replayed is not None:
                    return replayed
        leaves, structure = flatten((args, kwargs))
        latest, form = form, self._forms.get(structure)
        if form is None:
            form = self._forms[structure] = self._form_of(args, kwargs, structure)
        if form is not latest:
            replayed = self._replay(form, leaves, out)
            if replayed is not None:
                return replayed
        return self._call(args, kwargs, leaves, structure, form, out)

    def _replay(self, form: _Form, leaves: list[Any], out: Any) -> Any:
        """Do a call in compiled code; give None where the leaves are not such as the last trace of the form takes."""
        if form.bound is None or watching():
            return None
        trace, binding = form.bound
        if trace.written and (out is not None or self.has_aux):
            return None
        replayed = binding.replay(binding, leaves, None if out is None else self._spread(out, form))
        if replayed is None:
            return None
        self._follow(trace, form)
        value, gradients = (replayed[1][0], replayed[1][1:]) if trace.written else replayed
        return self._packed(value, None, form.assembled(gradients))

    @property
    def traces_kept(self) -> int:
        """The number of traces that are kept."""
        return len(self.traces.kept)

    @property
    def seconds_tracing(self) -> float:
        """The seconds that tracing took so far."""
        return self.traces.seconds

    def graph(self, *args: Any, colour: str | None = None, limit: int | None = NODES_SHOWN, **kwargs: Any) -> Graph:
        """Give the computational graph of a call, or (without arguments) of the last one, to be drawn.

        It shows what runs forward, after the passes; frames hold the instructions of one row. colour="time" measures
        the rows of both sweeps (see `tapead.profile`) and shades by them. Of a long graph, repetitions and the middle are
        left out, so that about `limit` nodes are shown; None shows all.

        Raises TypeError for a function that was not called yet, ValueError for another colour or a limit below 8.

        >>> import numpy as np, tapead
        >>> graph = tapead.grad(lambda x: np.sum(np.sin(x))).graph(np.ones(3))
        >>> [box.text for box in graph.picture.boxes]
        ['v1 = x', 'v2 = sin(v1)', 'v3 = sum(v2)']
        """
        return graph_call(self, partial(self, *args, **kwargs), args, kwargs, colour, limit)

    def profile(self, *args: Any, out: Any = None, **kwargs: Any) -> Profile:
        """Time a call, row by row of both sweeps; see `tapead.profile`."""
        return profile_call(self, partial(self, *args, **({} if out is None else {"out": out}), **kwargs), args, kwargs)

    # ---- the general way -------------------------------------------------------------------------------------------

    def _call(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any], structure: Any, form: _Form, out: Any
    ) -> Any:
        if Tensor in map(type, leaves):
            current("a traced value as an argument")
            return self._nested(args, kwargs, out)
        leaves = [leaf if type(leaf) in PLAIN else normal(leaf) for leaf in leaves]
        key = (structure, *map(signature, leaves))
        if key not in self.traces.latest:
            names = argument_names(args, kwargs)
            for i in form.wrt:
                check_differentiable(leaves[i], names[i])
        targets = None if out is None else self._targets(out, form, leaves)
        try:
            value, aux, gradients = self._run(key, leaves, form, targets)
        except ForeignTape:
            if not live_recordings():
                raise
            return self._nested(args, kwargs, out)
        return self._packed(value, aux, form.assembled(gradients))

    def _packed(self, value: Any, aux: Any, gradient: Any) -> Any:
        if self.with_value:
            return ((value, aux) if self.has_aux else value), gradient
        return (gradient, aux) if self.has_aux else gradient

    def _places(self, args: Sequence[Any]) -> list[int]:
        """Give the places, among the arguments, of those differentiated by."""
        return places_of(self._chosen, self.argnums, len(args), self.__name__)

    def _form_of(self, args: tuple[Any, ...], kwargs: dict[str, Any], structure: Any) -> _Form:
        """Check argnums against the arguments; give which leaves are differentiated, and the trees that they make."""
        count, chosen = len(args), self._places(args)
        structures = [flatten(arg)[1] for arg in args]
        starts = [sum(s.num_leaves for s in structures[:k]) for k in range(count)]
        wrt = [starts[a] + k for a in chosen for k in range(structures[a].num_leaves)]
        trees = [(None if structures[a].is_leaf() else structures[a], structures[a].num_leaves) for a in chosen]
        direct = not kwargs and not self.has_aux and all(structure.is_leaf() for structure in structures)
        readers = [None if tree is None else reader(tree) for tree, _ in trees]
        by_reader = None if kwargs else reader(structure.child(0))
        return _Form(wrt, trees, readers, not isinstance(self.argnums, list | tuple), direct, by_reader)

    def _spread(self, out: Any, form: _Form) -> list[Any]:
        """Give the leaves of out=, which must have the structure of the gradient."""
        outs = [out] if form.single else out
        if not isinstance(outs, list | tuple) or len(outs) != len(form.trees):
            raise TapeadTypeError(
                f"out= must be a tuple of {len(form.trees)}, one for each of argnums={self.argnums!r}"
            )
        found: list[Any] = []
        for (tree, _), read, part in zip(form.trees, form.readers, outs, strict=True):
            if tree is None:
                found.append(part)
                continue
            quick: list[Any] = []
            if read is not None and read.read(part, quick):
                found += quick
                continue
            part_leaves, structure = flatten(part)
            if structure != tree:
                raise TapeadValueError(f"out= has the structure {structure}, the differentiated argument {tree}")
            found += part_leaves
        return found

    def _targets(self, out: Any, form: _Form, leaves: list[Any]) -> list[Any]:
        """Check the arrays that the gradient is to be written to."""
        found = self._spread(out, form)
        for k, (target, i) in enumerate(zip(found, form.wrt, strict=True)):
            check_out(target, leaves[i])
            if any(overlap(target, leaf) for leaf in leaves if type(leaf) is np.ndarray):
                raise TapeadValueError("out= overlaps an argument: give an array of its own")
            if any(overlap(target, other) for other in found[:k]):
                raise TapeadValueError("two arrays of out= overlap: give each gradient an array of its own")
        return found

    def _run(
        self, key: tuple[Hashable, ...], leaves: list[Any], form: _Form, targets: Sequence[Any] | None
    ) -> tuple[Any, Any, Sequence[Any]]:
        unwritten = None
        if watching():
            try:
                result, gradients = run_anew(self._with_gradient, leaves, key[0])
            except (TapeadNotImplementedError, TapeadLinAlgError) as error:  # the sweeps may know better
                unwritten = error
            else:
                arrays = [type(leaves[i]) is np.ndarray for i in form.wrt]
                gradients = [np.asarray(g) if array else g for g, array in zip(gradients, arrays, strict=True)]
                return self._settled(result, gradients, targets)
        trace, (result, gradients), gone = self.traces.run(
            key,
            partial(self._trace, leaves, key[0], form),
            lambda trace: trace.run(leaves, None if trace.written else targets),
        )
        self._forget(gone)
        if not trace.volatile:
            binding = trace.bind(Differentiated.__call__, leaves, form.single, self.with_value)
            form.bound = None if binding is None else (trace, binding)
        self._follow(trace, form)
        if trace.written:
            result, gradients = result
            return self._settled(result, gradients, targets)
        for k, gradient in enumerate(gradients if unwritten is not None else ()):
            look_at_result(
                gradient, f"gradient {k} of {self.__name__}", f"it cannot be written on the tape: {unwritten}"
            )
        return (*result, gradients) if self.has_aux else (result, None, gradients)

    def _settled(
        self, result: Any, gradients: Sequence[Any], targets: Sequence[Any] | None
    ) -> tuple[Any, Any, Sequence[Any]]:
        """Give value, auxiliary result and gradients, which are copied to the targets if there are some."""
        if targets is not None:
            for target, gradient in zip(targets, gradients, strict=True):
                target[...] = gradient
            gradients = targets
        return (*result, gradients) if self.has_aux else (result, None, gradients)

    def _follow(self, trace: Trace, form: _Form) -> None:
        """Note what the last call ran, and let the next one go to compiled code if it may."""
        self.last, self._form = trace, form
        direct = form.direct and not trace.written
        let_call(self, form.bound[1] if form.bound is not None and direct else None)

    def rest(self) -> None:
        """Let calls go through Python until a trace is bound again."""
        self._binding = idle(Differentiated.__call__)

    def _trace(self, leaves: list[Any], structure: Any, form: _Form, forced: Sequence[int]) -> Trace:
        """Trace the function for its gradient to be swept; where it has rules of its own inside, write the gradient."""
        if not self._written:
            try:
                return Trace(self.function, leaves, structure, form.wrt, self.has_aux, forced)
            except OwnRule:
                self._written = True
        trace = Trace(self._with_gradient, leaves, structure, forced=forced)
        trace.written = True
        return trace

    def _with_gradient(self, *args: Any, **kwargs: Any) -> Any:
        """Give what the function returns, and the leaves of its gradient, written on the tape."""
        value, aux, trees = grad_on_tape(self.function, args, kwargs, self._places(args), self.has_aux)
        gradients = [leaf for tree in trees for leaf in flatten(tree)[0]]
        return ((value, aux) if self.has_aux else value), gradients

    def _forget(self, gone: Sequence[Trace]) -> None:
        """Take no calls to traces that were thrown out."""
        for form in self._forms.values() if gone else ():
            if form.bound is not None and form.bound[0] in gone:
                if self._binding is form.bound[1]:
                    self.rest()
                form.bound = None

    def _nested(self, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        """Differentiate within a trace: the gradient is written on the tape of the outer function."""
        if out is not None:
            raise TapeadTypeError(
                "out= cannot be used while a function is traced: the gradient is a traced value there"
            )
        value, aux, gradients = grad_on_tape(self.function, args, kwargs, self._places(args), self.has_aux)
        return self._packed(value, aux, gradients[0] if isinstance(self.argnums, int) else tuple(gradients))


def overlap(a: Any, b: Any) -> bool:
    """Whether two arrays may share memory; two that own theirs do not."""
    return a is b or ((a.base is not None or b.base is not None) and bool(np.may_share_memory(a, b)))


@dataclass
class _Form:
    """What a structure of arguments means: differentiated leaves, the trees (None: a leaf) that gradients make."""

    wrt: list[int]
    trees: list[tuple[Any, int]]
    readers: list[Reader | None]  # of the trees
    single: bool
    direct: bool  # the arguments themselves are the leaves
    reader: Reader | None  # of the arguments, where none is given by name
    bound: tuple[Trace, Binding] | None = None  # the last trace and its binding

    def assembled(self, gradients: Sequence[Any]) -> Any:
        """Make the trees of the gradients by each leaf."""
        made, start = [], 0
        for tree, count in self.trees:
            made.append(gradients[start] if tree is None else unflatten(tree, gradients[start : start + count]))
            start += count
        return made[0] if self.single else tuple(made)


#: what is made: instances can be called by compiled code where the interpreter's objects can be read
_Made: Any = objects.callable_type(Differentiated) if objects.readable() else Differentiated


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
    made: Differentiated = _Made(f, argnums, has_aux, True, max_traces)
    return made


def grad(
    f: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, max_traces: int = MAX_TRACES
) -> Differentiated:
    """Give a function that returns the gradient of f; see `value_and_grad`. With has_aux: (gradient, aux).

    >>> import numpy as np, tapead
    >>> tapead.grad(lambda x: np.sum(np.sin(x)))(np.zeros(2)).tolist()
    [1.0, 1.0]
    """
    made: Differentiated = _Made(f, argnums, has_aux, False, max_traces)
    return made
