"""Passes switched off: an optimization is right when nothing changes without it."""

import gc
import threading
import weakref

import expect
import numpy as np
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st
from test_programs import MODEST, functions, memory_programs, points, programs

import tapead
from tapead import PASSES, explain, grouping, options, value_and_grad
from tapead.switches import MANY, collector_paused

CHOICES = {"none": frozenset(), **{f"without {name}": PASSES - {name} for name in sorted(PASSES)}}


def results(f, passes, xs):
    """Give values and gradients at points, the first of which is traced with some passes on."""
    vg = value_and_grad(f)
    with options(passes=passes):
        return [vg(x) for x in xs]


def close(found, expected, what):
    for (value, gradient), (expected_value, expected_gradient) in zip(found, expected, strict=True):
        size = max(1.0, abs(expected_value))
        np.testing.assert_allclose(value, expected_value, rtol=1e-12, atol=1e-14 * size, err_msg=what)
        size = max(1.0, np.max(np.abs(expected_gradient)))
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-12, atol=1e-12 * size, err_msg=what)


def same_without(source, size):
    note(source)
    f = functions(source, size)[0]
    xs = points(size, 2)
    expected = results(f, PASSES, xs)
    for what, passes in CHOICES.items():
        close(results(f, passes, xs), expected, what)


@given(program=programs())
@settings(MODEST, max_examples=40)
def test_random_programs_do_not_depend_on_passes(program):
    same_without(*program)


@given(program=programs(sizes=st.sampled_from([63, 129, 511, 1025])))
@settings(MODEST, max_examples=25)
def test_arrays_of_many_tiles_do_not_depend_on_passes(program):
    same_without(*program)


@given(program=memory_programs())
@settings(MODEST, max_examples=40)
def test_programs_that_write_do_not_depend_on_passes(program):
    same_without(*program)


def joined(source, size):
    """Give a program between small joined arrays, parts of which blocks, sums and scalar runs write."""
    f = functions(source, size)[0]
    rows = np.linspace(0.1, 1.0, 400).reshape(4, 100)

    def g(x):
        y = f(x)
        z = np.stack([y, np.sum(np.sin(rows * y)), x[0] * y, np.tanh(np.mean(rows * x[0]))])
        return np.sum(z * z[::-1]) + z[1] * z[0] + f(x * z[3])

    return g


@given(program=programs(sizes=st.integers(2, 4)))
@settings(MODEST, max_examples=40)
def test_random_programs_do_not_depend_on_scalar_runs(program):
    source, size = program
    note(source)
    for f in (functions(source, size)[0], joined(source, size)):
        xs = points(size, 2)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(grouping, "scalar_class", lambda tape, k: None)
            expected = results(f, PASSES, xs)
        close(results(f, PASSES, xs), expected, "without scalar runs")


def repeats(x):
    """Give passes something to do: constants to fold, products to share, dead code, large intermediates."""
    scale = tapead.numpy.array([1.0, 2.0]).sum()
    np.cos(x)
    y = np.exp(x * x) / (1.0 + np.exp(x * x))
    return np.mean(y @ y.T) * scale + np.max(y)


def account(passes, f=repeats, x=None):
    with options(passes=passes):
        return explain(value_and_grad(f), np.full((64, 64), 0.1) if x is None else x)


def test_fewer_instructions_with_passes():
    assert account(()).needed == account(()).instructions
    for name in ("dead", "share"):
        assert account({name}).needed < account(()).needed, name


def test_folding_leaves_fewer_instructions():
    def f(x):
        return np.sum(x * np.sin(tapead.numpy.zeros(3) + 1.0))

    assert account({"fold"}, f, np.ones(3)).needed < account((), f, np.ones(3)).needed


def test_fewer_rows_with_blocks():
    assert account({"blocks"}).rows < account(()).rows


def test_blocks_turn_only_with_their_pass():
    f, x = (lambda x: np.sum(np.sin(x) * x)), np.ones(8)
    assert account(PASSES, f, x).turned == 1
    assert account(PASSES - {"turn"}, f, x).turned == 0


def test_less_memory_with_reuse():
    assert account({"reuse"}).arena_bytes < account(()).arena_bytes


def test_first_touch_needs_no_clearing():
    assert account(PASSES).rows < account(PASSES - {"first"}).rows


def test_a_trace_keeps_the_passes_that_it_was_made_with():
    vg, x = value_and_grad(lambda x: np.sum(np.sin(x) * x)), np.ones(8)
    with options(passes=()):
        vg(x)
        within = value_and_grad(vg.function)
        rows = explain(vg).rows
    assert explain(vg, x).rows == rows
    assert explain(within, x).rows < rows
    with options(passes=()):
        assert explain(within, x).rows < rows


def test_options_within_options():
    f, x = (lambda x: np.sum(np.sin(x) * x)), np.ones(8)
    with options(passes=()):
        plain = account(()).rows
        with options(passes=PASSES):
            assert explain(value_and_grad(f), x).turned == 1
        assert explain(value_and_grad(f), x).turned == 0
    assert explain(value_and_grad(f), x).turned == 1
    assert plain == account(()).rows


def test_options_end_with_an_error():
    with pytest.raises(KeyError), options(passes=()):
        raise KeyError
    assert account(PASSES).rows == explain(value_and_grad(repeats), np.full((64, 64), 0.1)).rows


def test_other_threads_are_not_concerned():
    seen = []
    with options(passes=()):
        other = threading.Thread(target=lambda: seen.append(explain(value_and_grad(repeats), np.full((64, 64), 0.1))))
        other.start()
        other.join()
    assert seen[0].rows == account(PASSES).rows


def test_as_a_decorator():
    @options(passes=PASSES - {"turn"})
    def turned():
        return explain(value_and_grad(lambda x: np.sum(np.sin(x) * x)), np.ones(8)).turned

    assert turned() == turned() == 0


def test_unknown_passes():
    with expect.error(ValueError, "unknown passes: sparkle", *PASSES), options(passes={"fold", "sparkle"}):
        pass


@pytest.mark.parametrize(
    "repeat",
    [
        lambda x: x * 1.0,
        lambda x: 1 * x,
        lambda x: x / 1.0,
        lambda x: x - 0.0,
        lambda x: np.where(True, x, 2 * x),
        lambda x: np.where(np.array([False] * 4), 2 * x, x),
        lambda x: x.copy(),
    ],
)
def test_what_repeats_an_operand_is_dropped(repeat):
    x = np.array([1.5, -0.0, np.inf, np.nan])
    plain = account(PASSES, lambda x: np.sum(np.sin(x)), x)
    assert account(PASSES, lambda x: np.sum(repeat(np.sin(x))), x).needed == plain.needed
    (_, (y, z)), _ = value_and_grad(lambda x: (np.sum(x), (repeat(x), 2 * repeat(x))), has_aux=True)(x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(z, 2 * x)
    np.testing.assert_array_equal(np.signbit(y[:3]), np.signbit(x[:3]))


@pytest.mark.parametrize(
    "exponent", [2, 3, 2.0, 3.0, np.full(4, 3.0), np.array([2.0, 3.0, 2.0, 3.0]), np.full((2, 1), 2.0)]
)
def test_powers_that_become_products(exponent):
    x = np.array([1.5, -0.0, np.inf, -2.0])
    results = []
    for passes in (PASSES, PASSES - {"fold"}):
        with options(passes=passes):
            vg = value_and_grad(lambda x: (np.sum(np.power(x[:2], 3.0)), np.power(x, exponent)), has_aux=True)
            results.append(vg(x))
            np.testing.assert_allclose(vg(x)[0][1], np.power(x, exponent), rtol=1e-15)
    np.testing.assert_allclose(results[0][1], results[1][1], rtol=1e-15)
    np.testing.assert_allclose(results[0][1][:2], [6.75, 0.0])


def test_what_changes_a_sign_of_zero_or_a_dtype_stays():
    x = np.array([-0.0, 2.0])
    (_, y), _ = value_and_grad(lambda x: (np.sum(x), x + 0.0), has_aux=True)(x)
    assert not np.signbit(y[0])
    (_, y), _ = value_and_grad(lambda x: (np.sum(x), x * np.ones((3, 1))), has_aux=True)(x)
    assert y.shape == (3, 2)
    (_, y), _ = value_and_grad(lambda x: (np.sum(x), x * np.float64(1.0)), has_aux=True)(x.astype(np.float32))
    assert y.dtype == np.float64


@pytest.mark.parametrize("passes", ["fold", None, 3])
def test_passes_must_be_several_names(passes):
    with expect.error(TypeError, "several names"), options(passes=passes):
        pass


@pytest.mark.parametrize("passes", [PASSES, frozenset()], ids=["all", "none"])
def test_an_element_of_a_large_array_as_the_value(passes):
    x = np.linspace(0.0, 1.0, 5000)
    with options(passes=passes):
        for f, slope in ((lambda x: x[3], np.ones_like), (lambda x: np.sin(x)[3], np.cos)):
            _, gradient = value_and_grad(f)(x)
            expected = np.zeros(5000)
            expected[3] = slope(x)[3]
            np.testing.assert_allclose(gradient, expected, rtol=1e-14)


@pytest.mark.parametrize("passes", CHOICES.values(), ids=CHOICES)
def test_numbers_beside_a_block_that_turns(passes):
    """A scalar run's reverse sweep may come before blocks, but not before its own numbers are loaded."""
    x = np.array([0.5, -1.5, 2.0])
    with options(passes=passes):
        vg = value_and_grad(lambda p: sum(np.sum(v**2) for v in p.values()))
        for b in (2.0, 3.0):
            _, gradient = vg({"a": x, "b": b})
            np.testing.assert_allclose(gradient["a"], 2.0 * x, rtol=1e-14)
            assert gradient["b"] == 2.0 * b


@pytest.mark.parametrize("passes", CHOICES.values(), ids=CHOICES)
def test_one_array_in_blocks_reductions_and_numbers(passes):
    """None of the three is alone in adding to the adjoint, whichever comes first."""

    def f(x):
        return np.sum(np.tanh(x)) + np.min(x) * np.sin(x[3]) * x[4]

    x = np.random.default_rng(0).uniform(-1.5, 1.5, 63)
    with options(passes=passes):
        vg = value_and_grad(f)
        for point in (x, 1.1 * x):
            np.testing.assert_allclose(vg(point)[1], expect.slope(f, point), rtol=1e-8, atol=1e-9)


def test_what_the_collector_missed_is_collected_later():
    class Node:
        pass

    with collector_paused():
        assert not gc.isenabled()
        node = Node()
        node.itself = node
        seen = weakref.ref(node)
        del node
        kept = [[k] for k in range(10_000)]
    assert gc.isenabled()
    kept += [[k] for k in range(10_000)]
    assert seen() is None


def test_many_objects_are_not_searched_at_once():
    times = []
    gc.callbacks.append(lambda phase, information: times.append(phase))
    try:
        with collector_paused():
            kept = [[k] for k in range(MANY + 10)]
        made = [kept]
    finally:
        gc.callbacks.pop()
    assert made
    assert not times
