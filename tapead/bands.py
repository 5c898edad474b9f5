"""Bands: columns of which each element is zero but in one column, and the next element in the next.

Derivatives by a vector stay so through elementwise ops and slices: a vector for each band is all there is to know.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from .kernels.table import OPS, Elementwise
from .record import COPY, Recording
from .tape import CONSTANT, Buffer
from .tensor import Tensor
from .walk import Walk


class Line(NamedTuple):
    """Numbers at equal distances: the columns that elements stand in, or their places in memory."""

    start: int
    step: int

    def at(self, places: Line) -> Line:
        """Give the line of the elements at some places of this one."""
        return Line(self.start + self.step * places.start, self.step * places.step)

    def around(self, places: Line) -> Line | None:
        """Give the line of which this one is what lies at some places; None where there is none."""
        step, rest = divmod(self.step, places.step)
        return None if rest else Line(self.start - step * places.start, step)


def places_of(b: Buffer) -> Line | None:
    """Say where a buffer's elements lie in its storage, where that is at equal distances."""
    axes = [(dim, stride) for dim, stride in zip(b.shape, b.strides, strict=True) if dim != 1]
    step = expected = axes[-1][1] if axes else 1
    for dim, stride in reversed(axes):
        if stride != expected or not stride or not dim:
            return None
        expected *= dim
    return Line(b.offset, step)


class Bands(Walk):
    """A walk that keeps columns as bands where it can: for each storage, a vector for each line that its elements stand on.

    Lines are parallel (that of one element has the step 1), so no element stands in one column twice; no bands are columns of zeros. `columns` holds what is
    kept as a tensor (m, size): where both hold a storage, they are equal.
    """

    def __init__(self, recording: Recording, start: int, stop: int | None, count: int) -> None:
        super().__init__(recording, start, stop)
        self.count = count
        self.columns: dict[int, Tensor] = {}
        self.bands: dict[int, dict[Line, Tensor]] = {}

    def held(self, buffer: int) -> bool:
        """Whether a buffer depends on the columns."""
        return self.of[buffer] in self.columns or self.of[buffer] in self.bands

    def dense(self, s: int, dtype: np.dtype[Any]) -> Tensor:
        """Give the columns of a storage as a tensor: bands are written out."""
        if s not in self.columns:
            size = self.recording.storages[s].size
            self.columns[s] = self._written_out(self.bands[s], size, dtype, (self.count, size))
        return self.columns[s]

    def _written_out(
        self, bands: Mapping[Line, Tensor], size: int, dtype: np.dtype[Any], shape: tuple[int, ...]
    ) -> Tensor:
        """Add vectors to zeros, (columns, elements) or (columns,), where their lines say."""
        recording = self.recording
        flat = recording.empty((int(np.prod(shape)),), dtype)
        recording.write(flat, dtype.type(0))
        flat.storage.written = True
        apart = len(shape) > 1  # no two elements go to one place
        for line, vector in bands.items():
            columns = line.start + line.step * np.arange(size)
            inside = np.flatnonzero((columns >= 0) & (columns < self.count))
            if inside.size:
                first, n = int(inside[0]), inside.size
                part = recording.view(self.shaped(vector, (size,)), itemgetter(slice(first, first + n)))
                places = Line(*((line.start * size, line.step * size + 1) if apart else line)).at(Line(first, 1))
                into = recording.view(flat, itemgetter(slice(places.start, None, places.step)))
                into = recording.view(into, itemgetter(slice(0, n)))
                recording.overwrite(into, part if apart else recording.elementwise(OPS["add"], (into, part)))
        return self.shaped(flat, shape)

    def diagonal(self, buffer: int) -> Tensor | None:
        """Give the diagonal of a buffer's columns, if they are a diagonal matrix."""
        bands, size = self._bands_of(buffer), self.recording.tensor_of(buffer).size
        if size == self.count and bands is not None and list(bands) == [(0, 1)]:
            return bands[Line(0, 1)]
        return None

    def _bands_of(self, buffer: int) -> dict[Line, Tensor] | None:
        """Give the bands of a buffer, of vectors in its shape: none for zeros; None where it is no bands."""
        recording, s = self.recording, self.of[buffer]
        b = recording.buffers[buffer]
        if not self.held(buffer):
            zero = recording.storages[s].kind is CONSTANT and not np.any(recording.tensor_of(buffer)._value)
            return {} if zero else None
        places = places_of(b)
        if s not in self.bands or places is None:
            return None
        whole, one = recording.is_whole(buffer), int(np.prod(b.shape)) == 1
        found = {}
        for line, v in self.bands[s].items():
            own = line.at(places)
            found[Line(own.start, 1) if one else own] = self.shaped(v, b.shape) if whole else self.stretch(v, buffer)
        return found

    def by_bands(self, k: int) -> bool:
        """Write an instruction for each band, where its result is made of bands, too; say whether it is."""
        recording = self.recording
        op, operands, target = recording.ops[k], recording.operand_buffers[k], recording.result_buffers[k][0]
        b = recording.buffers[target]
        writes = op.name == "assign" or (op is COPY and not recording.is_whole(target))
        zeros = (0,) if writes else op.zeros if isinstance(op, Elementwise) else ()
        if not zeros or b.dtype.kind != "f":
            return False
        given: dict[int, dict[Line, Tensor]] = {}
        for i in {*zeros, *(i for i, x in enumerate(operands) if self.held(x))}:
            bands = self._bands_of(operands[i])
            if bands is None or (bands and recording.buffers[operands[i]].shape != b.shape):
                return False
            given[i] = bands
        if not self._are_few({line for bands in given.values() for line in bands}):
            return False
        if writes:
            return self._put(target, given[0])
        zero = recording.tensor(np.zeros((), b.dtype))
        made = {}
        for line in sorted(set().union(*(given[i] for i in zeros))):
            these = [given[i].get(line, zero) if i in given else self.value(x) for i, x in enumerate(operands)]
            made[line] = self.again(k, these)
            self.look(made[line], target)
        self._keep(self.of[target], made)
        return True

    def _put(self, target: int, bands: dict[Line, Tensor]) -> bool:
        """Write bands into those of memory, or of a part of it; say whether they can be."""
        recording, s = self.recording, self.of[target]
        b, own = recording.buffers[target], self.bands.get(s)
        bands = {line: v if v.dtype == b.dtype else recording.cast(v, b.dtype) for line, v in bands.items()}
        if recording.is_whole(target):
            self._keep(s, {line: recording.elementwise(COPY, (v,)) for line, v in bands.items()})
            return True
        if own is None and (s in self.columns or recording.storages[s].written):
            return False
        places, own = places_of(b), own or {}
        around = {} if places is None else {line.around(places): v for line, v in bands.items()}
        lines = sorted({*own, *(line for line in around if line is not None)})
        if places is None or None in around or not self._are_few(lines):
            return False
        zero = recording.tensor(np.zeros((), b.dtype))
        for line in lines:
            own[line] = memory = own[line] if line in own else self.memory(target, None)
            recording.overwrite(self.stretch(memory, target), around.get(line, zero))
            self.look(memory, target)
        self._keep(s, own)
        return True

    def _keep(self, s: int, bands: dict[Line, Tensor]) -> None:
        self.bands[s] = bands
        self.columns.pop(s, None)

    def total(self, k: int) -> Tensor | None:
        """Write a sum over all elements of bands: the columns of one number; None where the instruction is something else."""
        recording = self.recording
        x, target = recording.operand_buffers[k][0], recording.result_buffers[k][0]
        a, b = recording.buffers[x], recording.buffers[target]
        bands = self._bands_of(x) if self.held(x) else None
        if recording.ops[k].name != "sum" or bands is None or np.prod(b.shape) != 1 or a.dtype != b.dtype:
            return None
        size = int(np.prod(a.shape))
        return self.shaped(self._written_out(bands, size, b.dtype, (self.count,)), (self.count, *b.shape))

    def _are_few(self, lines: Collection[Line]) -> bool:
        """Whether bands on some lines take less time than columns: few, and side by side."""
        return len(lines) <= min(8, self.count // 2 - 1) and len({line.step for line in lines}) <= 1
