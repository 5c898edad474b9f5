"""Gradients derived and written by hand, compiled by numba: what a patient person can reach."""

from collections.abc import Callable
from math import cos, exp, log1p, sin
from typing import Any

import numpy as np
from numba import njit

from ..problems import Problem
from . import Run, read_pair

NAME = "by hand (numba)"


def prepare(problem: Problem) -> Run | None:
    """Define the kernel anew, so that its first call compiles it."""
    write = KINDS.get(problem.kind)
    return write(*problem.arguments, *problem.batch, *problem.constants) if write else None


def rosenbrock(x: Any) -> Run:
    @njit(error_model="numpy")
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
    return Run(lambda: sweep(x, g), lambda value: read_pair((value, g)))


def logistic(w: Any, features: Any, signs: Any) -> Run:
    @njit(error_model="numpy")
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
    return Run(lambda: sweep(w, features, signs, g), lambda value: read_pair((value, g)))


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
    return Run(lambda: sweep(a, b, kept), lambda result: read_pair((result[0], result[1:])))


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
            value += np.log(total)
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
        lambda value: read_pair((value, gradients)),
    )


KINDS: dict[str, Callable[..., Run]] = {
    "rosenbrock": rosenbrock,
    "logistic": logistic,
    "loop": loop,
    "softmax": softmax,
}
