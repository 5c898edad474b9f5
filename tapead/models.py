"""The models of the demonstration: each a hypothesis to score an image with, and its gradient derived by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .scipy.special import logsumexp

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Parameters = tuple[Floats, ...]

PIXELS, HIDDEN, CLASSES = 64, 48, 10


@dataclass(frozen=True)
class Model:
    """What differs from model to model; the loss and its minimisation are the same for all.

    `equations` spell the hypothesis out for a reader: pairs of a formula and the shapes in it, for B images.
    """

    title: str
    names: tuple[str, ...]
    start: Callable[[np.random.Generator], Parameters]
    hypothesis: Callable[[Parameters, Floats], Any]
    gradient_by_hand: Callable[[Parameters, Floats, Ints], Parameters]
    equations: tuple[tuple[str, str], ...]

    def loss(self, parameters: Parameters, X: Floats, labels: Ints) -> Any:
        """Sum the cross-entropy over the rows of `X`, shape (B, pixels), whose labels have shape (B,).

        Plain NumPy: what changes from call to call is an argument, so one trace serves every minibatch of the same shape.
        """
        return cross_entropy(self.hypothesis(parameters, X), labels)


def cross_entropy(h: Any, labels: Ints) -> Any:
    """Sum -log(softmax(h)[label]) over the rows of `h`: one score a class, as large or small as it likes."""
    return np.sum(logsumexp(h, axis=1) - h[np.arange(len(labels)), labels])


def slope_of_scores(h: Floats, labels: Ints) -> Floats:
    """Give the gradient of `cross_entropy` by `h`: softmax(h) - onehot(labels)."""
    p: Floats = np.exp(h - h.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1.0
    return p


def softmax_start(rng: np.random.Generator) -> Parameters:
    """Start from zero: every class is equally likely."""
    return np.zeros((PIXELS, CLASSES)), np.zeros(CLASSES)


def softmax_hypothesis(parameters: Parameters, X: Floats) -> Any:
    """Score the rows of `X` by one linear map."""
    theta, b = parameters
    return X @ theta + b


def softmax_gradient(parameters: Parameters, X: Floats, labels: Ints) -> Parameters:
    """Give the gradient of the loss as one derives it on paper: X^T (softmax(h) - onehot)."""
    dh = slope_of_scores(softmax_hypothesis(parameters, X), labels)
    return X.T @ dh, dh.sum(axis=0)


def mlp_start(rng: np.random.Generator) -> Parameters:
    """Start from random weights, for equal units would stay equal, scaled so that the scores are of size one."""
    W1 = rng.standard_normal((PIXELS, HIDDEN)) / np.sqrt(PIXELS)
    W2 = rng.standard_normal((HIDDEN, CLASSES)) / np.sqrt(HIDDEN)
    return W1, np.zeros(HIDDEN), W2, np.zeros(CLASSES)


def mlp_hypothesis(parameters: Parameters, X: Floats) -> Any:
    """Score the rows of `X` by two linear maps with tanh in between."""
    W1, b1, W2, b2 = parameters
    return np.tanh(X @ W1 + b1) @ W2 + b2


def mlp_gradient(parameters: Parameters, X: Floats, labels: Ints) -> Parameters:
    """Give the gradient of the loss as one derives it on paper, from the scores back to the first map."""
    W1, b1, W2, b2 = parameters
    Z = np.tanh(X @ W1 + b1)
    dh = slope_of_scores(Z @ W2 + b2, labels)
    dA = (dh @ W2.T) * (1.0 - Z * Z)
    return X.T @ dA, dA.sum(axis=0), Z.T @ dh, dh.sum(axis=0)


MODELS = {
    "softmax": Model(
        title="Softmax regression",
        names=("theta", "b"),
        start=softmax_start,
        hypothesis=softmax_hypothesis,
        gradient_by_hand=softmax_gradient,
        equations=(("h = X @ theta + b", f"(B, {CLASSES}) = (B, {PIXELS}) @ ({PIXELS}, {CLASSES}) + ({CLASSES},)"),),
    ),
    "mlp": Model(
        title=f"A multilayer perceptron with {HIDDEN} hidden units",
        names=("W1", "b1", "W2", "b2"),
        start=mlp_start,
        hypothesis=mlp_hypothesis,
        gradient_by_hand=mlp_gradient,
        equations=(
            ("A = X @ W1 + b1", f"(B, {HIDDEN}) = (B, {PIXELS}) @ ({PIXELS}, {HIDDEN}) + ({HIDDEN},)"),
            ("Z = tanh(A)", f"(B, {HIDDEN}) = tanh (B, {HIDDEN})"),
            ("h = Z @ W2 + b2", f"(B, {CLASSES}) = (B, {HIDDEN}) @ ({HIDDEN}, {CLASSES}) + ({CLASSES},)"),
        ),
    ),
}


def ingredients(model: Model, parameters: Parameters, batch: int) -> Iterator[tuple[str, str, str]]:
    """List the three ingredients of learning as (name, formula, shapes) for minibatches of `batch` images."""
    name = "hypothesis"
    for formula, shapes in model.equations:
        yield name, formula, shapes.replace("B", str(batch))
        name = ""
    yield "loss", "sum(logsumexp(h) - h[label])", f"() = sum(({batch},) - ({batch},))"
    name = "update"
    for parameter, array in zip(model.names, parameters, strict=True):
        yield name, f"{parameter} -= alpha/B * gradient", f"gradient {array.shape}"
        name = ""
