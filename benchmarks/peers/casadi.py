"""CasADi through its buffer interface: SX graphs of scalars, MX graphs where there are matrix products."""

from collections.abc import Callable
from functools import reduce
from typing import Any

import casadi
import numpy as np

from ..problems import Problem
from . import Run, read_all

NAME = "CasADi"

#: inputs, the arguments first; the numbers that they get; the function's value
Graph = tuple[list[Any], list[Any], Any]


def prepare(problem: Problem) -> Run | None:
    """Build the graph of what is asked for, and bind its inputs and outputs to buffers."""
    spell = KINDS.get(problem.kind)
    graph = spell(problem) if spell else None
    return bind(problem, *graph) if graph else None


def bind(problem: Problem, inputs: list[Any], numbers: list[Any], value: Any) -> Run:
    """Make the function inputs -> results, and a call of it on `numbers` stored by columns."""
    arguments = inputs[: len(problem.arguments)]
    if problem.direction is not None:
        inputs, numbers = [*inputs, type(value).sym("u", *arguments[0].shape)], [*numbers, problem.direction]
    outputs, shapes = zip(*derive(problem, value, arguments, inputs[-1]), strict=True)
    function = casadi.Function("derivative", inputs, outputs)
    buffer, evaluate = function.buffer()
    given = [np.array(number, dtype=np.float64).ravel(order="F") for number in numbers]
    results = [np.empty(output.numel()) for output in outputs]
    for k, array in enumerate(given):
        buffer.set_arg(k, memoryview(array))
    for k, array in enumerate(results):
        buffer.set_res(k, memoryview(array))

    def read(_: Any) -> tuple[np.ndarray, ...]:
        return read_all(
            [
                array.reshape(output.shape, order="F").reshape(shape)
                for array, output, shape in zip(results, outputs, shapes, strict=True)
            ]
        )

    # CasADi only borrows the arrays: the call keeps them alive
    return Run(lambda kept=(function, buffer, given, results): evaluate(), read)


def derive(problem: Problem, value: Any, arguments: list[Any], u: Any) -> list[tuple[Any, tuple[int, ...]]]:
    """Give what is asked for, each with the shape that it has in NumPy; u is the direction, if there is one."""
    x, shape = arguments[0], np.shape(problem.arguments[0])
    match problem.derivative:
        case "jvp":
            return [(value, ()), (casadi.jtimes(value, x, u), ())]
        case "hvp":
            return [(casadi.jtimes(casadi.gradient(value, x), x, u), shape)]
        case "hessian":
            return [(casadi.densify(casadi.hessian(value, x)[0]), shape * 2)]
        case "jacfwd" | "jacrev":
            options = {"helper_options": {"ad_weight": float(problem.derivative == "jacrev")}}
            return [(casadi.densify(casadi.jacobian(value, x, options)), (value.numel(), x.numel()))]
    slopes = zip(arguments, problem.arguments, strict=True)
    return [(value, ()), *((casadi.gradient(value, a), np.shape(point)) for a, point in slopes)]


def rosenbrock(problem: Problem) -> Graph:
    (number,) = problem.arguments
    x = casadi.SX.sym("x", number.size)
    value = casadi.sum1(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)
    return [x], [number], value


def logistic(problem: Problem) -> Graph:
    (number,) = problem.arguments
    features, signs = map(casadi.DM, problem.constants)
    w = casadi.MX.sym("w", number.size)
    margins = signs * casadi.mtimes(features, w)
    value = casadi.sum1(casadi.log1p(casadi.exp(-margins))) / signs.numel()
    return [w], [number], value


def loop(problem: Problem) -> Graph:
    first, second = casadi.SX.sym("a"), casadi.SX.sym("b")
    (steps,) = problem.constants
    a, b = first, second
    for _ in range(steps):
        a, b = a + 0.01 * casadi.sin(b), b - 0.01 * a
    return [first, second], list(problem.arguments), a * b


def softmax(problem: Problem) -> Graph:
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
    return inputs, numbers, value


def graph(problem: Problem) -> Graph:
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
    return [x], [number], sum(nodes[-30:])


def elementwise(problem: Problem) -> Graph | None:
    if problem.arguments[0].dtype != np.float64:
        return None
    x, y = (casadi.MX.sym(name, number.size) for name, number in zip("xy", problem.arguments, strict=True))
    value = casadi.sum1(casadi.sin(x) * y + (x - y) ** 2 * casadi.exp(-x))
    return [x, y], list(problem.arguments), value


def chain(problem: Problem) -> Graph:
    x, y = (casadi.MX.sym(name, number.size) for name, number in zip("xy", problem.arguments, strict=True))
    z = x * y + x
    z = z * z - y
    z = z * x + y * z
    return [x, y], list(problem.arguments), casadi.sum1(z * z)


def layer(problem: Problem) -> Graph:
    x = casadi.MX.sym("x", problem.point.size)
    return [x], [problem.point], casadi.tanh(casadi.mtimes(casadi.DM(problem.constants[0]), x))


def energy(problem: Problem) -> Graph:
    inputs, numbers, outputs = layer(problem)
    return inputs, numbers, casadi.sumsqr(outputs)


def descent(problem: Problem) -> Graph:
    (steps,) = problem.constants
    a, y = casadi.SX.sym("a", problem.point.size), casadi.SX.sym("y", problem.point.size)
    loss = casadi.sumsqr(y - a) + casadi.sum1(y**4) / 4
    slope = casadi.Function("slope", [y, a], [casadi.gradient(loss, y)])
    made = 0.5 * a
    for _ in range(steps):
        made = made - 0.1 * slope(made, a)
    return [a], [problem.point], casadi.sumsqr(made)


KINDS: dict[str, Callable[[Problem], Graph | None]] = {
    "rosenbrock": rosenbrock,
    "logistic": logistic,
    "loop": loop,
    "softmax": softmax,
    "graph": graph,
    "elementwise": elementwise,
    "chain": chain,
    "layer": layer,
    "energy": energy,
    "descent": descent,
}
