"""A slow, obvious interpreter of a tape in plain NumPy: what the jitted sweeps must agree with.

No blocks, no scalar runs, no plan: every instruction in order on arrays, then every instruction in reverse order,
each rule written as a formula. Adjoints are arrays laid out like the storages, so views of one are views of the other.
"""

import numpy as np

from tapead.kernels import elementwise
from tapead.kernels.table import Elementwise

EXPRESSIONS = {name: getattr(np, name) for name in elementwise.FUNCTIONS if hasattr(np, name)}
EXPRESSIONS |= {"where": np.where, "abs": np.abs}


def erf(x):
    from scipy.special import erf as reference

    return reference(x)


EXPRESSIONS["erf"] = erf


def outer_reach(view, b):
    """Give a buffer's view of a flat storage."""
    return np.lib.stride_tricks.as_strided(view[b.offset :], b.shape, [s * view.itemsize for s in b.strides])


class Interpreter:
    """Runs a recorded tape on the values that its inputs had, or on others."""

    def __init__(self, tape, inputs, values):
        self.tape = tape
        self.values, self.adjoints = {}, {}
        for s, storage in enumerate(tape.storages):
            dtype = next(
                (b.dtype for b, of in zip(tape.buffers, tape.storage_of, strict=True) if of == s), np.dtype(float)
            )
            if storage.kind == "constant":
                self.values[s] = np.array(storage.data, dtype).reshape(-1)
            else:
                self.values[s] = np.zeros(storage.size, dtype)
            if dtype.kind == "f":
                self.adjoints[s] = np.zeros(storage.size, dtype)
        for s, value in zip(inputs, values, strict=True):
            self.values[s][:] = np.asarray(value).reshape(-1)
        self.undo = []

    def value(self, buffer):
        b = self.tape.buffers[buffer]
        return outer_reach(self.values[self.tape.storage_of[buffer]], b)

    def adjoint(self, buffer):
        b = self.tape.buffers[buffer]
        return outer_reach(self.adjoints[self.tape.storage_of[buffer]], b)

    def add(self, buffer, contribution):
        """Add element by element: a buffer may name one place several times."""
        target = self.adjoint(buffer)
        contribution = np.asarray(contribution)
        extra = contribution.ndim - target.ndim
        contribution = contribution.sum(axis=tuple(range(extra))) if extra > 0 else contribution
        wide = tuple(i for i in range(target.ndim) if target.shape[i] == 1 and contribution.shape[i] != 1)
        contribution = np.broadcast_to(
            contribution.sum(axis=wide, keepdims=True) if wide else contribution, target.shape
        )
        for place in np.ndindex(target.shape):
            target[place] += contribution[place]

    def forward(self):
        tape = self.tape
        for k, op in enumerate(tape.ops):
            operands = [self.value(b) for b in tape.operand_buffers[k]]
            results = [self.value(b) for b in tape.result_buffers[k]]
            parameters = {key: v for key, v in (tape.parameters[k] or {}).items() if key != "computed"}
            self.undo.append(None)
            if op.name == "guard":
                continue
            if op.name == "assign":
                self.undo[k] = results[0].copy()
                results[1][...] = results[0]
                results[0][...] = operands[0]
            elif op.name == "scatter":
                self.undo[k] = results[0].copy()
                op.numpy(*operands, into=results[0], **parameters)
            elif op.name == "sum":
                axes = tuple(i for i in range(operands[0].ndim) if results[0].ndim and results[0].shape[i] == 1)
                results[0][...] = np.sum(operands[0], axis=axes, keepdims=True) if axes else operands[0]
            else:
                with np.errstate(all="ignore"):
                    made = op.numpy(*operands, **parameters)
                for result, part in zip(results, made if isinstance(made, tuple) else (made,), strict=True):
                    result[...] = part

    def reverse(self, target):
        tape = self.tape
        self.adjoint(target)[...] += 1
        for k in range(len(tape) - 1, -1, -1):
            op, operands, results = tape.ops[k], tape.operand_buffers[k], tape.result_buffers[k]
            if not results or tape.buffers[results[0]].dtype.kind != "f":
                continue
            if op.name in ("assign", "scatter"):
                self.undo_write(k)
            elif isinstance(op, Elementwise):
                self.elementwise(op, operands, results[0])
            elif op.active:
                contributions = getattr(self, op.name)(operands, results, tape.parameters[k] or {})
                for b, contribution in zip(operands, contributions, strict=False):
                    if contribution is not None:
                        self.add(b, contribution)

    def undo_write(self, k):
        tape = self.tape
        e, y = tape.operand_buffers[k][0], tape.result_buffers[k][0]
        d = self.adjoint(y)
        if tape.ops[k].name == "assign":
            taken, where = d.copy(), Ellipsis
            d[...] = 0
            self.add(e, taken) if tape.buffers[e].dtype.kind == "f" else None
        else:
            axes = tape.parameters[k]["axes"]
            front = np.moveaxis(d, axes, range(len(axes)))
            indices = [self.value(b) for b in tape.operand_buffers[k][1:]]
            for s in range(len(indices[0]) - 1, -1, -1):
                where = tuple(int(i[s]) for i in indices)
                self.adjoint(e)[s] += front[where]
                front[where] = 0
        self.value(y)[...] = self.undo[k]

    def elementwise(self, op, operands, result):
        d = self.adjoint(result).copy()
        names = dict(EXPRESSIONS)
        names |= {name: self.value(b) for name, b in zip("xyw", operands, strict=False)} | {"z": self.value(result)}
        with np.errstate(all="ignore"):
            for b, partial in zip(operands, op.partials, strict=True):
                if partial is not None and self.tape.buffers[b].dtype.kind == "f":
                    p = np.broadcast_to(np.asarray(eval(partial, {}, names), float), d.shape)
                    zero = (d == 0) | (p == 0) if op.select else d == 0
                    self.add(b, np.where(zero, 0, d * p))

    # ---- structural ops, a formula each --------------------------------------------------------------------------

    def sum(self, operands, results, parameters):
        return (np.broadcast_to(self.adjoint(results[0]), self.value(operands[0]).shape),)

    def prod(self, operands, results, parameters):
        x, d = self.value(operands[0]), self.adjoint(results[0])
        out = np.zeros_like(x)
        for r, i in np.ndindex(x.shape):
            out[r, i] = d[r] * np.prod(np.delete(x[r], i))
        return (out,)

    def max(self, operands, results, parameters):
        x, z, d = self.value(operands[0]), self.value(results[0]), self.adjoint(results[0])
        ties = x == z[:, None]
        return (np.where(ties, d[:, None] / np.maximum(ties.sum(axis=1, keepdims=True), 1), 0),)

    min = max

    def cumsum(self, operands, results, parameters):
        return (np.cumsum(self.adjoint(results[0])[:, ::-1], axis=1)[:, ::-1],)

    def matmul(self, operands, results, parameters):
        a, b, d = self.value(operands[0]), self.value(operands[1]), self.adjoint(results[0])
        return d @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ d

    def gather(self, operands, results, parameters):
        x, d = self.value(operands[0]), self.adjoint(results[0])
        out = np.zeros_like(x)
        axes = parameters["axes"]
        np.add.at(np.moveaxis(out, axes, range(len(axes))), tuple(self.value(b) for b in operands[1:]), d)
        return (out,)

    def spread(self, operands, results, parameters):
        axes = parameters["axes"]
        front = np.moveaxis(self.adjoint(results[0]), axes, range(len(axes)))
        return (front[tuple(self.value(b) for b in operands[1:])],)

    def cholesky(self, operands, results, parameters):
        lower, d = self.value(results[0]), np.tril(self.adjoint(results[0]))
        inner = np.tril(np.swapaxes(lower, -1, -2) @ d)
        index = np.arange(lower.shape[-1])
        inner[..., index, index] /= 2
        inverse = np.linalg.inv(lower)
        s = np.swapaxes(inverse, -1, -2) @ inner @ inverse
        s = s + np.swapaxes(s, -1, -2)
        half = s.copy()
        half[..., index, index] /= 2
        return (np.tril(half),)

    def solve(self, operands, results, parameters):
        a, x, d = self.value(operands[0]), self.value(results[0]), self.adjoint(results[0])
        b = np.linalg.solve(np.swapaxes(a, -1, -2), d)
        return -b @ np.swapaxes(x, -1, -2), b

    def solve_triangular(self, operands, results, parameters):
        a, x, d = self.value(operands[0]), self.value(results[0]), self.adjoint(results[0])
        used = np.tril(a) if parameters["lower"] else np.triu(a)
        index = np.arange(a.shape[-1])
        if parameters["unit"]:
            used[..., index, index] = 1
        matrix = np.swapaxes(used, -1, -2) if parameters["transposed"] else used
        b = np.linalg.solve(np.swapaxes(matrix, -1, -2), d)
        full = -b @ np.swapaxes(x, -1, -2)
        full = np.swapaxes(full, -1, -2) if parameters["transposed"] else full
        full = np.tril(full) if parameters["lower"] else np.triu(full)
        if parameters["unit"]:
            full[..., index, index] = 0
        return full, b

    def det(self, operands, results, parameters):
        a, d = self.value(operands[0]), self.adjoint(results[0])
        out = np.zeros_like(a)
        for place in np.ndindex(a.shape):
            *batch, i, j = place
            minor = np.delete(np.delete(a[tuple(batch)], i, 0), j, 1)
            out[place] = d[tuple(batch)] * (-1) ** (i + j) * np.linalg.det(minor)
        return (out,)

    def slogdet(self, operands, results, parameters):
        a, d = self.value(operands[0]), self.adjoint(results[0])
        return (d[..., None, None] * np.swapaxes(np.linalg.inv(a), -1, -2),)
