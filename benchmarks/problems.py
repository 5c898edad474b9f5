"""What is differentiated: functions in NumPy code, and the numbers they are given.

A formula takes the namespace to compute with (`numpy`, `jax.numpy`, ...), the namespace of its special
functions, the arguments to differentiate, the batch, and the constants, in this order.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy
import scipy.special


@dataclass(frozen=True)
class Problem:
    """State one function to differentiate, and where.

    `arguments` are differentiated; `batch` is passed beside them at every call, as an optimizer's minibatch
    is; `constants` are closed over. `kind` is the name under which a peer keeps a spelling of its own.
    `derivative` says what is asked: value and "gradient", or of a function of one argument "jvp" (value and tangent),
    "hvp", "jacfwd", "jacrev" or "hessian"; a jvp or hvp goes along `direction`. A `nested` formula differentiates
    within itself. `without` names the peers that do not take part: they would take minutes, or know gradients alone.
    """

    kind: str
    title: str
    formula: Callable[..., Any]
    arguments: tuple[Any, ...]
    batch: tuple[Any, ...] = ()
    constants: tuple[Any, ...] = ()
    without: tuple[str, ...] = ()
    derivative: str = "gradient"
    direction: Any = None
    nested: bool = False

    @property
    def argnums(self) -> int | tuple[int, ...]:
        """Say which positions are differentiated; a lone argument is a plain int."""
        return 0 if len(self.arguments) == 1 else tuple(range(len(self.arguments)))

    @property
    def point(self) -> Any:
        """Give the argument of a function that has one."""
        (x,) = self.arguments
        return x

    def define(self, np: Any = numpy, special: Any = scipy.special, grad: Any = None) -> Callable[..., Any]:
        """Define the function anew: a closure of its own at each call, as a script would write it.

        A nested formula differentiates by `grad`.
        """
        tools = (np, special, grad) if self.nested else (np, special)

        def function(*values: Any) -> Any:
            return self.formula(*tools, *values, *self.constants)

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


def elementwise_formula(np: Any, special: Any, x: Any, y: Any) -> Any:
    return np.sum(np.sin(x) * y + (x - y) ** 2 * np.exp(-x))


def chain_formula(np: Any, special: Any, x: Any, y: Any) -> Any:
    z = x * y + x
    z = z * z - y
    z = z * x + y * z
    return np.sum(z * z)


def long_chain_formula(np: Any, special: Any, x: Any) -> Any:
    z = x
    for _ in range(5):
        z = np.exp(-np.sin(z) * x)
    return np.sum(z)


def graph_formula(np: Any, special: Any, x: Any, rounds: int) -> Any:
    nodes = list(x)
    for k in range(rounds):
        nodes.append(np.log1p(np.exp(nodes[-10])))
        nodes.append(x[k % len(x)] * sum(nodes[-30:-10:5]))  # the factor keeps the numbers bounded
        nodes.append(nodes[-20] * nodes[-10])
        weights = np.exp(np.stack(nodes[-4:]))
        nodes.extend(weights / np.sum(weights))
    return sum(nodes[-30:])


def network_formula(
    np: Any, special: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, images: Any, labels: Any
) -> Any:
    hidden = np.tanh(np.tanh(images @ w1 + b1) @ w2 + b2)
    return softmax_formula(np, special, w3, b3, hidden, labels)


def mixture_formula(
    np: Any, special: Any, logits: Any, means: Any, factors: Any, data: Any, place: Any, below: Any, unit: Any
) -> Any:
    size = means.shape[1]
    diagonal = factors[:, :size]
    # the transposed factor of every component, its diagonal given by logarithms
    factor = factors[:, place] * below + np.exp(diagonal)[:, None, :] * unit
    scaled = (data - means[:, None, :]) @ factor
    logs = (logits + np.sum(diagonal, axis=1))[:, None] - 0.5 * np.sum(scaled**2, axis=2)
    return np.sum(special.logsumexp(logs, axis=0)) - len(data) * special.logsumexp(logits, axis=0)


def layer_formula(np: Any, special: Any, x: Any, weights: Any) -> Any:
    return np.tanh(weights @ x)


def energy_formula(np: Any, special: Any, x: Any, weights: Any) -> Any:
    return np.sum(np.tanh(weights @ x) ** 2)


def descent_formula(np: Any, special: Any, grad: Any, a: Any, steps: int) -> Any:
    def loss(y: Any, a: Any) -> Any:
        return np.sum((y - a) ** 2) + np.sum(y**4) / 4

    slope = grad(loss)
    y = 0.5 * a
    for _ in range(steps):
        y = y - 0.1 * slope(y, a)
    return np.sum(y**2)


def rosenbrock(n: int = 10) -> Problem:
    """State Rosenbrock's function of `n` variables, written with slices."""
    x = numpy.linspace(-1.0, 1.0, n)
    without = ("differences",) if n > 1000 else ()
    return Problem("rosenbrock", f"Rosenbrock, n={n:,}", rosenbrock_formula, (x,), without=without)


def logistic(rows: int = 100, columns: int = 10) -> Problem:
    """State the logistic loss of a linear model on `rows` random points."""
    random = numpy.random.default_rng(1)
    features = random.standard_normal((rows, columns))
    signs = numpy.where(random.random(rows) < 0.5, -1.0, 1.0)
    w = 0.1 * random.standard_normal(columns)
    title = f"logistic loss, {rows:,}x{columns}"
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


def elementwise(n: int = 1_000_000, dtype: Any = numpy.float64) -> Problem:
    """State a loss of three transcendental functions a point, with gradients in both of its vectors."""
    x, y = pair(n, dtype)
    title = f"elementwise loss, n={n:,}{precision(dtype)}"
    return Problem("elementwise", title, elementwise_formula, (x, y), without=("differences",) if n > 1000 else ())


def chain(n: int = 1_000_000) -> Problem:
    """State a chain of sums and products, whose time is that of moving memory."""
    without = ("differences",) if n > 1000 else ()
    return Problem("chain", f"cheap chain, n={n:,}", chain_formula, pair(n, numpy.float64), without=without)


def long_chain(n: int = 10_000_000) -> Problem:
    """State a chain of twenty operations, whose intermediates would fill much memory."""
    x = numpy.random.default_rng(7).random(n)
    return Problem("long chain", f"20-op chain, n={n:,}", long_chain_formula, (x,), without=("differences",))


def pair(n: int, dtype: Any) -> tuple[Any, Any]:
    random = numpy.random.default_rng(3)
    return random.uniform(-1.0, 1.0, n).astype(dtype), random.uniform(-1.0, 1.0, n).astype(dtype)


def precision(dtype: Any) -> str:
    return "" if dtype == numpy.float64 else f", {numpy.dtype(dtype).name}"


def graph(rounds: int = 2500, inputs: int = 100) -> Problem:
    """State a graph of scalar operations, four a round, each on nodes that lie a fixed way back."""
    x = numpy.random.default_rng(4).uniform(0.1, 0.4, inputs)
    title = f"scalar graph, {4 * rounds:,} ops"
    without = ("jax", "differences") if rounds > 100 else ()
    return Problem("graph", title, graph_formula, (x,), constants=(rounds,), without=without)


def network(sizes: tuple[int, ...] = (784, 256, 64, 10), rows: int = 128, dtype: Any = numpy.float64) -> Problem:
    """State the loss of a network of three layers on random images, differentiated by all weights and biases."""
    random = numpy.random.default_rng(5)
    arguments: list[Any] = []
    for above, below in pairwise(sizes):
        arguments.append((random.standard_normal((above, below)) / numpy.sqrt(above)).astype(dtype))
        arguments.append((0.1 * random.standard_normal(below)).astype(dtype))
    batch = random.random((rows, sizes[0])).astype(dtype), random.integers(0, sizes[-1], rows)
    title = f"MLP {'-'.join(map(str, sizes))}, batch of {rows}{precision(dtype)}"
    without = ("differences",) if sizes[0] > 100 else ()
    return Problem("network", title, network_formula, tuple(arguments), batch=batch, without=without)


def mixture(rows: int = 1000, components: int = 25, size: int = 10) -> Problem:
    """State the log-likelihood of a mixture of Gaussians with full covariances.

    Differentiated are the logits of the weights, the means, and for each component the factor of its inverse
    covariance: the logarithms of the diagonal, then what lies below it, row by row.
    """
    random = numpy.random.default_rng(6)
    count = size * (size - 1) // 2
    logits = random.standard_normal(components)
    means = random.standard_normal((components, size))
    factors = 0.3 * random.standard_normal((components, size + count))
    data = random.standard_normal((rows, size))
    place = numpy.zeros((size, size), numpy.int64)
    place.T[numpy.tril_indices(size, -1)] = size + numpy.arange(count)
    below, unit = numpy.where(place, 1.0, 0.0), numpy.eye(size)
    title = f"Gaussian mixture, d={size}, K={components}, N={rows:,}"
    without = ("differences",) if rows > 100 else ()
    constants = (data, place, below, unit)
    return Problem("mixture", title, mixture_formula, (logits, means, factors), constants=constants, without=without)


#: the peers that are asked for nothing but value and gradient of a function
GRADIENTS_ALONE = ("threaded", "forward", "limit", "handwritten", "torch", "differences")


def layer(n: int = 50) -> Problem:
    """State a dense layer of `n` inputs and outputs, whose Jacobian is dense, too."""
    x, weights = square(n)
    return Problem("layer", f"dense layer {n}x{n}", layer_formula, (x,), constants=(weights,))


def energy(n: int = 256) -> Problem:
    """State the sum of squares of a dense layer's outputs."""
    x, weights = square(n)
    return Problem("energy", f"dense layer {n}x{n}, squares", energy_formula, (x,), constants=(weights,))


def square(n: int) -> tuple[Any, Any]:
    random = numpy.random.default_rng(8)
    return random.standard_normal(n), random.standard_normal((n, n)) / numpy.sqrt(n)


def descent(steps: int = 100, n: int = 3) -> Problem:
    """State a function of the minimum of another, to which gradient descent takes `steps` steps."""
    a = numpy.random.default_rng(9).standard_normal(n)
    title = f"gradient through {steps} steps of gradient descent, n={n}"
    return Problem("descent", title, descent_formula, (a,), constants=(steps,), without=GRADIENTS_ALONE, nested=True)


def derived(problem: Problem, derivative: str) -> Problem:
    """Ask for another derivative of a function of one argument."""
    direction = numpy.random.default_rng(10).standard_normal(problem.point.shape)
    return replace(
        problem,
        title=f"{derivative}: {problem.title}",
        without=GRADIENTS_ALONE,
        derivative=derivative,
        direction=direction if derivative in ("jvp", "hvp") else None,
    )


FULL: tuple[Callable[[], Problem], ...] = (
    rosenbrock,
    logistic,
    loop,
    graph,
    lambda: rosenbrock(100_000),
    elementwise,
    lambda: elementwise(dtype=numpy.float32),
    chain,
    lambda: logistic(10_000, 100),
    network,
    lambda: network(dtype=numpy.float32),
    mixture,
    softmax,
    minibatch,
)
#: those whose peers may use all cores in a table of their own
THREADED: tuple[Callable[[], Problem], ...] = (elementwise, lambda: elementwise(dtype=numpy.float32), chain)
#: the elementwise loss at every size that is drawn
CURVE: tuple[Callable[[], Problem], ...] = tuple(partial(elementwise, 10**k) for k in range(1, 8))
#: derivatives of every kind, in a table of their own
DERIVATIVES: tuple[Callable[[], Problem], ...] = (
    lambda: derived(rosenbrock(10), "jvp"),
    lambda: derived(rosenbrock(10), "hvp"),
    lambda: derived(rosenbrock(100), "hvp"),
    lambda: derived(energy(256), "hvp"),
    lambda: derived(layer(50), "jacfwd"),
    lambda: derived(layer(50), "jacrev"),
    lambda: derived(rosenbrock(100), "hessian"),
    descent,
)
SMALL: tuple[Callable[[], Problem], ...] = (
    lambda: rosenbrock(4),
    lambda: logistic(6, 3),
    lambda: loop(5),
    lambda: graph(5, 31),
    lambda: elementwise(7),
    lambda: elementwise(7, numpy.float32),
    lambda: chain(7),
    lambda: network((5, 4, 3, 2), 6),
    lambda: network((5, 4, 3, 2), 6, numpy.float32),
    lambda: mixture(7, 3, 2),
    lambda: softmax(7),
    lambda: minibatch(5),
)
SMALL_DERIVATIVES: tuple[Callable[[], Problem], ...] = (
    lambda: derived(rosenbrock(4), "jvp"),
    lambda: derived(rosenbrock(4), "hvp"),
    lambda: derived(energy(5), "hvp"),
    lambda: derived(layer(3), "jacfwd"),
    lambda: derived(layer(3), "jacrev"),
    lambda: derived(rosenbrock(4), "hessian"),
    lambda: descent(5),
)


def available(makers: Sequence[Callable[[], Problem]]) -> list[Problem]:
    """Make the problems whose data is there: those on digits need scikit-learn."""
    problems = []
    for make in makers:
        try:
            problems.append(make())
        except ModuleNotFoundError as missing:
            if missing.name != "sklearn":
                raise
    return problems
