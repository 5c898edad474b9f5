"""Train a classifier of handwritten digits, every gradient taken from the tape.

The three ingredients of learning: a hypothesis with parameters and a loss (both in `models`), and an update of the
parameters, here minibatch gradient descent.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .api import value_and_grad
from .check import numerical_grad
from .errors import CommandError
from .kernels import library
from .models import MODELS, Floats, Ints, Model, Parameters, ingredients
from .screen import Screen
from .warm import compile_kernels, kernel_lines

SEED = 0
DIRECTIONS = 10
ROUNDS, PATIENCE = 7, 10.0  # of the race: rounds at most, and seconds after which no other round is begun

# What the losses will need, the slowest to compile first: known ahead, they are compiled side by side.
KERNELS = ("tiles_f8", "scalars_f8", "reduce", "blocks_f8", "products", "index", "sweeps")


@dataclass(frozen=True)
class Settings:
    """What to train, and how: the model's name, passes over the images, images a step, and the step length alpha."""

    model: str = "softmax"
    epochs: int = 60
    batch: int = 32
    lr: float = 0.2

    def check(self, images: int) -> None:
        """Raise CommandError where training on so many images cannot go by these settings."""
        if self.epochs < 1:
            raise CommandError(f"--epochs must be 1 or more, not {self.epochs}")
        if not 1 <= self.batch <= images:
            raise CommandError(f"--batch must be from 1 to {images}, the number of training images, not {self.batch}")
        if not 0.0 < self.lr < math.inf:
            raise CommandError(f"--lr must be positive and finite, not {self.lr}")


class Digits(NamedTuple):
    """Images as rows of pixels in [0, 1] and their labels, to train on and held out."""

    X: Floats
    labels: Ints
    held_X: Floats
    held_labels: Ints


# What value_and_grad makes of the loss: the value and, shaped like the parameters, the gradient.
LossAndGradient = Callable[[Parameters, Floats, Ints], tuple[Any, Parameters]]


@dataclass(frozen=True)
class Epoch:
    """The losses per image after a pass over the images: the mean while training, and that of the held-out images."""

    loss: float
    held_out_loss: float
    held_out_accuracy: float


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

    model: str
    accuracy: float
    loss: float
    loss_before: float
    history: list[Epoch]
    parameters: int
    training_images: int
    held_out_images: int
    epochs: int
    batch: int
    lr: float
    steps: int
    seed: int
    gradient_check: list[Direction]
    difference_to_gradient_by_hand: float
    gradients_per_second: dict[str, float]
    compiled: list[str]
    seconds: dict[str, float]


def decimal(value: float, digits: int) -> str:
    """Write a number with so many decimals, one too large for that by its power of ten."""
    return f"{value:.{digits}e}" if 1e6 <= abs(value) < math.inf else f"{value:.{digits}f}"


def load_digits() -> Digits:
    """Load the 1,797 digits of scikit-learn, pixels scaled, shuffled, a fifth held out."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(labels))
    X, labels = pixels[order] / 16.0, labels[order].astype(np.int64)
    held = len(labels) // 5
    return Digits(X[held:], labels[held:], X[:held], labels[:held])


def train(
    model: Model, settings: Settings, vg: LossAndGradient, parameters: Parameters, digits: Digits, screen: Screen
) -> list[Epoch]:
    """Run minibatch gradient descent in place: theta := theta - alpha/B * (sum of gradients), for each parameter."""
    history = []
    rng = np.random.default_rng(SEED)
    batch = settings.batch
    # A last, smaller minibatch is left out: each epoch shuffles anew, so no image is.
    starts = range(0, len(digits.labels) - batch + 1, batch)
    with screen.progress("training", settings.epochs) as advance:
        for _ in range(settings.epochs):
            order = rng.permutation(len(digits.labels))
            total = 0.0
            for start in starts:
                rows = order[start : start + batch]
                value, gradient = vg(parameters, digits.X[rows], digits.labels[rows])
                total += float(value)
                for array, slope in zip(parameters, gradient, strict=True):
                    array -= settings.lr / batch * slope
            history.append(Epoch(total / (batch * len(starts)), *judge(model, parameters, digits)))
            advance(f"loss {decimal(history[-1].loss, 4)}")
    return history


def judge(model: Model, parameters: Parameters, digits: Digits) -> tuple[float, float]:
    """Give the loss per held-out image, and the fraction of them whose most likely digit is their label."""
    X, labels = digits.held_X, digits.held_labels
    loss = float(model.loss(parameters, X, labels)) / len(labels)
    return loss, float(np.mean(np.argmax(model.hypothesis(parameters, X), axis=1) == labels))


def unit_direction(rng: np.random.Generator, like: Parameters) -> Parameters:
    """Draw a direction in the space of the parameters, evenly from the unit sphere."""
    drawn = [rng.standard_normal(array.shape) for array in like]
    length = np.sqrt(sum(np.vdot(array, array) for array in drawn))
    return tuple(array / length for array in drawn)


def check_directions(
    model: Model, vg: LossAndGradient, parameters: Parameters, X: Floats, labels: Ints
) -> list[Direction]:
    """Compare the slope of the mean loss along random unit directions with two differences."""
    _, gradient = vg(parameters, X, labels)
    rng = np.random.default_rng(SEED)
    checked = []
    for _ in range(DIRECTIONS):
        direction = unit_direction(rng, parameters)

        def along(t: float, direction: Parameters = direction) -> Any:
            moved = tuple(p + t * d for p, d in zip(parameters, direction, strict=True))
            return model.loss(moved, X, labels) / len(labels)

        tape = float(sum(np.vdot(g, d) for g, d in zip(gradient, direction, strict=True))) / len(labels)
        forward = float(numerical_grad(along, 0.0, method="forward"))
        central = float(numerical_grad(along, 0.0, method="central"))
        checked.append(Direction(tape, forward, central, abs(forward - tape), abs(central - tape)))
    return checked


def gradients_per_second(methods: dict[str, tuple[Callable[[], object], int]]) -> dict[str, float]:
    """Time each method, given with its number of calls a round; medians over interleaved rounds."""
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    end = time.perf_counter() + PATIENCE
    for _ in range(ROUNDS):  # in turn, so that a busy machine slows all of them alike
        for name, (gradient, calls) in methods.items():
            started = time.perf_counter()
            for _ in range(calls):
                gradient()
            seconds[name].append((time.perf_counter() - started) / calls)
        if time.perf_counter() > end:
            break
    return {name: 1.0 / statistics.median(times) for name, times in seconds.items()}


def race(model: Model, vg: LossAndGradient, parameters: Parameters, X: Floats, labels: Ints) -> dict[str, float]:
    """Count the gradients per second of the minibatch loss at `parameters`, by three methods.

    Central differences are timed in full, two evaluations of the loss per parameter.
    """
    return gradients_per_second(
        {
            "tape": (lambda: vg(parameters, X, labels), 300),
            "by_hand": (lambda: model.gradient_by_hand(parameters, X, labels), 300),
            "central_differences": (lambda: numerical_grad(lambda p: model.loss(p, X, labels), parameters), 1),
        }
    )


@np.errstate(all="ignore")  # a loss that overflows is shown as it is
def run_demo(settings: Settings, screen: Screen) -> Figures:
    """Train, check and time, with progress on `screen`; give the figures."""
    started = time.perf_counter()
    digits = load_digits()
    settings.check(len(digits.labels))
    model = MODELS[settings.model]
    parameters = model.start(np.random.default_rng(SEED))
    screen.line(
        f"{model.title} on {len(digits.labels)} handwritten digits, {len(digits.held_labels)} held out, "
        f"{digits.X.shape[1]} pixels each"
    )
    screen.line()
    screen.line(f"Three ingredients, for minibatches of B = {settings.batch} images and alpha = {settings.lr:g}")
    for name, formula, shapes in ingredients(model, parameters, settings.batch):
        screen.line(f"{name:<12}{formula:<30}{shapes}")
    screen.line()
    loss_before, _ = judge(model, parameters, digits)
    vg = value_and_grad(model.loss)
    compiling_started = time.perf_counter()
    compiled = compile_kernels(KERNELS, screen)
    compiling = time.perf_counter() - compiling_started
    with kernel_lines(screen, compiled):
        training_started = time.perf_counter()
        history = train(model, settings, vg, parameters, digits, screen)
        training = time.perf_counter() - training_started
        checked = check_directions(model, vg, parameters, digits.X, digits.labels)

    X, labels = digits.X[: settings.batch], digits.labels[: settings.batch]
    _, gradient = vg(parameters, X, labels)
    by_hand = model.gradient_by_hand(parameters, X, labels)
    difference = float(np.max([np.max(np.abs(a - b)) for a, b in zip(gradient, by_hand, strict=True)]))
    if not history[-1].held_out_loss <= loss_before:  # true of NaN, too
        screen.line(
            f"Warning: the loss did not fall, it was {decimal(loss_before, 4)} per held-out image before training "
            f"and is {decimal(history[-1].held_out_loss, 4)}: try a smaller step than {settings.lr:g}"
        )
    speeds = race(model, vg, parameters, X, labels)

    loading = sum(library.seconds.values())
    return Figures(
        model=settings.model,
        accuracy=history[-1].held_out_accuracy,
        loss=history[-1].held_out_loss,
        loss_before=loss_before,
        history=history,
        parameters=sum(array.size for array in parameters),
        training_images=len(digits.labels),
        held_out_images=len(digits.held_labels),
        epochs=settings.epochs,
        batch=settings.batch,
        lr=settings.lr,
        steps=settings.epochs * (len(digits.labels) // settings.batch),
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
