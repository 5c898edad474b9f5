"""Train softmax regression on handwritten digits, every gradient taken from the tape."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .api import value_and_grad
from .check import numerical_grad
from .kernels import library
from .scipy.special import logsumexp
from .screen import Screen
from .warm import compile_kernels, kernel_lines

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

SEED = 0
EPOCHS = 60
BATCH = 32
RATE = 0.2  # the step length alpha
DIRECTIONS = 10
ROUNDS = 7

# What the loss below will need, the slowest to compile first: known ahead, they are compiled side by side.
KERNELS = ("tiles_f8", "scalars_f8", "reduce", "blocks_f8", "products", "index", "sweeps")


class Parameters(NamedTuple):
    """The weights theta, one column per digit, and the offsets b."""

    theta: Floats
    b: Floats


class Digits(NamedTuple):
    """Images as rows of pixels in [0, 1] and their labels, to train on and held out."""

    X: Floats
    labels: Ints
    held_X: Floats
    held_labels: Ints


# What value_and_grad makes of the loss: the value and, shaped like the parameters, the gradient.
LossAndGradient = Callable[[Parameters, Floats, Ints], tuple[Any, Parameters]]


@dataclass(frozen=True)
class Direction:
    """The slope of the loss along one direction, by the tape and by differences."""

    tape: float
    forward: float
    central: float
    forward_error: float
    central_error: float


@dataclass(frozen=True)
class Figures:
    """All that the demonstration measures; `tapead demo --json` prints it."""

    accuracy: float
    loss: float
    parameters: int
    training_images: int
    held_out_images: int
    epochs: int
    batch: int
    steps: int
    seed: int
    gradient_check: list[Direction]
    difference_to_gradient_by_hand: float
    gradients_per_second: dict[str, float]
    compiled: list[str]
    seconds: dict[str, float]


def loss(parameters: Parameters, X: Floats, labels: Ints) -> Any:
    """Sum the cross-entropy of softmax regression over the rows of `X`.

    `X` has shape (B, pixels) and `labels` (B,). Plain NumPy: what changes from call to call
    is an argument, so one trace serves every minibatch of the same shape.
    """
    theta, b = parameters
    h = X @ theta + b
    return np.sum(logsumexp(h, axis=1) - h[np.arange(len(labels)), labels])


def gradient_by_hand(parameters: Parameters, X: Floats, labels: Ints) -> Parameters:
    """Give the gradient of `loss` as one derives it on paper: X^T (softmax(h) - onehot)."""
    theta, b = parameters
    h = X @ theta + b
    p = np.exp(h - h.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(len(labels)), labels] -= 1.0
    return Parameters(X.T @ p, p.sum(axis=0))


def load_digits() -> Digits:
    """Load the 1,797 digits of scikit-learn, pixels scaled, shuffled, a fifth held out."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    X, labels = pixels[order] / 16.0, labels[order].astype(np.int64)
    held = len(labels) // 5
    return Digits(X[held:], labels[held:], X[:held], labels[:held])


def train(vg: LossAndGradient, digits: Digits, screen: Screen) -> Parameters:
    """Run minibatch gradient descent from zero: theta := theta - alpha/B * (sum of gradients)."""
    pixels = digits.X.shape[1]
    parameters = Parameters(np.zeros((pixels, 10)), np.zeros(10))
    rng = np.random.default_rng(SEED)
    # A last, smaller minibatch is left out: each epoch shuffles anew, so no image is.
    starts = range(0, len(digits.labels) - BATCH + 1, BATCH)
    with screen.progress("training", EPOCHS) as advance:
        for _ in range(EPOCHS):
            order = rng.permutation(len(digits.labels))
            total = 0.0
            for start in starts:
                rows = order[start : start + BATCH]
                value, gradient = vg(parameters, digits.X[rows], digits.labels[rows])
                total += float(value)
                for array, slope in zip(parameters, gradient, strict=True):
                    array -= RATE / BATCH * slope
            advance(f"loss {total / (BATCH * len(starts)):.4f}")
    return parameters


def accuracy(parameters: Parameters, X: Floats, labels: Ints) -> float:
    """Give the fraction of the rows of `X` whose most likely digit is their label."""
    return float(np.mean(np.argmax(X @ parameters.theta + parameters.b, axis=1) == labels))


def unit_direction(rng: np.random.Generator, like: Parameters) -> Parameters:
    """Draw a direction in the space of the parameters, evenly from the unit sphere."""
    drawn = [rng.standard_normal(array.shape) for array in like]
    length = np.sqrt(sum(np.vdot(array, array) for array in drawn))
    return Parameters(*(array / length for array in drawn))


def check_directions(vg: LossAndGradient, parameters: Parameters, X: Floats, labels: Ints) -> list[Direction]:
    """Compare the slope of the mean loss along random unit directions with two differences."""
    _, gradient = vg(parameters, X, labels)
    rng = np.random.default_rng(SEED)
    checked = []
    for _ in range(DIRECTIONS):
        direction = unit_direction(rng, parameters)

        def along(t: float, direction: Parameters = direction) -> Any:
            moved = Parameters(*(p + t * d for p, d in zip(parameters, direction, strict=True)))
            return loss(moved, X, labels) / len(labels)

        tape = float(sum(np.vdot(g, d) for g, d in zip(gradient, direction, strict=True))) / len(labels)
        forward = float(numerical_grad(along, 0.0, method="forward"))
        central = float(numerical_grad(along, 0.0, method="central"))
        checked.append(Direction(tape, forward, central, abs(forward - tape), abs(central - tape)))
    return checked


def gradients_per_second(methods: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Time each method, given with its number of calls a round; medians over interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(ROUNDS):  # in turn, so that a busy machine slows all of them alike
        for name, (gradient, calls) in methods.items():
            started = time.perf_counter()
            for _ in range(calls):
                gradient()
            seconds[name].append((time.perf_counter() - started) / calls)
    return {name: 1.0 / statistics.median(times) for name, times in seconds.items()}


def race(vg: LossAndGradient, parameters: Parameters, X: Floats, labels: Ints) -> dict[str, float]:
    """Count the gradients per second of the minibatch loss at `parameters`, by three methods.

    Central differences are timed in full, two evaluations of the loss per parameter.
    """
    return gradients_per_second(
        {
            "tape": (lambda: vg(parameters, X, labels), 300),
            "by_hand": (lambda: gradient_by_hand(parameters, X, labels), 300),
            "central_differences": (lambda: numerical_grad(lambda p: loss(p, X, labels), parameters), 1),
        }
    )


def run(screen: Screen) -> Figures:
    """Train, check and time, with progress on `screen`; give the figures."""
    started = time.perf_counter()
    digits = load_digits()
    screen.line(
        f"Softmax regression on {len(digits.labels)} handwritten digits, {len(digits.held_labels)} held out, "
        f"{digits.X.shape[1]} pixels each"
    )
    vg = value_and_grad(loss)
    compiling_started = time.perf_counter()
    compiled = compile_kernels(KERNELS, screen)
    compiling = time.perf_counter() - compiling_started
    with kernel_lines(screen, compiled):
        training_started = time.perf_counter()
        parameters = train(vg, digits, screen)
        training = time.perf_counter() - training_started
        checked = check_directions(vg, parameters, digits.X, digits.labels)

    X, labels = digits.X[:BATCH], digits.labels[:BATCH]
    _, gradient = vg(parameters, X, labels)
    by_hand = gradient_by_hand(parameters, X, labels)
    difference = max(float(np.max(np.abs(a - b))) for a, b in zip(gradient, by_hand, strict=True))
    speeds = race(vg, parameters, X, labels)

    loading = sum(library.seconds.values())
    return Figures(
        accuracy=accuracy(parameters, digits.held_X, digits.held_labels),
        loss=float(loss(parameters, digits.held_X, digits.held_labels)) / len(digits.held_labels),
        parameters=parameters.theta.size + parameters.b.size,
        training_images=len(digits.labels),
        held_out_images=len(digits.held_labels),
        epochs=EPOCHS,
        batch=BATCH,
        steps=EPOCHS * (len(digits.labels) // BATCH),
        seed=SEED,
        gradient_check=checked,
        difference_to_gradient_by_hand=difference,
        gradients_per_second=speeds,
        compiled=compiled,
        seconds={
            "kernels": compiling + loading,
            "tracing": vg.seconds_tracing,
            "training": max(0.0, training - loading),
            "total": time.perf_counter() - started,
        },
    )


def show(figures: Figures, screen: Screen) -> None:
    """Write the figures for a reader."""
    screen.line()
    screen.line(f"Held-out accuracy {figures.accuracy:.4f}, cross-entropy {figures.loss:.4f}")
    screen.line()
    screen.table(
        f"Gradient check: slopes of the loss along {len(figures.gradient_check)} random unit directions,"
        " by the tape and by differences",
        ("tape", "forward", "error", "central", "error"),
        [
            (
                f"{d.tape:.12f}",
                f"{d.forward:.12f}",
                f"{d.forward_error:.1e}",
                f"{d.central:.12f}",
                f"{d.central_error:.1e}",
            )
            for d in figures.gradient_check
        ],
    )
    screen.line()
    tape = figures.gradients_per_second["tape"]
    names = {
        "tape": "tape (value and gradient)",
        "by_hand": "derived by hand in NumPy (gradient)",
        "central_differences": f"central differences ({2 * figures.parameters} losses)",
    }
    screen.table(
        f"Gradients per second, {figures.parameters} parameters, minibatch of {figures.batch}",
        ("method", "per second", "tape against it"),
        [
            (
                title,
                f"{figures.gradients_per_second[name]:,.0f}",
                f"{tape / figures.gradients_per_second[name]:,.1f}x",
            )
            for name, title in names.items()
        ],
    )
    screen.line()
    how = "compiling kernels (kept for the next time)" if figures.compiled else "loading compiled kernels"
    seconds = figures.seconds
    screen.line(f"Seconds: {seconds['kernels']:.2f} {how}, {seconds['tracing']:.3f} tracing,")
    screen.line(f"         {seconds['training']:.2f} training ({figures.steps} steps), {seconds['total']:.2f} in all")
