"""A function that runs as its tape: traced once for each signature, and replayed from then on."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from .binding import Binding, idle, let_call
from .errors import TapeadTypeError, TapeadValueError
from .finite import watching
from .kernels import library, objects
from .profiling import Profile, profile_trace
from .program import GuardFailed
from .record import ForeignTape, current, live_recordings
from .tape import NODES_SHOWN, Place
from .tensor import Tensor
from .trace import Trace, run_anew
from .tree import PLAIN, Reader, flatten, normal, reader, signature

if TYPE_CHECKING:
    from .graph import Graph

#: how many traces a function keeps, unless told otherwise
MAX_TRACES = 64


class Guarded(Protocol):
    """What is kept of a run: the decisions that it took, and what stops its replay."""

    guards: list[int]
    volatile: list[tuple[str, Place]]


T = TypeVar("T", bound=Guarded)


class Traces(Generic[T]):
    """The traces of a function: one for each signature, and for each way through its branches."""

    def __init__(self, name: str, max_traces: int) -> None:
        if max_traces < 1:
            raise TapeadValueError(f"max_traces must be at least 1, not {max_traces}")
        self.name, self.max_traces = name, max_traces
        self.seconds = 0.0
        self.latest: dict[Hashable, T] = {}
        self.kept: OrderedDict[int, tuple[Hashable, T]] = OrderedDict()
        self._branches: dict[Hashable, T] = {}
        self._lock = threading.RLock()

    def run(self, key: Hashable, make: Callable[[Sequence[int]], T], go: Callable[[T], Any]) -> tuple[T, Any, list[T]]:
        """Run the trace whose branches are those to take, which is made if need be: it, its result, traces thrown out."""
        trace = self.latest.get(key)
        forced: Sequence[int] = ()
        gone: list[T] = []
        attempts = 0
        while True:
            if trace is None:
                trace = self._made(key, make, forced, gone)
            try:
                result = go(trace)
            except GuardFailed as failure:
                forced = (*trace.guards[: failure.place], failure.seen)
                trace = self._branches.get((key, forced))
                attempts += 1
                if attempts > 10_000:
                    raise TapeadValueError(
                        f"{self.name} takes other branches each time it is traced on the same values: does it depend on "
                        "random numbers or on state?"
                    ) from None
                continue
            if not trace.volatile:
                self.latest[key] = trace
            return trace, result, gone

    def _made(self, key: Hashable, make: Callable[[Sequence[int]], T], forced: Sequence[int], gone: list[T]) -> T:
        start, loading = time.perf_counter(), sum(library.seconds.values())
        trace = make(forced)
        loading = sum(library.seconds.values()) - loading
        with self._lock:
            self.seconds += time.perf_counter() - start - loading
            if not trace.volatile:
                self._keep(key, trace, gone)
        return trace

    def _keep(self, key: Hashable, trace: T, gone: list[T]) -> None:
        self.kept[id(trace)] = (key, trace)
        for k in range(1, len(trace.guards) + 1):
            self._branches[key, tuple(trace.guards[:k])] = trace
        while len(self.kept) > self.max_traces:
            _, (old_key, old) = self.kept.popitem(last=False)
            self._branches = {k: t for k, t in self._branches.items() if t is not old}
            if self.latest.get(old_key) is old:
                del self.latest[old_key]
            gone.append(old)


def check_out(target: Any, leaf: Any) -> None:
    """Raise unless a result that looks like a leaf can be written to a target."""
    if type(target) is not np.ndarray:
        raise TapeadTypeError(f"out= must be a NumPy array, not {type(target).__name__}")
    like = leaf if type(leaf) is np.ndarray else np.asarray(leaf)
    if target.shape != like.shape or target.dtype != like.dtype:
        raise TapeadValueError(
            f"out= has shape {target.shape} and dtype {target.dtype}; the result has {like.shape} and {like.dtype}"
        )
    if not target.flags.carray:
        raise TapeadValueError("out= must be a C-contiguous array that can be written to")


class Replayed:
    """A function of numbers, arrays and trees of them that returns such a tree, made to run as its tape.

    Within a trace it runs on that trace's tape. A result that is an array, or a tuple of them, can be written to `out=`.
    A call like the last one goes past `__call__`, to compiled code that finds the binding in the object's first slot.
    """

    __slots__ = ("__dict__", "__weakref__", "_binding")

    def __init__(self, function: Callable[..., Any], name: str, max_traces: int = MAX_TRACES) -> None:
        self.function, self.__name__ = function, name
        self.traces: Traces[Trace] = Traces(name, max_traces)
        self.last: Trace | None = None
        self._readers: dict[Any, Reader | None] = {}
        self._bound: tuple[Trace, Binding, Reader] | None = None
        self._binding: Binding | None = None

    def __repr__(self) -> str:
        return f"<{self.__name__}>"

    @property
    def traces_kept(self) -> int:
        """The number of traces that are kept."""
        return len(self.traces.kept)

    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        if out is not None:
            return self._into(out, self(*args, **kwargs))
        latest = self._bound
        if latest is not None and not kwargs and not watching():
            trace, binding, read = latest
            known: list[Any] = []
            if read.read(args, known):
                replayed = binding.replay(binding, known, None)
                if replayed is not None:
                    return trace.assembled(replayed[1])
        leaves, structure = flatten((args, kwargs))
        if Tensor in map(type, leaves):
            current("a traced value as an argument")
            return self.function(*args, **kwargs)
        leaves = [leaf if type(leaf) in PLAIN else normal(leaf) for leaf in leaves]
        key = (structure, *map(signature, leaves))
        try:
            if watching():
                return run_anew(self.function, leaves, structure)
            trace, (result, _), _ = self.traces.run(
                key,
                lambda forced: Trace(self.function, leaves, structure, forced=forced),
                lambda trace: trace.run(leaves),
            )
        except ForeignTape:
            if not live_recordings():
                raise
            return self.function(*args, **kwargs)
        self._follow(trace, leaves, structure)
        return result

    def _follow(self, trace: Trace, leaves: Sequence[Any], structure: Any) -> None:
        """Note what the last call ran, and let the next one go to compiled code if it may."""
        self.last = trace
        if structure not in self._readers:
            self._readers[structure] = reader(structure.child(0)) if not structure.child(1).num_leaves else None
        read = self._readers[structure]
        binding = trace.bind(Replayed.__call__, leaves, trace.structure.is_leaf(), False)
        self._bound = None if binding is None or read is None else (trace, binding, read)
        direct = (
            trace.is_flat and structure.num_leaves == structure.child(0).num_children == structure.child(0).num_leaves
        )
        direct = direct and all(child.is_leaf() for child in structure.child(0).children())
        let_call(self, binding if direct else None)

    def rest(self) -> None:
        """Let calls go through Python until a trace is bound again."""
        self._binding, self._bound = idle(Replayed.__call__), None

    def _into(self, out: Any, result: Any) -> Any:
        """Copy a result, which is an array or a tuple of arrays, to where it is wanted."""
        outs, results = (out, result) if type(result) is tuple else ((out,), (result,))
        if type(outs) is not tuple or len(outs) != len(results):
            raise TapeadTypeError(f"out= must be a tuple of {len(results)} arrays, as the result is one")
        for x, made in zip(outs, results, strict=True):
            check_out(x, made)
            x[...] = made
        return out

    def graph(self, *args: Any, colour: str | None = None, limit: int | None = NODES_SHOWN, **kwargs: Any) -> Graph:
        """Give the computational graph of a call, or of the last one; see `tapead.grad(f).graph`."""
        return graph_call(self, partial(self, *args, **kwargs), args, kwargs, colour, limit)

    def profile(self, *args: Any, **kwargs: Any) -> Profile:
        """Time a call, row by row; see `tapead.profile`."""
        return profile_call(self, partial(self, *args, **kwargs), args, kwargs)


def graph_call(
    replayed: Any, call: Callable[[], Any], args: Any, kwargs: Any, colour: str | None, limit: int | None
) -> Graph:
    """Do a call, if there are arguments, and give the graph of the trace that the last call ran."""
    if live_recordings():
        raise TapeadTypeError("graph shows replays: it cannot be used while a function is traced")
    if colour not in (None, "time"):
        raise TapeadValueError(f'colour must be "time" or None, not {colour!r}')
    seconds = None
    if colour == "time":
        if not args and not kwargs:
            raise TapeadTypeError('colour="time" times a call: give graph the arguments')
        seconds = [row.seconds for row in profile_call(replayed, call, args, kwargs).rows[1:]]
    elif args or kwargs:
        call()
    if replayed.last is None:
        raise TapeadTypeError(f"{replayed!r} was not called yet: give graph its arguments")
    graph: Graph = replayed.last.graph(replayed.function, seconds, limit)
    return graph


def profile_call(replayed: Any, call: Callable[[], Any], args: Any, kwargs: Any) -> Profile:
    """Do a call, and time the rows of the trace that it ran."""
    if live_recordings() or watching():
        when = "debug_nans is on" if watching() else "a function is traced"
        raise TapeadTypeError(f"profile times replays: it cannot be used while {when}")
    call()
    trace, leaves = replayed.last, flatten((args, kwargs))[0]
    if trace is None:
        raise TapeadTypeError(f"{replayed!r} made no trace of its own to profile")
    return profile_trace(
        repr(replayed), trace, [leaf if type(leaf) in PLAIN else normal(leaf) for leaf in leaves], call
    )


#: what is made: instances can be called by compiled code where the interpreter's objects can be read
_Made: Any = objects.callable_type(Replayed) if objects.readable() else Replayed


def replayed(function: Callable[..., Any], name: str) -> Replayed:
    """Make a function run as its tape."""
    made: Replayed = _Made(function, name)
    return made
