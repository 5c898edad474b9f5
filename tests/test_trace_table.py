"""Trace tables: the course's example to its digits, and random programs whose flows must add up."""

import html.parser
import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, note, reject, settings
from hypothesis import strategies as st
from test_programs import MODEST, functions, memory_programs, points, programs

import tapead
import tapead.numpy as tnp
from tapead.blocks import carries
from tapead.figures import value_text
from tapead.formulas import adjoint_formula, adjoint_latex, formula, formula_latex
from tapead.kernels.table import OPS, Elementwise, Structural
from tapead.nodes import OPERATION, VIEW
from tapead.observation import observe
from tapead.tape import Buffer

GOLDEN = Path(__file__).parent / "golden"


def slide(x1, x2):
    """Compute in the order of the slide: all that depends on the inputs alone comes first."""
    logarithm, product, sine = np.log(x1), x1 * x2, np.sin(x2)
    return logarithm + product - sine


def layer(X, W, b):
    H = X @ W + b
    return np.mean(np.tanh(H[:, 1:]) ** 2) * b[0]


def rounded(values):
    return [round(float(value), 3) for value in values]


# ---- the slides ------------------------------------------------------------------------------------------------------


def test_the_nodes_of_the_slide():
    rows = tapead.trace_table(slide, 2.0, 5.0).rows
    assert [row.name for row in rows] == ["v1", "v2", "v3", "v4", "v5", "v6", "v7"]
    assert [row.formula for row in rows] == ["x1", "x2", "log(v1)", "v1 * v2", "sin(v2)", "v3 + v4", "v6 - v5"]
    assert rounded(row.value for row in rows) == [2, 5, 0.693, 10, -0.959, 10.693, 11.652]


def test_the_tangents_of_the_slide():
    rows = tapead.trace_table(slide, 2.0, 5.0).rows
    assert rounded(row.tangents["x1"] for row in rows) == [1, 0, 0.5, 5, 0, 5.5, 5.5]
    assert rounded(row.tangents["x2"] for row in rows) == [0, 1, 0, 2, 0.284, 2, 1.716]


def test_the_adjoints_of_the_slide():
    table = tapead.trace_table(slide, 2.0, 5.0)
    assert rounded(row.adjoint for row in table.rows) == [5.5, 1.716, 1, 1, -1, 1, 1]
    partials = {row.name: [(p.name, p.formula, round(float(p.value), 3)) for p in row.partials] for row in table.rows}
    assert partials["v1"] == [("v̄(1→3)", "v̄3 * (1 / v1)", 0.5), ("v̄(1→4)", "v̄4 * v2", 5)]
    assert partials["v2"] == [("v̄(2→4)", "v̄4 * v1", 2), ("v̄(2→5)", "v̄5 * cos(v2)", -0.284)]
    assert partials["v5"] == [("v̄(5→7)", "-v̄7", -1)]
    assert partials["v7"] == []
    assert rounded(table.gradient.values()) == [5.5, 1.716]
    assert [check.label for check in table.checks] == ["x1", "x2"]
    assert all(check.agrees for check in table.checks)


@pytest.mark.parametrize("mode", ["forward", "reverse"])
def test_one_mode_alone(mode):
    table = tapead.trace_table(slide, 2.0, 5.0, mode=mode)
    assert all(bool(row.tangents) is (mode == "forward") for row in table.rows)
    assert any(row.partials for row in table.rows) is (mode == "reverse")
    assert bool(table.gradient) is (mode == "reverse")
    assert all(check.agrees for check in table.checks)
    assert ("Reverse" in table.text()) is (mode == "reverse")


def test_wrt_chooses_the_inputs():
    table = tapead.trace_table(slide, 2.0, 5.0, wrt=("x2",))
    assert list(table.gradient) == ["x2"]
    assert all(list(row.tangents) == ["x2"] for row in table.rows)
    assert table.rows[2].adjoint == 0  # nothing flows to log(v1)


# ---- golden files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "write"), [("trace.txt", tapead.trace_table(slide, 2.0, 5.0).text), ("trace.tex", tapead.trace_table(slide, 2.0, 5.0).latex)])  # fmt: skip
def test_golden_files(name, write):
    lines = [
        line.rpartition("  test_trace")[0].rstrip() or line for line in write().splitlines()
    ]  # but for line numbers
    lines = [line for line in lines if "e-" not in line]  # and the rounding of the check
    assert lines == (GOLDEN / name).read_text(encoding="utf-8").splitlines()


def test_golden_file_of_arrays():
    table = tapead.trace_table(layer, np.arange(12.0).reshape(4, 3) / 10, np.ones((3, 2)), np.array([0.1, 0.2]))
    lines = [line.rpartition("  test_trace")[0].rstrip() or line for line in table.text().splitlines()]
    lines = [line for line in lines if "e-" not in line]
    assert lines == (GOLDEN / "trace_arrays.txt").read_text(encoding="utf-8").splitlines()


def test_tensor_rules_are_written_as_in_the_course():
    rows = {row.formula: row for row in tapead.trace_table(lambda X, W: X @ W, np.ones((2, 3)), np.ones((3, 4))).rows}
    assert [p.formula for p in rows["X"].partials] == ["v̄3 @ v2ᵀ"]
    assert [p.formula for p in rows["W"].partials] == ["v1ᵀ @ v̄3"]
    np.testing.assert_array_equal(rows["X"].partials[0].value, np.full((2, 3), 4.0))
    np.testing.assert_array_equal(rows["W"].adjoint, np.full((3, 4), 2.0))


# ---- formulas mean what they say --------------------------------------------------------------------------------------


M = np.arange(12.0).reshape(3, 4) / 7 + 0.3
C = np.arange(24.0).reshape(2, 3, 4) / 9

VIEWS = [
    lambda x: x[::2, 1:][:, ::-1] * 2,
    lambda x: x.T[1:3].T * 2,
    lambda x: x[::-1].reshape(2, 6)[1] * 2,
    lambda x: x.ravel()[::2] * x.ravel()[5:-1],
    lambda x: x[2:0:-1, ::-2] * 2,
    lambda x: np.swapaxes(x, 0, 1)[1:, ::2] * 2,
    lambda x: np.diagonal(x) * 2,
    lambda x: x.reshape(4, 3)[:, 1] * 2,
    lambda x: x[None, :, None, 1:] * 2,
    lambda x: np.repeat(x, 2, axis=0) * 2,
    lambda x: np.broadcast_to(x[:, 1][:, None], (3, 5)) * 2,
    lambda x: x[1:1] * 2,
    lambda x: C.transpose(2, 0, 1)[1:, :, ::2] * np.transpose(np.tile(x, (2, 1, 1)), (2, 0, 1))[:3, :, 1:],
    lambda x: x[:, None, :] * x[None, :, :],
    lambda x: x[:1] * x[:, :1],
    lambda x: x[:1].T @ x[1:2],
    lambda x: x[:1] * x[:1].T,
    lambda x: x / np.sum(x, axis=1, keepdims=True) - np.max(x, axis=1)[:, None],
    lambda x: np.outer(x[0], x[1]) * np.stack([x[0]] * 4),
    lambda x: x[np.array([0, 1, 1, 2])] + np.arange(4)[:, None] * x[0],
    lambda x: x * np.average(x, axis=0, weights=np.array([1.0, 2.0, 3.0])),
]


@pytest.mark.parametrize("f", VIEWS)
def test_views_and_operands_evaluate_to_the_values(f):
    rows = tapead.trace_table(f, M).rows
    known = {name: getattr(np, name) for name in ("multiply", "add", "sum", "max")} | {"broadcast": np.broadcast_to}
    known |= {row.name: np.asarray(row.value) for row in rows}
    readable = [row for row in rows if row.kind == "view" or any(sign in row.formula for sign in "*/-+@")]
    assert readable
    for row in readable:
        made = eval(row.formula, known)
        np.testing.assert_allclose(np.reshape(made, np.shape(row.value)), row.value, rtol=1e-14, err_msg=row.formula)
        assert np.shape(made) == np.shape(row.value), row.formula


@pytest.mark.parametrize("f", VIEWS)
def test_partial_adjoints_evaluate_to_their_values(f):
    rows = {row.name: row for row in tapead.trace_table(f, M).rows}
    known = {name: np.asarray(row.value) for name, row in rows.items()} | {"sum": np.sum}
    for row in rows.values():
        for part in row.partials:
            if rows[part.consumer].op in ("multiply", "add", "subtract", "divide"):
                bar = f"v\u0304{part.consumer[1:]}"
                made = eval(part.formula.replace(bar, "adjoint"), known | {"adjoint": rows[part.consumer].adjoint})
                np.testing.assert_allclose(np.ravel(made), np.ravel(part.value), rtol=1e-13, err_msg=part.formula)


def test_what_an_inner_gradient_reads_of_overwritten_memory_has_a_value():
    def inner(t):
        y = tnp.zeros(4)
        y[:2] = t[:2] ** 2
        return np.sum(y**2)

    table = tapead.trace_table(lambda x: np.sum(tapead.grad(inner)(x) * x), np.ones(4))
    assert all(row.value is not None for row in table.rows)


def test_truth_values_are_words_in_latex():
    latex = tapead.trace_table(lambda x: np.where(np.logical_and(x > 1, np.bool_(True)), x, 0.0), 2.0).latex()
    assert r"\text{True}" in latex
    assert "True" not in latex.replace(r"\text{True}", "")


def test_results_that_are_views_have_an_adjoint_of_their_own():
    rows = tapead.trace_table(lambda x: (x[1:], np.sum(x), x[1:]), np.ones(3)).rows
    view = next(row for row in rows if row.kind == "view")
    np.testing.assert_array_equal(view.adjoint, [2, 2])
    np.testing.assert_array_equal(rows[0].adjoint, [1, 3, 3])
    assert sorted(np.sum(part.value) for part in rows[0].partials) == [3, 4]


def test_a_result_given_twice_has_a_seed_of_two():
    table = tapead.trace_table(lambda x: (y := x * 3.0, y), 2.0)
    assert table.gradient["x"] == 6
    assert "2 (seed)" in table.text()
    assert "the sum of all its elements" in table.text()
    assert "$2$ & $2$" in table.latex()


def test_many_partials_of_one_input_are_cut():
    def f(x):
        y = x
        for _ in range(500):
            y = 0.5 * y + x
        return y

    table = tapead.trace_table(f, 1.0)
    assert len(table.rows[0].partials) == 501
    assert "... 481 more ..." in table.text()
    assert max(map(len, table.text().splitlines())) < 400


def test_a_number_that_leaves_the_tape_is_an_error():
    with pytest.raises(TypeError, match="would be lost"):
        tapead.trace_table(lambda x: x * math.exp(x), 2.0)


def test_large_arrays_in_json():
    x = np.full((50, 50), 2.0)
    assert tapead.trace_table(lambda x: np.sum(x), x).as_dict()["rows"][0]["value"] == {"shape": [50, 50], "norm": 100}
    assert tapead.trace_table(lambda x: np.sum(x), x, values=True).as_dict()["rows"][0]["value"] == x.tolist()


def test_nan_arises_of_infinities():
    warnings = tapead.trace_table(lambda x: np.exp(x) - np.exp(x) * 1.0, 1e3).warnings
    assert [line.partition(",")[0] for line in warnings] == [
        "infinity arises at v2 = exp(v1)",
        "infinity arises at v3 = exp(v1)",
        "NaN arises at v5 = v2 - v4",
    ]


def test_opposite_infinities_in_a_gradient():
    table = tapead.trace_table(lambda x: np.sum(np.sqrt(x) * np.array([1.0, -1.0])), np.zeros(2))
    assert [check.verdict for check in table.checks] == ["not finite"]


def test_norms_of_large_numbers():
    assert value_text(np.full((4, 4), 1e200)) == "‖·‖ = 4.000e+200"
    assert value_text(np.array([[-3.0]])) == "[[-3]]"


def test_a_function_that_raises_nearby_has_a_table():
    def f(x):
        if x > 1:
            raise ArithmeticError("too large")
        return x * x

    table = tapead.trace_table(f, 1.0)
    assert table.gradient == {"x": 2}
    assert table.checks == ()
    assert table.warnings == (
        "the derivative by x is not checked: nearby, the function raises ArithmeticError: too large",
    )


def test_names_differ():
    with pytest.raises(ValueError, match="names must differ, unlike x, x"):
        tapead.trace_table(lambda x, y: x * y, 1.0, 2.0, names=("x", "x"))


def test_a_cast_to_single_precision_is_no_mistake():
    table = tapead.trace_table(lambda x, s: np.sum(x.astype(np.float32) * np.float32(1.1) * s), M, 2.0)
    assert all(check.agrees for check in table.checks)


# ---- random programs -------------------------------------------------------------------------------------------------


def scattered(seen, part):
    """Give a partial adjoint in the shape of its source: a view's is added at its place."""
    source, consumer = seen.nodes[part.source], seen.nodes[part.consumer]
    if consumer.kind != VIEW:
        return part.value
    buffer = seen.nodes.tape.buffers[consumer.buffer]
    flat = np.zeros(max(int(np.prod(source.shape)), 1))
    places = np.lib.stride_tricks.as_strided(
        np.arange(flat.size)[buffer.offset :], buffer.shape, [8 * s for s in buffer.strides]
    )
    np.add.at(flat, places, np.reshape(part.value, buffer.shape))
    return flat.reshape(source.shape)


def check_flows(f, x):
    if f(x) == f(x + 0.5):
        reject()  # a program may come to a constant
    seen = observe(f, (x,), ("x",), None, True, True)
    nodes = seen.nodes
    value, gradient = tapead.value_and_grad(f)(x)
    (out,) = seen.outputs
    np.testing.assert_allclose(seen.values[out], value, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(seen.adjoints.get(0, np.zeros_like(x)), gradient, rtol=1e-11, atol=1e-13)
    slope = seen.tangents[0].get(out, 0.0)
    np.testing.assert_allclose(slope, np.sum(gradient), rtol=1e-9, atol=1e-11)
    for node in nodes.all:
        parts = [part for part in seen.parts if part.source == node.index]
        if node.index not in seen.outputs and parts:
            total = sum(scattered(seen, part) for part in parts)
            np.testing.assert_allclose(seen.adjoints[node.index], total, rtol=1e-11, atol=1e-13, err_msg=node.name)
        if node.kind == OPERATION and node.part == 0 and isinstance(nodes.tape.ops[node.instructions[0]], Elementwise):
            check_value(seen, node)


def check_value(seen, node):
    """The value noted for a node is what its op makes of the values noted for its operands."""
    k = node.instructions[0]
    tape, op = seen.nodes.tape, seen.nodes.tape.ops[k]
    operands = []
    for buffer, n in zip(tape.operand_buffers[k], seen.nodes.operands[k], strict=True):
        constant = n < 0
        value = tape.storages[tape.storage_of[buffer]].data.reshape(-1)[0] if constant else seen.values[n]
        operands.append(np.reshape(value, tape.buffers[buffer].shape))
    with np.errstate(all="ignore"):
        made = op.numpy(*operands)
    made = np.broadcast_to(made, tape.buffers[tape.result_buffers[k][0]].shape)
    np.testing.assert_allclose(np.ravel(seen.values[node.index]), np.ravel(made), rtol=1e-13, err_msg=node.name)


@given(programs())
@MODEST
def test_flows_of_programs(program):
    source, size = program
    note(source)
    check_flows(functions(source, size)[0], points(size)[0])


@given(memory_programs())
@MODEST
def test_flows_through_memory(program):
    source, size = program
    note(source)
    check_flows(functions(source, size)[0], points(size)[0])


@given(st.one_of(programs(), memory_programs()))
@settings(MODEST, max_examples=15)
def test_tables_of_random_programs(program):
    source, size = program
    note(source)
    f, x = functions(source, size)[0], points(size)[0]
    if f(x) == f(x + 0.5):
        reject()
    table = tapead.trace_table(f, x, values=True)
    json.dumps(table.as_dict(), allow_nan=False)
    assert all(row.name in table.text() for row in table.rows[:50])
    assert table.latex().count(r"\begin{tabular}") == table.latex().count(r"\end{tabular}") == 2
    Tags().feed(table.html())


class Tags(html.parser.HTMLParser):
    """Checks that tags close in order."""

    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


# ---- nodes -----------------------------------------------------------------------------------------------------------


def formulas(f, *args):
    return [row.formula for row in tapead.trace_table(f, *args, mode="reverse").rows]


@pytest.mark.parametrize(
    ("view", "text"),
    [
        (lambda x: x[1:], "v1[1:]"),
        (lambda x: x[:, 1], "v1[:, 1]"),
        (lambda x: x[1, 2], "v1[1, 2]"),
        (lambda x: x[::-1], "v1[::-1]"),
        (lambda x: x[:, ::2], "v1[:, ::2]"),
        (lambda x: x[2:0:-1, 1:3], "v1[2:0:-1, 1:3]"),
        (lambda x: x[-1], "v1[3]"),
        (lambda x: x.T, "v1.T"),
        (lambda x: x.reshape(2, 10), "v1.reshape(2, 10)"),
        (lambda x: x.ravel(), "v1.reshape(20)"),
        (lambda x: np.broadcast_to(x, (3, 4, 5)), "broadcast(v1, (3, 4, 5))"),
        (lambda x: x.reshape(2, 2, 5).transpose(1, 0, 2), "v1.reshape(2, 2, 5).transpose(1, 0, 2)"),
    ],
)
def test_views_read_like_numpy(view, text):
    x = np.arange(20.0).reshape(4, 5)
    assert formulas(lambda x: np.sum(np.sin(view(x))), x)[1] == text
    if text.startswith("v1"):
        np.testing.assert_array_equal(eval(text, {"v1": x}), view(x))


def test_a_transposition_of_three_axes():
    x = np.zeros((2, 3, 4))
    assert formulas(lambda x: np.sum(np.sin(x.transpose(1, 0, 2))), x)[1] == "v1.transpose(1, 0, 2)"
    assert formulas(lambda x: np.sum(np.sin(x.transpose(2, 0, 1))), x)[1] == "v1.transpose(2, 0, 1)"


def test_an_assignment_makes_a_new_node():
    def f(x):
        y = tnp.zeros(3)
        y[0] = x[1]
        y[1:] = x[:2] * 2.0
        return np.sum(y * y)

    rows = tapead.trace_table(f, np.array([1.0, 2.0])).rows
    written = [row for row in rows if row.kind == "write"]
    assert [row.formula for row in written] == ["v2 with v2[0] = v3", "v4 with v4[1:] = v5"]
    np.testing.assert_array_equal(written[0].value, [2, 0, 0])
    np.testing.assert_array_equal(written[1].value, [2, 2, 4])
    assert [p.formula for p in written[0].partials] == ["v̄6 where it was not written"]


def test_stacked_numbers_are_one_node():
    rows = tapead.trace_table(lambda a, b: np.sum(np.stack([a, b, a]) ** 2), 1.0, 2.0).rows
    (joined,) = [row for row in rows if row.kind == "join"]
    assert joined.formula == "join(v1, v2, v1)"
    np.testing.assert_array_equal(joined.value, [1, 2, 1])


def test_a_branch_is_a_guard():
    rows = tapead.trace_table(lambda x: x * 2.0 if x > 1.0 else x, 3.0).rows
    assert [(row.kind, row.formula) for row in rows][1:3] == [("op", "v1 > 1"), ("guard", "v2 is True")]
    assert rows[2].adjoint is None


def test_instructions_that_run_in_one_block_are_numbered():
    x = np.linspace(0.1, 1.0, 1000)
    rows = tapead.trace_table(lambda x: np.sum(np.sin(x) * np.exp(x)), x).rows
    assert [row.block for row in rows] == [None, 1, 1, 1, 1]


def test_places_are_lines_of_the_function():
    first = layer.__code__.co_firstlineno
    table = tapead.trace_table(layer, np.ones((2, 3)), np.ones((3, 2)), np.ones(2))
    assert {row.place for row in table.rows if row.place} == {f"test_trace_table.py:{first + k}" for k in (1, 2)}


def test_the_graph_shows_values_and_adjoints():
    table = tapead.trace_table(layer, np.ones((1000, 3)), np.ones((3, 2)), np.array([0.1, 0.2]))
    boxes = {box.name: box for box in table.graph(colour="adjoint").picture.boxes}
    assert boxes["v1"].small[1:] == ("‖v1‖ = 54.772\n" + value_text(table.rows[0].adjoint, name="v̄1"),)
    assert max(box.shade for box in boxes.values()) == 1.0
    (frame,) = table.graph().picture.frames
    assert frame.text == "block 1"
    assert frame.boxes == ("v6", "v7", "v8", "v9")
    with pytest.raises(ValueError, match="adjoint"):
        table.graph(colour="red")


# ---- arguments and results -------------------------------------------------------------------------------------------


def test_trees_and_integers():
    def f(p, k):
        return np.sum(p["w"] ** 2) * k + p["b"][0]

    table = tapead.trace_table(f, {"w": np.array([1.0, 2.0]), "b": (3.0,)}, 2)
    assert set(table.gradient) == {"p['w']", "p['b'][0]"}
    np.testing.assert_array_equal(table.gradient["p['w']"], [4, 8])


def test_several_results_are_summed():
    table = tapead.trace_table(lambda x: (x * 2.0, np.array([1.0, 2.0]) * x), 3.0)
    assert table.gradient["x"] == 5.0
    assert "sum of all its elements" in table.text()


def test_float32_stays():
    table = tapead.trace_table(lambda x: np.sum(np.log(x)), np.array([1, 2], np.float32))
    assert {row.type.partition("[")[0] for row in table.rows} == {"float32"}
    assert table.gradient["x"].dtype == np.float32
    assert table.checks[0].agrees


@pytest.mark.filterwarnings("ignore:invalid value")
def test_nan_is_named_where_it_arises():
    table = tapead.trace_table(lambda x: np.exp(np.log(x) * 2.0), -1.0)
    assert len(table.warnings) == 1
    assert table.warnings[0].startswith("NaN arises at v2 = log(v1), with v1 = -1 (test_trace_table.py:")
    assert "not finite" in table.text()


def test_a_wrong_rule_is_told():
    @tapead.custom_jvp
    def f(x):
        return x * x

    f.defjvp(lambda primals, tangents: (primals[0] ** 2, 2.1 * primals[0] * tangents[0]))
    (check,) = tapead.trace_table(lambda x: f(x), 3.0).checks
    assert not check.agrees
    assert check.verdict == "DIFFERS"


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: tapead.trace_table(3, 1.0), TypeError, "function"),
        (lambda: tapead.trace_table(slide, 1.0, 2.0, mode="backward"), ValueError, "mode must be"),
        (lambda: tapead.trace_table(slide, 1.0, 2.0, wrt=("x3",)), ValueError, "'x3'.*x1, x2"),
        (lambda: tapead.trace_table(slide, 1.0, 2.0, wrt="x1"), TypeError, "several names"),
        (lambda: tapead.trace_table(slide, 1.0, 2.0, names=("a",)), ValueError, "2 strings"),
        (lambda: tapead.trace_table(lambda x: 3.0, 1.0), TypeError, "nothing that depends"),
        (lambda: tapead.trace_table(lambda x: x, 1), TypeError, "no float"),
    ],
)
def test_misuse(call, error, message):
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, tapead.TapeadError)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.6931471, "0.693"), (10.0, "10"), (-0.9589, "-0.959"), (0.0, "0"), (-0.0, "0"), (1e-9, "1.000e-09"),
        (0.00123456, "0.00123"), (123456.0, "1.235e+05"), (np.inf, "inf"), (np.nan, "nan"), (3, "3"), (True, "True"),
        (np.array([1.0, 0.25]), "[1, 0.25]"), (np.full(100, 0.5), "‖·‖ = 5"), (np.zeros((0,)), "[]"),
        (np.array([[3.0, np.nan], [4.0, 0.0]]), "‖·‖ = 5, 1 not finite"), (np.arange(20), "20 numbers"),
    ],
)  # fmt: skip
def test_numbers_as_text(value, text):
    assert value_text(value) == text


def test_long_tables_say_what_they_leave_out():
    def f(x):
        for _ in range(300):
            x = np.sin(x)
        return x

    table = tapead.trace_table(f, 1.0)
    assert len(table.rows) == 301
    assert table.text().count("181 rows left out") == 2


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_every_op_and_its_partials_read(op):
    """A new op needs no text of its own if it is elementwise; a structural one says what its rule does."""
    if isinstance(op, Structural):
        assert len(op.adjoints) == len(op.active)
    count = len(op.partials) if isinstance(op, Elementwise) else op.arity
    names = ["v1", "v2", "v3"][:count]
    b = Buffer(np.dtype(float), (1,), (1,))
    texts = [formula(op, names, None, b, b)]
    latexs = [formula_latex(op, [f"v_{{{k + 1}}}" for k in range(count)], None, b, b)]
    for i in range(count):
        if carries(op, i):
            texts.append(adjoint_formula(op, i, "v̄9", names, "v9"))
            latexs.append(adjoint_latex(op, i, r"\bar{v}_{9}", [f"v_{{{k + 1}}}" for k in range(count)], "v_{9}"))
            assert "v̄9" in texts[-1]
    assert all(text.isprintable() and "{" not in text.replace("{9}", "") for text in texts)
    assert all(latex.count("{") == latex.count("}") and latex.count("$") % 2 == 0 for latex in latexs)
    assert all(name in texts[0] for name in names[:1])
