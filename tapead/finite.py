"""Looking for NaN and infinities: the switch, and what looks at a recording's values and derivatives as they are made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .binding import let_calls
from .errors import TapeadFloatingPointError, TapeadTypeError
from .tape import CONSTANT, WRITES, Place, describe, user_place

if TYPE_CHECKING:
    from .record import Recording
    from .tensor import Tensor

NAN, BOTH = "NaN", "NaN or infinite"
#: what is looked for: None, `NAN` or `BOTH`
_sought: str | None = None


def watching() -> bool:
    """Whether values are looked at: then nothing is replayed."""
    return _sought is not None


def _switch(sought: str | None) -> str | None:
    """Look for something else from now on; give what was looked for before."""
    global _sought
    former, _sought = _sought, sought
    let_calls(sought is None)
    return former


class debug_nans:
    """Look for the first value or derivative that is NaN or infinite, and raise an error that says where it arose.

    `tapead.debug_nans()`, or `debug_nans(True)`, switches it on at once and `debug_nans(False)` off; as a context manager
    it puts back at the end what was before. With infinite=False only NaN is looked for. It holds for the whole process.

    While it is on, nothing is replayed: each call of a transform runs the function anew, in NumPy, so that the error is
    raised in the very line of it that made the value; results are as usual but for rounding, and come much later. The
    error names the op, the line, and the range, shape and dtype of the operands; for a derivative, in both modes and of
    any order, the op whose adjoint or tangent it is, and the line that recorded it. An argument that is not finite is
    named by its path. What is looked at is every value of the function, also where it is not chosen: in
    `np.where(x > 0, np.log(x), 0)` the logarithm of a negative number is reported. An adjoint that is exactly zero
    contributes zero, as always, even where the partial is infinite. A `Tape`, or the linear map of `linearize` and `vjp`,
    is looked into if it was made while the switch was on; else only its results are looked at.

    Raises FloatingPointError where it finds something, TypeError for anything but True and False.

    >>> import numpy as np, tapead
    >>> try:
    ...     with tapead.debug_nans():
    ...         tapead.grad(lambda x: np.sum(np.sqrt(x)))(np.array([0.0, 4.0]))
    ... except FloatingPointError as error:
    ...     print(str(error).split(",")[0])
    the adjoint of sqrt
    """

    def __init__(self, on: bool = True, *, infinite: bool = True) -> None:
        for value in (on, infinite):
            if not isinstance(value, bool):
                raise TapeadTypeError(f"debug_nans takes True or False, not {type(value).__name__} {value!r}")
        self._chosen = (BOTH if infinite else NAN) if on else None
        self._former = _switch(self._chosen)
        self._entered = False

    def __repr__(self) -> str:
        return f"<debug_nans looking for {self._chosen or 'nothing'}>"

    def __enter__(self) -> None:
        if self._entered:  # used before: the switch may have been put elsewhere since
            self._former = _switch(self._chosen)
        self._entered = True

    def __exit__(self, *exception: Any) -> None:
        _switch(self._former)


class Origin(NamedTuple):
    """What a walk writes at the moment: "adjoint" or the like, of an instruction; and the place of the walk itself."""

    what: str
    instruction: int
    place: Place


class Watch:
    """Looks at the values of a recording as they are made, and at the derivatives that walks write.

    What a walk writes besides (partials, and whatever rules compute on the way) is no value of the function and no
    derivative: it may well be infinite where it does no harm, and is not looked at.
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.sought = _sought
        self.origin: Origin | None = None
        self._origins: dict[int, Origin] = {}  # instructions written by walks
        self._between: set[int] = set()  # storages that they made
        self._derived: dict[int, Origin] = {}  # storages that hold derivatives
        self._looking = True

    # ---- what happens ------------------------------------------------------------------------------------------------

    def recorded(self) -> None:
        """Look at what the last instruction made, if the user's code asked for it."""
        recording = self.recording
        k = len(recording) - 1
        if self.origin is not None and recording.places[k] == self.origin.place:
            self._origins[k] = self.origin
            self._between.update(self._storages(k))
            return
        results = recording.result_buffers[k]
        for b in results[:1] if recording.ops[k].name in WRITES else results:
            value = self._value(b)
            if self._looking and is_bad(value, self.sought):
                raise error(self._named(k), value, self._operands(k))

    def walk(self, what: str, instructions: Iterable[int], step: Callable[[int], None]) -> None:
        """Take the steps of a walk that writes something ("adjoint", "tangent") for each of some instructions."""
        place, former = user_place(), self.origin
        try:
            for k in instructions:
                self.origin = Origin(what, k, place)
                step(k)
        finally:
            self.origin = former

    @contextmanager
    def looking_away(self) -> Iterator[None]:
        """Look at nothing in the body of a `with` statement: what it records is on zeros, and its values are not used."""
        former, self._looking = self._looking, False
        try:
            yield
        finally:
            self._looking = former

    def derived(self, made: Tensor, of: int, near: Callable[[int], Sequence[tuple[str, Any]]]) -> None:
        """Look at the derivative of a storage that a walk has written for the instruction at hand.

        near gives what the derivative is made of. A derivative of what an earlier walk has written on its way (partials
        and the like), taken by what else it has written there, is not looked at: it goes into one that is.
        """
        origin = self.origin
        if origin is None or (origin.instruction in self._origins and self._is_between(of)):
            return
        self._derived.setdefault(self.recording.storage_of[made.buffer], origin)
        if self._looking and is_bad(made._value, self.sought):
            name = f"the {origin.what} of {self._named(origin.instruction)}"
            raise error(name, made._value, [*self._operands(origin.instruction), *near(origin.instruction)])

    def given(self, value: Any, name: str) -> None:
        """Look at a value that the caller gave."""
        if is_bad(value, self.sought):
            raise error(name, value, ())

    # ---- words -------------------------------------------------------------------------------------------------------

    def _is_between(self, s: int) -> bool:
        return s in self._between and s not in self._derived

    def _storages(self, k: int) -> list[int]:
        recording = self.recording
        return [recording.storage_of[b] for b in recording.result_buffers[k]]

    def _origin(self, k: int) -> Origin | None:
        """Give what an instruction's result is a derivative of, or was written for."""
        known = [self._derived[s] for s in self._storages(k) if s in self._derived]
        return next((o for o in [*known, self._origins.get(k)] if o is not None and o.instruction < k), None)

    def _named(self, k: int) -> str:
        """Name what an instruction makes."""
        recording, origin = self.recording, self._origin(k)
        if origin is not None:
            return f"the {origin.what} of {self._named(origin.instruction)}"
        return f"{recording.ops[k].name}, recorded at {describe(recording.places[k])},"

    def _value(self, b: int) -> Any:
        recording = self.recording
        kept = recording.kept
        if kept is not None and b in kept:
            return kept[b]
        constant = recording.storages[recording.storage_of[b]].kind is CONSTANT
        return recording.tensor_of(b)._value if constant else None

    def _operands(self, k: int) -> list[tuple[str, Any]]:
        """Give the operands of the user's instruction behind one."""
        recording, origin = self.recording, self._origin(k)
        if origin is not None:
            return self._operands(origin.instruction)
        found = []
        for i, b in enumerate(recording.operand_buffers[k], 1):
            storage = recording.storages[recording.storage_of[b]]
            kind = "constant " if storage.kind is CONSTANT else ""
            since = " (assigned to since)" if storage.written else ""
            found.append((f"{kind}operand {i} of {recording.ops[k].name}{since}", self._value(b)))
        return found


def is_bad(value: Any, sought: str | None) -> bool:
    """Whether a value holds a number that is looked for."""
    if getattr(value, "dtype", _FLOAT).kind != "f" or value is None:
        return False
    return bool(np.isnan(value).any()) if sought == NAN else not np.isfinite(value).all()


def look_at_result(value: Any, name: str, why: str) -> None:
    """Look at a result of sweeps, which could not be looked into, and say why."""
    if _sought is not None and is_bad(value, _sought):
        raise TapeadFloatingPointError(f"{name} is not finite: {ranged(value)}. It could not be looked into, as {why}")


def error(name: str, value: Any, near: Sequence[tuple[str, Any]]) -> TapeadFloatingPointError:
    """Make the error for a value that is not finite; near are those that it is made of."""
    hint = "" if np.isnan(value).any() else " (debug_nans(infinite=False) lets infinities pass)"
    lines = [f"{name} is not finite: {ranged(value)}{hint}"]
    lines += [f"  {what}: {ranged(of)}" for what, of in near if of is not None]
    return TapeadFloatingPointError("\n".join(lines))


def ranged(value: Any) -> str:
    """Say a value's dtype, shape and range, and how many of its numbers are not finite."""
    array = np.asarray(value)
    if not array.ndim:
        return f"{array.dtype} {array.item()!r}"
    text = f"{array.dtype} of shape {array.shape}"
    if not array.size:
        return text
    finite = array[np.isfinite(array)]
    counts = [(int(np.isnan(array).sum()), "NaN")]
    counts += [(int((array == infinity).sum()), str(infinity)) for infinity in (np.inf, -np.inf)]
    parts = [f"{count} of {array.size} {what}" for count, what in counts if count]
    if finite.size:
        low, high = finite.min().item(), finite.max().item()
        parts.append(f"{'the others ' * bool(parts)}{'all' if low == high else f'from {low!r} to'} {high!r}")
    return f"{text}, {', '.join(parts)}"


_FLOAT = np.dtype(float)
