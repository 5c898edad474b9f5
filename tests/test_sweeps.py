"""Both sweeps, fused and not, against the slow interpreter of the same tape."""

import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from naive import Interpreter
from test_programs import MODEST, functions, memory_programs, points, programs

import tapead
import tapead.numpy as tnp
from tapead import PASSES, options, threads, tiles
from tapead.kernels.constants import ASK, ASKED, LINE, TILE
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


def asked(words):
    """Give (register, lines ahead) of whatever a row's words ask for ahead of time."""
    ndim, loads, stores, once, count = words[1], *words[3:7]
    start = 11 + ndim + (loads + stores) * (5 + ndim)
    lines = [words[k : k + 7] for k in range(start, start + 7 * (once + count), 7)]
    return [(line[1], line[0] - ASK) for line in lines if line[0] >= ASK]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, TILE - 1, TILE, TILE + 1, 2 * TILE + 3, 50_001])
@pytest.mark.parametrize("f", [rosenbrock, shifted_writes, views_of_one_array])
def test_memory_asked_for_ahead_changes_nothing(f, n, dtype, monkeypatch):
    x = np.random.default_rng(n).uniform(-1.0, 1.0, n).astype(dtype)
    x[n // 2] = np.nan
    results = []
    for far in (0, 1 << 62):
        monkeypatch.setattr(tiles, "FAR", far)
        g = tapead.value_and_grad(f)
        results.append((*g(x), *g(x)))
        with threads(2):
            results[-1] += g(x)
    for asking, plain in zip(*results, strict=True):
        np.testing.assert_array_equal(asking, plain)


def test_each_stretch_is_asked_for_once(monkeypatch):
    """Two slices of one array are next to each other; a whole tile of each array is asked for, and none of a short one."""
    wanted = []
    plain = tiles.Code.words

    def words(self):
        wanted.append(asked(plain(self)))
        return plain(self)

    monkeypatch.setattr(tiles.Code, "words", words)
    x = np.linspace(-1.0, 1.0, 1000)
    tapead.value_and_grad(rosenbrock)(x)
    monkeypatch.setattr(tiles, "FAR", 0)
    tapead.value_and_grad(rosenbrock)(x)
    short, far = wanted
    assert short == []
    ahead = [lines for _, lines in far]
    assert len({register for register, _ in far}) == 2  # x and its adjoint
    assert len(ahead) == 2 * len(set(ahead))
    assert sorted(set(ahead)) == list(range(min(ahead), max(ahead) + 1, ASKED))
    assert min(ahead) * LINE % 512 == 0
    assert max(ahead) + ASKED >= 2 * min(ahead)


def products_and_sums(x):
    return np.sum((x * x + x) * (x - x * x) - (x * x) * (x * x) + (x + 1.0 + x) * x + (x - 2.0) * x - x * 3.0)


def product_overwritten_after_it_was_read(x):
    y = x * 2.0
    z = y * y
    y[:] = x + 1.0
    return np.sum(x - z + y)


def with_and_without_pairs(monkeypatch, f, *arguments):
    """Give what value_and_grad gives, with two lines at once and without."""
    for paired in (tiles._PAIRED, {}):
        monkeypatch.setattr(tiles, "_PAIRED", paired)
        yield tapead.value_and_grad(lambda *x: f(*x))(*arguments)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("n", [1, 2, TILE - 1, TILE, TILE + 1, 2 * TILE + 3])
@pytest.mark.parametrize("f", [products_and_sums, product_overwritten_after_it_was_read, rosenbrock])
def test_two_lines_at_once_change_nothing(f, n, dtype, monkeypatch):
    """Nothing is rounded otherwise: equal to the last bit, NaN and infinity included."""
    x = np.random.default_rng(n).uniform(-9.0, 9.0, n).astype(dtype)
    x[n // 2 :: 700], x[n // 3 :: 900] = np.nan, np.inf
    with np.errstate(all="ignore"):
        (value, gradient), (plain_value, plain_gradient) = with_and_without_pairs(monkeypatch, f, x)
    np.testing.assert_array_equal(value, plain_value)
    np.testing.assert_array_equal(gradient, plain_gradient)


@pytest.mark.parametrize("n", [1, TILE - 1, TILE, TILE + 1])
def test_two_lines_at_once_on_integers(n, monkeypatch):
    k = np.random.default_rng(n).integers(-9, 9, n)
    results = list(
        with_and_without_pairs(monkeypatch, lambda y, k: y * np.sum((k * k + k) * (k - k * k) - k * 3), 2.0, k)
    )
    assert results[0] == results[1] == (2.0 * results[0][1], np.sum((k * k + k) * (k - k * k) - k * 3))


def test_products_and_sums_are_done_two_at_once(monkeypatch):
    """Of the thirteen lines of Rosenbrock three go; a product that two others read stays."""
    counts = []
    plain = tiles.Code._paired

    def counted(self, lines):
        kept = plain(self, lines)
        counts.append((len(lines), len(kept)))
        return kept

    monkeypatch.setattr(tiles.Code, "_paired", counted)
    x = np.linspace(-1.0, 1.0, 100)
    tapead.value_and_grad(rosenbrock)(x)
    assert [before - after for before, after in counts] == [3]
    counts.clear()
    tapead.value_and_grad(lambda x: np.sum((x * x - 1.0) * np.exp(x * x)))(x)
    assert [before - after for before, after in counts] == [0]
