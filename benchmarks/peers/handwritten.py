"""Gradients derived and written by hand, compiled by numba: what a patient person can reach."""

from collections.abc import Callable
from math import cos, exp, log, log1p, sin
from typing import Any

import numpy as np
from numba import njit

from ..problems import Problem
from . import Run, read_all

NAME = "by hand (numba)"

SUMS = {"contract", "reassoc"}  # sums in any order: without it LLVM may not vectorise them
TILE = 64  # points of the mixture whose intermediates stay in the cache


def prepare(problem: Problem) -> Run | None:
    """Define the kernel anew, so that its first call compiles it."""
    write = KINDS.get(problem.kind)
    return write(*problem.arguments, *problem.batch, *problem.constants) if write else None


def rosenbrock(x: Any) -> Run:
    @njit(error_model="numpy", fastmath=SUMS)
    def sweep(x, g):
        value = 0.0
        g[0] = 0.0
        for i in range(x.size - 1):
            t = x[i + 1] - x[i] * x[i]
            u = 1.0 - x[i]
            value += 100.0 * t * t + u * u
            g[i] -= 400.0 * x[i] * t + 2.0 * u
            g[i + 1] = 200.0 * t
        return value

    g = np.empty_like(x)
    return Run(lambda: sweep(x, g), lambda value: read_all((value, g)))


def logistic(w: Any, features: Any, signs: Any) -> Run:
    @njit(error_model="numpy", fastmath=SUMS)
    def sweep(w, features, signs, g):
        value = 0.0
        g[:] = 0.0
        for i in range(signs.size):
            margin = 0.0
            for j in range(w.size):
                margin += features[i, j] * w[j]
            e = exp(-signs[i] * margin)
            value += log1p(e)
            scale = -signs[i] * e / (1.0 + e)
            for j in range(w.size):
                g[j] += scale * features[i, j]
        for j in range(w.size):
            g[j] /= signs.size
        return value / signs.size

    g = np.empty_like(w)
    return Run(lambda: sweep(w, features, signs, g), lambda value: read_all((value, g)))


def loop(a: float, b: float, steps: int) -> Run:
    @njit(error_model="numpy")
    def sweep(a, b, kept):
        for k in range(kept.size):
            kept[k] = b
            a, b = a + 0.01 * sin(b), b - 0.01 * a
        da, db = b, a
        for k in range(kept.size - 1, -1, -1):
            da, db = da - 0.01 * db, db + 0.01 * cos(kept[k]) * da
        return a * b, da, db

    kept = np.empty(steps)
    return Run(lambda: sweep(a, b, kept), lambda result: read_all((result[0], result[1:])))


def softmax(weights: Any, bias: Any, images: Any, labels: Any) -> Run:
    @njit(error_model="numpy")
    def sweep(weights, bias, images, labels, scores, d_weights, d_bias):
        rows, classes = scores.shape
        np.dot(images, weights, scores)
        value = 0.0
        d_bias[:] = 0.0
        for i in range(rows):
            top = -np.inf
            for j in range(classes):
                scores[i, j] += bias[j]
                top = max(top, scores[i, j])
            value -= scores[i, labels[i]] - top
            total = 0.0
            for j in range(classes):
                scores[i, j] = exp(scores[i, j] - top)
                total += scores[i, j]
            value += log(total)
            for j in range(classes):
                scores[i, j] /= total * rows
            scores[i, labels[i]] -= 1.0 / rows
            for j in range(classes):
                d_bias[j] += scores[i, j]
        np.dot(images.T, scores, d_weights)
        return value / rows

    scores = np.empty((labels.size, bias.size))
    gradients = (np.empty_like(weights), np.empty_like(bias))
    return Run(
        lambda: sweep(weights, bias, images, labels, scores, *gradients),
        lambda value: read_all((value, gradients)),
    )


def elementwise(x: Any, y: Any) -> Run:
    two = x.dtype.type(2)

    @njit(error_model="numpy", fastmath=SUMS)
    def sweep(x, y, gx, gy):
        value = 0.0
        for i in range(x.size):
            s, c, e = np.sin(x[i]), np.cos(x[i]), np.exp(-x[i])
            d = x[i] - y[i]
            value += s * y[i] + d * d * e
            gx[i] = c * y[i] + d * e * (two - d)
            gy[i] = s - two * d * e
        return value

    gradients = (np.empty_like(x), np.empty_like(y))
    return Run(lambda: sweep(x, y, *gradients), lambda value: read_all((value, gradients)))


def chain(x: Any, y: Any) -> Run:
    @njit(error_model="numpy", fastmath=SUMS)
    def sweep(x, y, gx, gy):
        value = 0.0
        for i in range(x.size):
            a, b = x[i], y[i]
            z1 = a * b + a
            z2 = z1 * z1 - b
            z3 = z2 * (a + b)
            value += z3 * z3
            d3 = 2.0 * z3
            d2 = d3 * (a + b)
            d1 = 2.0 * z1 * d2
            gx[i] = d3 * z2 + d1 * (b + 1.0)
            gy[i] = d3 * z2 - d2 + d1 * a
        return value

    gradients = (np.empty_like(x), np.empty_like(y))
    return Run(lambda: sweep(x, y, *gradients), lambda value: read_all((value, gradients)))


def graph(x: Any, rounds: int) -> Run:
    """Sweep over a flat array of operations by a switch: softplus, weighted sum, product, softmax."""
    rows, node = [], x.size
    for k in range(rounds):
        n = node
        rows.append((0, n - 10, 0, 0, 0, 0, n))
        rows.append((1, n - 29, n - 24, n - 19, n - 14, k % x.size, n + 1))
        rows.append((2, n - 18, n - 8, 0, 0, 0, n + 2))
        rows.append((3, n - 1, n, n + 1, n + 2, 0, n + 3))
        node += 7
    operations = np.array(rows)

    @njit(error_model="numpy")
    def sweep(x, operations, v, d, g):
        v[: x.size] = x
        for r in range(operations.shape[0]):
            op, a, b, c, e, f, z = operations[r]
            if op == 0:
                v[z] = log1p(exp(v[a]))
            elif op == 1:
                v[z] = v[f] * (v[a] + v[b] + v[c] + v[e])
            elif op == 2:
                v[z] = v[a] * v[b]
            else:
                p, q, s, t = exp(v[a]), exp(v[b]), exp(v[c]), exp(v[e])
                scale = 1.0 / (p + q + s + t)
                v[z], v[z + 1], v[z + 2], v[z + 3] = p * scale, q * scale, s * scale, t * scale
        value = 0.0
        d[:] = 0.0
        for k in range(v.size - 30, v.size):
            value += v[k]
            d[k] = 1.0
        for r in range(operations.shape[0] - 1, -1, -1):
            op, a, b, c, e, f, z = operations[r]
            if op == 0:
                d[a] += d[z] * (1.0 - exp(-v[z]))
            elif op == 1:
                step = d[z] * v[f]
                d[a] += step
                d[b] += step
                d[c] += step
                d[e] += step
                d[f] += d[z] * (v[a] + v[b] + v[c] + v[e])
            elif op == 2:
                d[a] += d[z] * v[b]
                d[b] += d[z] * v[a]
            else:
                mean = d[z] * v[z] + d[z + 1] * v[z + 1] + d[z + 2] * v[z + 2] + d[z + 3] * v[z + 3]
                d[a] += v[z] * (d[z] - mean)
                d[b] += v[z + 1] * (d[z + 1] - mean)
                d[c] += v[z + 2] * (d[z + 2] - mean)
                d[e] += v[z + 3] * (d[z + 3] - mean)
        g[:] = d[: x.size]
        return value

    v, d, g = np.empty(node), np.empty(node), np.empty_like(x)
    return Run(lambda: sweep(x, operations, v, d, g), lambda value: read_all((value, g)))


def network(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, images: Any, labels: Any) -> Run:
    """Leave the eight products to BLAS, and fuse all that is between them."""
    kind = w1.dtype.type
    one = kind(1)

    @njit(error_model="numpy", fastmath=SUMS)
    def activate(z, b):
        for i in range(z.shape[0]):
            for j in range(b.size):
                z[i, j] = np.tanh(z[i, j] + b[j])

    @njit(error_model="numpy", fastmath=SUMS)
    def slope(dz, z, db):
        db[:] = 0
        for i in range(z.shape[0]):
            for j in range(db.size):
                dz[i, j] *= one - z[i, j] * z[i, j]
                db[j] += dz[i, j]

    @njit(error_model="numpy", fastmath=SUMS)
    def cross_entropy(scores, b, labels, db):
        rows, classes = scores.shape
        value = 0.0
        db[:] = 0
        for i in range(rows):
            top = kind(-np.inf)
            for j in range(classes):
                scores[i, j] += b[j]
                top = max(top, scores[i, j])
            value -= scores[i, labels[i]] - top
            total = kind(0)
            for j in range(classes):
                scores[i, j] = np.exp(scores[i, j] - top)
                total += scores[i, j]
            value += np.log(total)
            scale = one / (total * kind(rows))
            for j in range(classes):
                scores[i, j] *= scale
            scores[i, labels[i]] -= one / kind(rows)
            for j in range(classes):
                db[j] += scores[i, j]
        return value / rows

    @njit(error_model="numpy")
    def sweep(w1, b1, w2, b2, w3, b3, images, labels, z1, z2, z3, dz1, dz2, g1, h1, g2, h2, g3, h3):
        np.dot(images, w1, z1)
        activate(z1, b1)
        np.dot(z1, w2, z2)
        activate(z2, b2)
        np.dot(z2, w3, z3)
        value = cross_entropy(z3, b3, labels, h3)
        np.dot(z2.T, z3, g3)
        np.dot(z3, w3.T, dz2)
        slope(dz2, z2, h2)
        np.dot(z1.T, dz2, g2)
        np.dot(dz2, w2.T, dz1)
        slope(dz1, z1, h1)
        np.dot(images.T, dz1, g1)
        return value

    arguments = (w1, b1, w2, b2, w3, b3)
    z1, z2, z3 = (np.empty((labels.size, b.size), b.dtype) for b in (b1, b2, b3))
    space = (z1, z2, z3, np.empty_like(z1), np.empty_like(z2))
    gradients = tuple(np.empty_like(a) for a in arguments)
    return Run(
        lambda: sweep(*arguments, images, labels, *space, *gradients), lambda value: read_all((value, gradients))
    )


def mixture(logits: Any, means: Any, factors: Any, data: Any, place: Any, below: Any, unit: Any) -> Run:
    """Walk over the data in tiles, point by point in the innermost loops; so the data are kept by columns."""

    @njit(error_model="numpy", fastmath=SUMS)
    def sweep(logits, means, factors, columns, scales, logs, y, z, row, g_logits, g_means, g_factors):
        components, size = means.shape
        count = columns.shape[1]
        g_logits[:], g_means[:], g_factors[:] = 0.0, 0.0, 0.0
        top = logits.max()
        spread = np.exp(logits - top)
        total = spread.sum()
        value = -count * (top + log(total))
        for k in range(components):
            for i in range(size):
                scales[k, i] = exp(factors[k, i])
        for start in range(0, count, TILE):
            x = columns[:, start : start + TILE]
            width = x.shape[1]
            for k in range(components):
                shift = logits[k]
                for i in range(size):
                    shift += factors[k, i]
                for n in range(width):
                    logs[k, n] = shift
                at = size
                for i in range(size):
                    middle, scale = means[k, i], scales[k, i]
                    for n in range(width):
                        z[i, n] = x[i, n] - middle
                        row[n] = scale * z[i, n]
                    for j in range(i):
                        factor = factors[k, at]
                        for n in range(width):
                            row[n] += factor * z[j, n]
                        at += 1
                    for n in range(width):
                        y[k, i, n] = row[n]
                        logs[k, n] -= 0.5 * row[n] * row[n]
            for n in range(width):
                highest = -np.inf
                for k in range(components):
                    highest = max(highest, logs[k, n])
                weight = 0.0
                for k in range(components):
                    logs[k, n] = exp(logs[k, n] - highest)
                    weight += logs[k, n]
                value += highest + log(weight)
                for k in range(components):
                    logs[k, n] /= weight
            for k in range(components):
                share = 0.0
                for n in range(width):
                    share += logs[k, n]
                g_logits[k] += share
                at = size
                for i in range(size):
                    middle = means[k, i]
                    lone, step = 0.0, 0.0
                    for n in range(width):
                        z[i, n] = x[i, n] - middle
                        row[n] = -logs[k, n] * y[k, i, n]
                        lone += row[n]
                        step += row[n] * z[i, n]
                    g_means[k, i] -= scales[k, i] * lone
                    g_factors[k, i] += share + scales[k, i] * step
                    for j in range(i):
                        step = 0.0
                        for n in range(width):
                            step += row[n] * z[j, n]
                        g_factors[k, at] += step
                        g_means[k, j] -= factors[k, at] * lone
                        at += 1
        for k in range(components):
            g_logits[k] -= count * spread[k] / total
        return value

    components, size = means.shape
    arguments = (logits, means, factors)
    space = (
        np.ascontiguousarray(data.T),
        np.empty((components, size)),
        np.empty((components, TILE)),
        np.empty((components, size, TILE)),
        np.empty((size, TILE)),
        np.empty(TILE),
    )
    gradients = tuple(np.empty_like(a) for a in arguments)
    return Run(lambda: sweep(*arguments, *space, *gradients), lambda value: read_all((value, gradients)))


KINDS: dict[str, Callable[..., Run]] = {
    "rosenbrock": rosenbrock,
    "logistic": logistic,
    "loop": loop,
    "softmax": softmax,
    "elementwise": elementwise,
    "chain": chain,
    "graph": graph,
    "network": network,
    "mixture": mixture,
}
