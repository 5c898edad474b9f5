"""Define by run: a tape that the user opens, and whose gradients are asked for afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .adjoint import pull
from .errors import TapeadTypeError, TapeadValueError
from .finite import look_at_result, watching
from .program import Program
from .record import Recording
from .tape import NODES_SHOWN, describe
from .tensor import Tensor

if TYPE_CHECKING:
    from .graph import Graph
    from .nodes import Nodes


class Tape(Recording):
    """Record NumPy code as it runs; then sweep the tape back once for the gradients.

    `variable(x)` makes a traced value of an array (float64 or float32) or float; `backward(y)` puts the gradients
    into the variables' `grad`. `print(tape)` lists its values, `graph()` draws them; `opcodes`, `operands` and `outputs` are its
    columns. Raises TypeError for values that cannot be differentiated, ValueError for a y of more than one element.

    >>> import numpy as np, tapead
    >>> with tapead.Tape() as tape:
    ...     x = tape.variable(np.array([1.0, 2.0]))
    ...     y = np.sum(x * x)
    >>> tape.backward(y)
    >>> x.grad.tolist()
    [2.0, 4.0]

    Source: R. E. Wengert, A simple automatic derivative evaluation program (1964).
    """

    def __init__(self) -> None:
        super().__init__(replays=False, watched=watching())
        self.variables: list[Tensor] = []
        self._inside: list[Any] = []

    def __enter__(self) -> Tape:
        if not self.live:
            raise TapeadTypeError("this tape has been closed: open a new one")
        super().__enter__()
        return self

    def variable(self, x: Any) -> Tensor:
        """Make a traced value to differentiate by."""
        if not self.live:
            raise TapeadTypeError("this tape has been closed: make variables within its `with` block")
        array = x if isinstance(x, float) else np.asarray(x)
        if np.asarray(array).dtype.kind != "f":
            raise TapeadTypeError(
                f"a variable of dtype {np.asarray(array).dtype} cannot be differentiated by: convert it with astype(float)"
            )
        if self.watch is not None:
            self.watch.given(array, f"variable {len(self.variables)}")
        tensor = self.enter(array, levels=1)
        self.variables.append(tensor)
        self._inside.append(tensor._value)
        return tensor

    def backward(self, y: Tensor, seed: Any = None) -> None:
        """Sweep back from y once: every variable's `grad` becomes the derivative of y (of sum(seed * y)) by it."""
        if type(y) is not Tensor or y.tape is not self:
            raise TapeadTypeError("backward() takes a value of this tape")
        if seed is None and y.size != 1:
            raise TapeadValueError(
                f"y has shape {y.shape}: reduce it to one number (np.sum), or give a seed of that shape"
            )
        if self.watch is not None:
            self._backward_written(y, np.ones(y.shape) if seed is None else seed)
            return
        target = y.buffer
        if seed is not None or y.ndim:
            target = self._seeded(y, np.ones(y.shape) if seed is None else seed)
        inputs = [self.storage_of[v.buffer] for v in self.variables]
        with np.errstate(all="ignore"):
            program = Program(self, inputs, [], target, range(len(inputs)))
        workspace = program.take()
        bound = [program.bind(workspace, k, value) for k, value in enumerate(self._inside)]
        gradients = [program.bind_gradient(workspace, k) for k in range(len(inputs))]
        program.run(workspace)
        del bound
        for k, (variable, gradient) in enumerate(zip(self.variables, gradients, strict=True)):
            variable.grad = gradient.copy() if variable.ndim else gradient[()]
            look_at_result(gradient, f"the gradient by variable {k}", "debug_nans was off when the tape was opened")

    def _seeded(self, y: Tensor, seed: Any) -> int:
        seed = self._checked_seed(y, seed)
        with self._live_again():
            total = self.sum(self.elementwise_op("multiply", y, seed), tuple(range(y.ndim)))
            return self.view(total, lambda v: v.reshape(())).buffer

    def _backward_written(self, y: Tensor, seed: Any) -> None:
        """Write the sweep on the tape, where it is looked at; take it back afterwards."""
        seed, start = self._checked_seed(y, seed), len(self)
        if self.watch is not None:
            self.watch.given(seed, "the seed")
        try:
            with self._live_again():
                gradients = pull(self, 0, [(y, self.tensor(seed))], self.variables)
        finally:
            self.take_back(start)
        for variable, gradient in zip(self.variables, gradients, strict=True):
            variable.grad = np.array(gradient._value, variable.dtype)[()]

    def _checked_seed(self, y: Tensor, seed: Any) -> Any:
        seed = np.asarray(seed, y.dtype)
        if seed.shape != y.shape:
            raise TapeadValueError(f"the seed has shape {seed.shape}, y has {y.shape}")
        return seed

    @contextmanager
    def _live_again(self) -> Iterator[None]:
        """Record in the body of a `with` statement, even if the tape was closed."""
        live, self.live = self.live, True
        try:
            with np.errstate(all="ignore"):
                yield
        finally:
            self.live = live

    def elementwise_op(self, name: str, *operands: Any) -> Tensor:
        """Record an elementwise op by name."""
        return self.structural(name, *operands)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return self.nodes().listing()

    def _repr_html_(self) -> str:
        from .markup import table

        title = f"Tape of {len(self):,} instructions"
        return table(title, ("node", "formula", "type", "line"), self.nodes().cells())

    def graph(self, limit: int | None = NODES_SHOWN) -> Graph:
        """Give the computational graph of what was recorded, to be drawn; results are what nothing reads.

        Of a long tape, repetitions and the middle are left out, so that about `limit` nodes are shown; None shows all.
        Raises ValueError for a limit below 8.

        >>> import numpy as np, tapead
        >>> with tapead.Tape() as tape:
        ...     x = tape.variable(2.0)
        ...     y = np.log(x) * x
        >>> print(tape.graph().mermaid().partition("  classDef")[0])
        flowchart LR
          v1(["v1<br/>input float64"])
          v2["v2 = log(v1)<br/>float64"]
          v3[["v3 = v2 * v1<br/>float64"]]
          v1 --> v2
          v2 --> v3
          v1 --> v3
        <BLANKLINE>
        """
        from .graph import graph_of

        return graph_of(self.nodes(), limit=limit)

    def nodes(self) -> Nodes:
        """Give what was recorded as nodes: values by name, v1, v2, ..., and how they are computed."""
        from .nodes import Nodes

        return Nodes(self)

    def where_recorded(self, instruction: int) -> str:
        """Say where in the user's code an instruction was recorded."""
        return describe(self.places[instruction])
