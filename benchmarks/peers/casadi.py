"""CasADi through its buffer interface: SX graphs of scalars, MX graphs where there are matrix products."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import casadi
import numpy as np

from ..problems import Problem
from . import Run, read_pair

NAME = "CasADi"


def prepare(problem: Problem) -> Run | None:
    """Build the graph of value and gradient, and bind its inputs and outputs to buffers."""
    spell = KINDS.get(problem.kind)
    return spell(problem) if spell else None


def bind(inputs: list[Any], numbers: list[Any], value: Any, arguments: list[Any]) -> Run:
    """Make the function inputs -> value, gradients, and a call of it on `numbers` stored by columns."""
    gradients = [casadi.gradient(value, argument) for argument in arguments]
    function = casadi.Function("value_and_gradient", inputs, [value, *gradients])
    buffer, evaluate = function.buffer()
    shapes = [argument.shape for argument in arguments]
    points = numbers[: len(arguments)]
    given = [np.array(number, dtype=np.float64).ravel(order="F") for number in numbers]
    results = [np.empty(1), *(np.empty(rows * columns) for rows, columns in shapes)]
    for k, array in enumerate(given):
        buffer.set_arg(k, memoryview(array))
    for k, array in enumerate(results):
        buffer.set_res(k, memoryview(array))

    def read(_: Any) -> tuple[float, tuple[np.ndarray, ...]]:
        gradients = tuple(
            array.reshape(shape, order="F").reshape(np.shape(point))
            for array, shape, point in zip(results[1:], shapes, points, strict=True)
        )
        return read_pair((results[0][0], gradients))

    # CasADi only borrows the arrays: the call keeps them alive
    return Run(lambda kept=(function, buffer, given, results): evaluate(), read)


def rosenbrock(problem: Problem) -> Run:
    (number,) = problem.arguments
    x = casadi.SX.sym("x", number.size)
    value = casadi.sum1(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return bind([x], [number], value, [x])


def logistic(problem: Problem) -> Run:
    (number,) = problem.arguments
    features, signs = map(casadi.DM, problem.constants)
    w = casadi.MX.sym("w", number.size)
    margins = signs * casadi.mtimes(features, w)
    value = casadi.sum1(casadi.log1p(casadi.exp(-margins))) / signs.numel()
    return bind([w], [number], value, [w])


def loop(problem: Problem) -> Run:
    first, second = casadi.SX.sym("a"), casadi.SX.sym("b")
    (steps,) = problem.constants
    a, b = first, second
    for _ in range(steps):
        a, b = a + 0.01 * casadi.sin(b), b - 0.01 * a
    return bind([first, second], list(problem.arguments), a * b, [first, second])


def softmax(problem: Problem) -> Run:
    images, labels = (*problem.batch, *problem.constants)
    rows, columns = images.shape
    classes = problem.arguments[1].size
    chosen = np.eye(classes)[labels]
    weights, bias = casadi.MX.sym("weights", columns, classes), casadi.MX.sym("bias", classes)
    if problem.batch:
        pixels, picked = casadi.MX.sym("pixels", rows, columns), casadi.MX.sym("picked", rows, classes)
        inputs, numbers = [weights, bias, pixels, picked], [*problem.arguments, images, chosen]
    else:
        pixels, picked = casadi.DM(images), casadi.DM(chosen)
        inputs, numbers = [weights, bias], list(problem.arguments)
    scores = casadi.mtimes(pixels, weights) + casadi.repmat(bias.T, rows, 1)
    top = reduce(casadi.fmax, casadi.horzsplit(scores))
    totals = casadi.sum2(casadi.exp(scores - casadi.repmat(top, 1, classes)))
    value = casadi.sum1(casadi.log(totals) + top) / rows - casadi.sum1(casadi.sum2(picked * scores)) / rows
    return bind(inputs, numbers, value, [weights, bias])


def graph(problem: Problem) -> Run:
    (number,) = problem.arguments
    (rounds,) = problem.constants
    x = casadi.SX.sym("x", number.size)
    nodes = casadi.vertsplit(x)
    for k in range(rounds):
        nodes.append(casadi.log1p(casadi.exp(nodes[-10])))
        nodes.append(x[k % number.size] * sum(nodes[-30:-10:5]))
        nodes.append(nodes[-20] * nodes[-10])
        weights = [casadi.exp(node) for node in nodes[-4:]]
        total = sum(weights)
        nodes.extend(weight / total for weight in weights)
    return bind([x], [number], sum(nodes[-30:]), [x])


def elementwise(problem: Problem) -> Run | None:
    if problem.arguments[0].dtype != np.float64:
        return None
    x, y = (casadi.MX.sym(name, number.size) for name, number in zip("xy", problem.arguments, strict=True))
    value = casadi.sum1(casadi.sin(x) * y + (x - y) ** 2 * casadi.exp(-x))
    return bind([x, y], list(problem.arguments), value, [x, y])


def chain(problem: Problem) -> Run:
    x, y = (casadi.MX.sym(name, number.size) for name, number in zip("xy", problem.arguments, strict=True))
    z = x * y + x
    z = z * z - y
    z = z * x + y * z
    return bind([x, y], list(problem.arguments), casadi.sum1(z * z), [x, y])


KINDS: dict[str, Callable[[Problem], Run]] = {
    "rosenbrock": rosenbrock,
    "logistic": logistic,
    "loop": loop,
    "softmax": softmax,
    "graph": graph,
    "elementwise": elementwise,
    "chain": chain,
}
