"""Run the kernels of one structural op on hand-made tables, without tape, planner or program."""

import ctypes

import numpy as np

from tapead.kernels import blas, constants, library
from tapead.kernels.op import Layout
from tapead.kernels.table import OPS

ENTRY = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
NUMBER = {"f8": constants.F8, "f4": constants.F4, "i8": constants.I8, "b1": constants.B1}


def address(array):
    return array.__array_interface__["data"][0]


class OneOp:
    """An op on given operands: `forward()` gives the status, `reverse(z̄)` the adjoints of all operands.

    What the kernels write is filled with NaN first, adjoints of operands with 1 (they must be added to) or, for those
    in the bit mask `first`, with NaN; around them and behind the scratch memory lies a rim that must stay untouched.
    """

    def __init__(self, name, operands, parameters=None):
        self.op = OPS[name]
        self.operands = [np.array(x, order="C") if self.op.contiguous else np.asarray(x) for x in operands]
        made = self.op.numpy(*operands, **(parameters or {}))
        self.expected = [np.array(z, order="C") for z in (made if isinstance(made, tuple) else (made,))]
        self.results = [np.full_like(z, np.nan if z.dtype.kind == "f" else -9) for z in self.expected]
        arrays = [*self.operands, *self.results]
        layouts = [
            Layout(k, x.shape, tuple(s // x.itemsize for s in x.strides), NUMBER[x.dtype.str[1:]])
            for k, x in enumerate(arrays)
        ]
        given, made = layouts[: len(self.operands)], layouts[len(self.operands) :]
        self.given, self.made, self.parameters = given, made, parameters or {}
        self.number = given[0].number
        self.scratch = np.full(self.op.scratch(given, made) // 8 + 4, np.nan)
        self.status = np.zeros(4, np.int64)
        self.index, self.functions = np.zeros(8, np.int64), blas.functions_table()
        self.services = np.zeros(constants.SERVICE_SLOTS, np.int64)
        self.services[constants.STRIPS] = 1
        self.services[constants.SCRATCH] = address(self.scratch)
        self.services[constants.STATUS] = address(self.status)
        self.services[constants.INDEX] = address(self.index)
        self.services[constants.FUNCTIONS] = address(self.functions)
        self.values = np.array([address(x) for x in arrays], np.int64)

    def _call(self, kernel, adjoints, **more):
        group = library.load(self.op.group)
        place = library.structural_kernels(self.op.group).index(kernel)
        words = self.op.words(self.given, self.made, self.parameters | more)
        p = np.array([place, self.number, *words], np.int64)
        tables = (p, self.values, adjoints, self.services)
        status = ENTRY(group.kernel.address)(*[address(t) for t in tables])
        assert np.isnan(self.scratch[-4:]).all(), "scratch memory overrun"
        return status

    def forward(self):
        return self._call(self.op.forward, np.zeros_like(self.values))

    def reverse(self, bar, active=None, first=0):
        bar = np.array(bar, self.expected[0].dtype, order="C")
        table, gradients = np.zeros_like(self.values), []
        for k in self.op.active if active is None else active:
            x = self.operands[k]
            memory, own = _same_layout(x)
            gradients.append((memory, own))
            if first >> k & 1:
                own[...] = np.nan
            table[k] = address(own)
        table[len(self.operands)] = address(bar)
        assert self._call(self.op.reverse, table, **({"first": first} if first else {})) == 0
        for k, (_, own) in zip(self.op.active if active is None else active, gradients, strict=True):
            if first >> k & 1:  # the rim around what was stored is 1 still
                _raise(own)
        for memory, own in gradients:
            outside = np.ones(memory.shape, bool)
            _place(outside, memory, own)[...] = False
            assert (memory[outside] == 1).all(), "written outside the adjoint"
        return [own - 1 for _, own in gradients]


def _raise(x):
    """Add 1 to every number once, also where several elements of x are one number."""
    x[...] = x.copy() + 1


def _same_layout(x):
    """Give an array of ones with x's strides, and the memory that it lies in, with a rim on either side."""
    span = [(dim - 1) * s // x.itemsize for dim, s in zip(x.shape, x.strides, strict=True) if dim]
    rim = 5 - sum(s for s in span if s < 0)
    memory = np.ones(rim + 6 + sum(s for s in span if s > 0), x.dtype)
    return memory, np.lib.stride_tricks.as_strided(memory[rim:], x.shape, x.strides)


def _place(outside, memory, own):
    start = (address(own) - address(memory)) // memory.itemsize
    strides = tuple(s // memory.itemsize for s in own.strides)
    return np.lib.stride_tricks.as_strided(outside[start:], own.shape, strides)


def check(name, operands, parameters=None):
    """Assert that an op's kernels give NumPy's values, and the slopes of op.numpy along random directions."""
    rng = np.random.default_rng(5)
    one = OneOp(name, operands, parameters)
    single = one.operands[0].dtype == np.float32
    assert one.forward() == 0
    for got, expected in zip(one.results, one.expected, strict=True):
        np.testing.assert_allclose(got, expected, rtol=2e-4 if single else 1e-12, atol=2e-5 if single else 1e-13)
    bar = rng.uniform(-1, 1, one.expected[0].shape)
    gradients = one.reverse(bar)
    if one.op.stores:
        for first in range(1, 1 << len(one.operands)):
            for added, stored in zip(gradients, one.reverse(bar, first=first), strict=True):
                np.testing.assert_allclose(
                    stored, added, rtol=1e-4 if single else 1e-12, atol=1e-5 if single else 1e-13
                )
    for k, gradient in zip(one.op.active, gradients, strict=True):
        np.testing.assert_array_equal(gradient, one.reverse(bar, active=[k])[0])
        x = one.operands[k].astype(float)
        direction = rng.uniform(-1, 1, x.shape)

        def at(step, k=k, x=x, direction=direction):
            moved = [o.astype(float) for o in one.operands]
            moved[k] = x + step * direction
            z = one.op.numpy(*moved, **(parameters or {}))
            return np.sum(bar * (z[0] if isinstance(z, tuple) else z))

        h = 1e-3
        slope = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        np.testing.assert_allclose(np.sum(gradient * direction), slope, rtol=1e-3 if single else 1e-8, atol=1e-8)
