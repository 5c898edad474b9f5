"""The account of where a call's time goes."""

import dataclasses
import re
import threading

import expect
import numpy as np
import pytest

import tapead
from tapead import grad, options, profile, value_and_grad

X = np.linspace(-1.0, 1.0, 50)


def loss(x):
    y = np.sin(x) * x
    return np.sum(y * y)


def dense(w, x):
    h = np.tanh(x @ w)
    return np.mean(h**2)


def loop(a):
    b = 0.0
    for _ in range(100):
        a, b = a + 0.01 * np.sin(b), b - 0.01 * a
    return a * b


def branches(x):
    return np.sum(x) if x[0] > 0 else np.sum(x * x)


def test_one_block():
    start, block = profile(value_and_grad(loss), X).rows
    number, file = expect.line_number(loss, "np.sin")
    assert (start.kind, block.kind) == ("start", "both")
    assert block.what == "block of 4: sin, multiply, multiply, sum"
    assert block.places == (f"{file}:{number}", f"{file}:{number + 1}")
    assert block.touched >= 2 * X.nbytes


def test_rows_of_both_sweeps():
    w, x = np.full((50, 3), 0.1), np.ones((20, 50))
    rows = profile(grad(dense), w, x).rows
    products = [row for row in rows if row.what == "matmul"]
    assert [row.kind for row in products] == ["forward", "reverse"]
    number, file = expect.line_number(dense, "tanh")
    assert products[0].places == (f"{file}:{number}",)
    assert products[0].touched == x.nbytes + w.nbytes + 8 * 60


def test_scalar_runs():
    rows = profile(value_and_grad(loop), 0.5).rows
    assert [row.kind for row in rows] == ["start", "forward", "reverse"]
    assert all(re.fullmatch("scalar run of [0-9]+", row.what) for row in rows[1:])


def test_times_add_up():
    """No clock is wrong by more than all of the time."""
    with options(passes=()):
        found = profile(value_and_grad(loss), np.ones(20_000))
    assert all(row.seconds >= 0 for row in found.rows)
    assert sum(row.share for row in found.rows) == pytest.approx(1.0)
    assert found.rows_together == pytest.approx(sum(row.seconds for row in found.rows))
    assert 0 < found.sweeps < found.call
    assert found.around == pytest.approx(found.call - found.sweeps)
    assert found.rows_together == pytest.approx(found.sweeps, rel=0.9)
    assert found.clock > 0
    assert found.rounds >= 5


def test_dear_instructions_are_dear():
    with options(passes=()):
        rows = profile(value_and_grad(lambda x: np.sum(np.sin(x) + x)), np.linspace(0.0, 50.0, 20_000)).rows
    forward = {row.what: row.seconds for row in rows if row.kind == "forward"}
    assert forward["sin"] > forward["add"]


def test_the_table_is_aligned():
    with options(passes=()):
        text = str(value_and_grad(loss).profile(X))
    head, *lines = text.split("\n\n")[1].splitlines()
    assert "value_and_grad of loss" in text
    place = head.index("place")
    end = head.index("share") + len("share")
    named = [line for line in lines if "test_profile.py" in line]
    assert len(named) >= 8
    assert {line.index("test_profile.py") for line in named} == {place}
    assert {line[:end][-1] for line in lines} == {"%"}


def test_a_long_table_is_cut():
    def long(x):
        for _ in range(100):
            x = np.cumsum(x) * 0.5
        return np.sum(x)

    found = profile(value_and_grad(long), X)
    assert len(found.rows) > 200
    lines = str(found).splitlines()
    assert len(lines) < 80
    assert re.search("[0-9]+ more rows", lines[-1])


def test_results_stay_right_afterwards():
    def writes(x):
        y = x.copy()
        y[1:] *= y[:-1]
        return np.sum(y * x)

    vg = value_and_grad(writes)
    value, gradient = vg(X)
    vg.profile(X)
    again, same = vg(X)
    assert value == again
    np.testing.assert_array_equal(gradient, same)
    np.testing.assert_allclose(gradient, expect.slope(writes, X), rtol=1e-7, atol=1e-8)


def test_large_inputs_and_out():
    x = np.linspace(-1.0, 1.0, 10_000)
    before, target = x.copy(), np.empty_like(x)
    vg = grad(loss)
    vg.profile(x, out=target)
    np.testing.assert_array_equal(x, before)
    np.testing.assert_array_equal(target, grad(loss)(x))


def test_the_branch_of_the_arguments():
    vg = value_and_grad(branches)
    x = np.ones(50)
    vg(x)
    assert any("multiply" in row.what for row in vg.profile(-x).rows)
    assert not any("multiply" in row.what for row in vg.profile(x).rows)
    assert vg(x)[0] == 50.0


def test_arguments_by_name_trees_and_aux():
    def f(p, scale=1.0):
        return np.sum(np.sin(p["w"])) * scale + p["b"], p["w"] * 2.0

    vg = value_and_grad(f, has_aux=True)
    found = profile(vg, {"w": X, "b": 1.0}, scale=2.0)
    assert any(row.what.startswith("block") for row in found.rows)


def test_a_function_of_nothing():
    assert profile(grad(lambda x: 1.0), X).sweeps >= 0


def test_beside_other_threads():
    vg = value_and_grad(loss)
    expected = vg(X)
    found = []
    other = threading.Thread(target=lambda: found.extend(vg(X) for _ in range(500)))
    other.start()
    vg.profile(X)
    other.join()
    for value, gradient in found:
        assert value == expected[0]
        np.testing.assert_array_equal(gradient, expected[1])


def test_a_profile_cannot_be_changed():
    found = profile(value_and_grad(loss), X)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.call = 0.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.rows[0].seconds = 0.0


@pytest.mark.parametrize("thing", [loss, np.sin, 3])
def test_other_functions(thing):
    with expect.error(TypeError, "grad or another transform"):
        profile(thing, X)


def test_not_while_a_function_is_traced():
    inner = grad(loss)

    def outer(x):
        inner.profile(X)
        return np.sum(x)

    with expect.error(TypeError, "while a function is traced"):
        grad(outer)(X)


def test_the_functions_own_errors_come_through():
    with pytest.raises(tapead.TapeadError):
        profile(grad(lambda x: x), X)
