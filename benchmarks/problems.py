"""What is differentiated: functions in NumPy code, and the numbers they are given.

A formula takes the namespace to compute with (`numpy`, `jax.numpy`, ...), the namespace of its special
functions, the arguments to differentiate, the batch, and the constants, in this order.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy
import scipy.special


@dataclass(frozen=True)
class Problem:
    """State one function to differentiate, and where.

    `arguments` are differentiated; `batch` is passed beside them at every call, as an optimizer's minibatch
    is; `constants` are closed over. `kind` is the name under which a peer keeps a spelling of its own.
    """

    kind: str
    title: str
    formula: Callable[..., Any]
    arguments: tuple[Any, ...]
    batch: tuple[Any, ...] = ()
    constants: tuple[Any, ...] = ()

    @property
    def argnums(self) -> int | tuple[int, ...]:
        """Say which positions are differentiated; a lone argument is a plain int."""
        return 0 if len(self.arguments) == 1 else tuple(range(len(self.arguments)))

    def define(self, np: Any = numpy, special: Any = scipy.special) -> Callable[..., Any]:
        """Define the function anew: a closure of its own at each call, as a script would write it."""

        def function(*values: Any) -> Any:
            return self.formula(np, special, *values, *self.constants)

        return function


def rosenbrock_formula(np: Any, special: Any, x: Any) -> Any:
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def logistic_formula(np: Any, special: Any, w: Any, features: Any, signs: Any) -> Any:
    return np.mean(np.log1p(np.exp(-signs * (features @ w))))


def loop_formula(np: Any, special: Any, a: Any, b: Any, steps: int) -> Any:
    for _ in range(steps):
        a, b = a + 0.01 * np.sin(b), b - 0.01 * a
    return a * b


def softmax_formula(np: Any, special: Any, weights: Any, bias: Any, images: Any, labels: Any) -> Any:
    scores = images @ weights + bias
    chosen = scores[np.arange(labels.shape[0]), labels]
    return np.mean(special.logsumexp(scores, axis=1) - chosen)


def rosenbrock(n: int = 10) -> Problem:
    """State Rosenbrock's function of `n` variables, written with slices."""
    return Problem("rosenbrock", f"Rosenbrock, n={n}", rosenbrock_formula, (numpy.linspace(-1.0, 1.0, n),))


def logistic(rows: int = 100, columns: int = 10) -> Problem:
    """State the logistic loss of a linear model on `rows` random points."""
    random = numpy.random.default_rng(1)
    features = random.standard_normal((rows, columns))
    signs = numpy.where(random.random(rows) < 0.5, -1.0, 1.0)
    w = 0.1 * random.standard_normal(columns)
    title = f"logistic loss, {rows}x{columns}"
    return Problem("logistic", title, logistic_formula, (w,), constants=(features, signs))


def loop(steps: int = 500) -> Problem:
    """State a loop of `steps` steps on two numbers, four scalar operations a step."""
    return Problem("loop", f"scalar loop, {steps} steps", loop_formula, (0.3, 0.7), constants=(steps,))


def digits(rows: int) -> tuple[Any, Any]:
    """Give the first `rows` of scikit-learn's handwritten digits: pixels in [0, 1], labels.

    Raises ImportError where scikit-learn is not installed.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return numpy.ascontiguousarray(images[:rows] / 16.0), labels[:rows].astype(numpy.int64)


def start() -> tuple[Any, Any]:
    """Give weights and bias of the digits model, near zero."""
    random = numpy.random.default_rng(2)
    return 0.1 * random.standard_normal((64, 10)), 0.1 * random.standard_normal(10)


def softmax(rows: int = 1437) -> Problem:
    """State softmax regression on a training set of digits that the loss closes over."""
    return Problem("softmax", f"digits softmax, all {rows} images", softmax_formula, start(), constants=digits(rows))


def minibatch(rows: int = 64) -> Problem:
    """State softmax regression on a minibatch of digits that is passed with every call."""
    return Problem("softmax", f"digits softmax, batch of {rows}", softmax_formula, start(), batch=digits(rows))


FULL: tuple[Callable[[], Problem], ...] = (rosenbrock, logistic, loop, softmax, minibatch)
SMALL: tuple[Callable[[], Problem], ...] = (
    lambda: rosenbrock(4),
    lambda: logistic(6, 3),
    lambda: loop(5),
    lambda: softmax(7),
    lambda: minibatch(5),
)


def available(makers: tuple[Callable[[], Problem], ...]) -> list[Problem]:
    """Make the problems whose data is there: those on digits need scikit-learn."""
    problems = []
    for make in makers:
        try:
            problems.append(make())
        except ModuleNotFoundError as missing:
            if missing.name != "sklearn":
                raise
    return problems
