"""Scaled columns: columns that are others, each element times a factor that is the same in each column.

The tangent of a dense layer goes through one elementwise operation after another, each of which multiplies it by
partials. These are multiplied with each other instead, as vectors, and once with all columns, when that is wanted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .bands import Bands
from .kernels.table import OPS
from .record import Recording
from .tensor import Tensor

CHAIN, NEGATIVE, SUMS = OPS["chain"], OPS["negative"], (OPS["add"], OPS["subtract"])


class Product(NamedTuple):
    """Columns (m, size), and the factors (size,) of their elements."""

    columns: Tensor
    factors: Tensor


class Scaled(Bands):
    """A walk that keeps columns as products where it can, in `scaled`, until they are wanted as a tensor."""

    def __init__(self, recording: Recording, start: int, stop: int | None, count: int) -> None:
        super().__init__(recording, start, stop, count)
        self.scaled: dict[int, Product] = {}

    def held(self, buffer: int) -> bool:
        return super().held(buffer) or self.of[buffer] in self.scaled

    def dense(self, s: int, dtype: np.dtype[Any]) -> Tensor:
        if s not in self.columns and s in self.scaled:
            self.columns[s] = self.recording.elementwise(CHAIN, self.scaled[s])
        return super().dense(s, dtype)

    def by_factors(self, k: int) -> bool:
        """Write an instruction for factors alone, where its result is scaled columns, too; say whether it was written."""
        recording = self.recording
        op, operands, target = recording.ops[k], recording.operand_buffers[k], recording.result_buffers[k][0]
        if op is not CHAIN and op is not NEGATIVE and op not in SUMS:
            return False
        if len({recording.buffers[b].dtype for b in (*operands, target)}) > 1:
            return False
        made = self._multiplied(operands[0], operands[1], target) if op is CHAIN else self._combined(k, target)
        if made is not None:
            self.scaled[self.of[target]] = made
        return made is not None

    def _multiplied(self, x: int, partial: int, target: int) -> Product | None:
        """Give columns times a partial that is the same in each."""
        s, shape = self.of[x], self.recording.buffers[target].shape
        if self.held(partial) or not self._are_alike((x, target)) or not (s in self.scaled or s in self.columns):
            return None
        value = self.recording.view(self.value(partial), lambda v: np.broadcast_to(v, shape))
        factors = self.shaped(self.recording.contiguous(value), (value.size,))
        if s not in self.scaled:
            return Product(self.columns[s], factors)
        columns, former = self.scaled[s]
        return Product(columns, self.recording.elementwise(CHAIN, (former, factors)))

    def _combined(self, k: int, target: int) -> Product | None:
        """Give the sum or the difference of scaled columns, or their negative, if the columns are the same."""
        operands = self.recording.operand_buffers[k]
        products = [self.scaled.get(self.of[b]) for b in operands]
        first = products[0]
        if first is None or not self._are_alike((*operands, target)):
            return None
        if any(p is None or p.columns is not first.columns for p in products):
            return None
        return Product(first.columns, self.again(k, [p.factors for p in products if p is not None]))

    def _are_alike(self, buffers: tuple[int, ...]) -> bool:
        """Whether buffers are all of their storages, in one shape."""
        recording = self.recording
        return len({recording.buffers[b].shape for b in buffers}) == 1 and all(map(recording.is_whole, buffers))
