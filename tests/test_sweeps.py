"""Both sweeps, fused and not, against the slow interpreter of the same tape."""

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from naive import Interpreter
from test_programs import MODEST, functions, memory_programs, points, programs

import tapead.numpy as tnp
from tapead import PASSES, options
from tapead.kernels.constants import TILE
from tapead.plan import Planner
from tapead.program import GuardFailed, Program
from tapead.record import COPY, Recording
from tapead.trace import checked_output


def recorded(f, x):
    """Record f on x; give the tape, the input's storage and the output's buffer."""
    with Recording(replays=True) as tape, np.errstate(all="ignore"):
        traced = tape.enter(x, levels=1)
        value = checked_output(tape, f(traced))
        value = tape.elementwise(COPY, (tape.tensor(value),))
    return tape, tape.storage_of[traced.buffer], value.buffer


def swept(tape, source, target, x, passes=PASSES):
    """Give value and gradient by the sweeps; None where a guard fails."""
    with options(passes=passes):
        program = Program(tape, [source], [target], target, [0])
    workspace = program.take()
    bound = [program.bind(workspace, 0, x)]
    try:
        program.run(workspace)
    except GuardFailed:
        return None
    return program.result(workspace, 0, bound), workspace.gradients[0].copy()


def interpreted(tape, source, target, x):
    """Give value and gradient by the interpreter."""
    slow = Interpreter(tape, [source], [x])
    slow.forward()
    value = slow.value(target).copy()
    slow.reverse(target)
    return value, slow.adjoints[source].reshape(x.shape)


def agree(f, xs, passes=PASSES):
    tape, source, target = recorded(f, xs[0])
    for x in xs:
        found = swept(tape, source, target, x, passes=passes)
        if found is None:
            continue
        value, gradient = interpreted(tape, source, target, x)
        np.testing.assert_allclose(found[0], value, rtol=1e-13, atol=1e-14)
        np.testing.assert_allclose(found[1], gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("passes", [PASSES, frozenset()], ids=["fused", "unfused"])
@given(program=programs())
@settings(MODEST, max_examples=40)
def test_random_programs_are_the_interpreters(program, passes):
    source, size = program
    note(source)
    agree(functions(source, size)[0], points(size, 2), passes)


@pytest.mark.parametrize("passes", [PASSES, frozenset()], ids=["fused", "unfused"])
@given(program=memory_programs())
@settings(MODEST, max_examples=40)
def test_programs_that_write_are_the_interpreters(program, passes):
    source, size = program
    note(source)
    agree(functions(source, size)[0], points(size, 2), passes)


@given(program=programs(sizes=st.sampled_from([TILE - 1, TILE, TILE + 1, 3 * TILE + 7])))
@settings(MODEST, max_examples=30)
def test_fusion_changes_nothing(program):
    """The same instructions in the same order: equal to the last bit, whatever the tiles."""
    source, size = program
    note(source)
    f = functions(source, size)[0]
    x = points(size, 1)[0]
    tape, storage, target = recorded(f, x)
    fused, unfused = swept(tape, storage, target, x), swept(tape, storage, target, x, passes=())
    np.testing.assert_allclose(fused[0], unfused[0], rtol=1e-14)
    np.testing.assert_allclose(fused[1], unfused[1], rtol=1e-13, atol=1e-15)


def rosenbrock(x):
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def test_rosenbrock_is_one_row_for_both_sweeps():
    tape, source, target = recorded(rosenbrock, np.linspace(-1.0, 1.0, 10))
    plan = Planner(tape, [target], target, [source]).make()
    assert [row[0] for row, kind in zip(plan.rows, plan.kinds, strict=True) if kind == "both"] == ["blocks_f8"]


def shifted_writes(x):
    y = x * 2.0
    y[1:] = np.sin(y[:-1]) + x[1:]
    return np.sum(y * x)


def sum_used_beside_its_parts(x):
    z = np.exp(x)
    return np.sum((z / np.sum(z) - x) ** 2)


def views_of_one_array(x):
    y = x * x
    return np.sum(y[::-1] * y + y[1:].sum() * x)


def written_after_it_was_read(x):
    y = tnp.zeros(x.size)
    y[:] = x * 3.0
    a = np.sin(y)
    y[:] = a * y + 1.0
    return np.sum(a * y)


@pytest.mark.parametrize("n", [1, 2, TILE - 1, TILE, TILE + 1, 2 * TILE + 3])
@pytest.mark.parametrize(
    "f", [rosenbrock, shifted_writes, sum_used_beside_its_parts, views_of_one_array, written_after_it_was_read]
)
def test_hazards_of_going_tile_by_tile(f, n):
    xs = [np.random.default_rng(k).uniform(-1.0, 1.0, n) for k in range(2)]
    for passes in (PASSES, frozenset()):
        agree(f, xs, passes)
