"""Many callers of one function: threads, forks, calls within calls, and memory that stays as it is."""

import concurrent.futures
import gc
import os
import resource
import signal
import sys
import threading
import time
import tracemalloc
import warnings

import expect
import numpy as np
import pytest

import tapead
from tapead import grad, value_and_grad

X = np.array([0.3, 1.2, 2.5])
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def branching(x):
    return np.sum(x**2) if x[0] > 0 else np.sum(np.sin(x))


def branching_gradient(x):
    return 2 * x if x[0] > 0 else np.cos(x)


def smooth(x):
    return np.log(np.sum(np.exp(np.outer(x, x) @ np.sin(x))))


def filling(x):
    import tapead.numpy as tnp

    y = tnp.zeros(len(x))
    y[0] = x[0]
    for i in range(1, len(x)):
        y[i] = y[i - 1] * np.cos(x[i])
    return np.sum(y)


def filling_reference(x):
    return np.sum(np.cumprod(np.r_[x[0], np.cos(x[1:])]))


def in_threads(work, count):
    """Run work(0), work(1), ... at once in threads that start together, and raise what any of them raises."""
    start = threading.Barrier(count)

    def run(k):
        start.wait()
        return work(k)

    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return [future.result(timeout=120) for future in [pool.submit(run, k) for k in range(count)]]


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "traced at once"])
@pytest.mark.parametrize(("f", "reference"), [(branching, branching), (smooth, smooth), (filling, filling_reference)])
def test_threads_on_one_function(f, reference, warm):
    """Every thread gets the gradient of its own argument, from a first call on or from a warm one."""
    rng = np.random.default_rng(0)
    points = rng.uniform(0.1, 1.0, (8, 20, 4)) * rng.choice([-1.0, 1.0], (8, 20, 1))
    slopes = [[expect.slope(reference, x) for x in mine] for mine in points]
    for _ in range(1 if warm else 5):
        vg = value_and_grad(f)
        if warm:
            vg(points[0, 0])

        def work(k, vg=vg):
            for _ in range(10):
                for x, slope in zip(points[k], slopes[k], strict=True):
                    value, gradient = vg(x)
                    np.testing.assert_allclose(value, reference(x), rtol=1e-12)
                    np.testing.assert_allclose(gradient, slope, rtol=1e-6, atol=1e-8)

        in_threads(work, 8)


def test_threads_with_long_sweeps():
    """Sweeps that last long enough for the GIL to be released still do not mix."""
    vg = value_and_grad(lambda x: np.sum(np.sin(x) * np.exp(-(x**2))))
    points = np.random.default_rng(0).standard_normal((4, 50_000))

    def work(k):
        x = points[k]
        truth = (np.cos(x) - 2 * x * np.sin(x)) * np.exp(-(x**2))
        for _ in range(20):
            np.testing.assert_allclose(vg(x)[1], truth, rtol=1e-9, atol=1e-12)

    in_threads(work, 4)


def test_threads_with_out():
    vg = value_and_grad(lambda x: np.sum(x**3))

    def work(k):
        x, out = X + k, np.empty(3)
        for _ in range(2000):
            value, _ = vg(x, out=out)
            assert value == pytest.approx(np.sum(x**3), rel=1e-14)
        np.testing.assert_allclose(out, 3 * x**2)

    in_threads(work, 4)


def test_threads_with_signatures_of_their_own():
    vg = value_and_grad(lambda x: np.sum(x**2))

    def work(k):
        for n in range(k + 1, 40, 3):
            x = np.arange(float(n))
            np.testing.assert_allclose(vg(x)[1], 2 * x)

    in_threads(work, 6)


def test_threads_tracing_different_functions():
    """Traces do not see each other's values."""

    def work(k):
        for _ in range(20):
            f = grad(lambda x: np.sum((x + k) ** 2) + np.sum(grad(lambda y: np.sum(y**3))(x)))
            np.testing.assert_allclose(f(X), 2 * (X + k) + 6 * X)

    in_threads(work, 4)


def test_threads_with_more_branches_than_are_kept():
    """Traces are thrown out by one thread while another runs them."""
    vg = value_and_grad(lambda x: x * int(np.floor(tapead.stop_gradient(x))))

    def work(k):
        for n in range(k * 20, k * 20 + 150):
            assert vg(n + 0.5) == (pytest.approx((n + 0.5) * n), pytest.approx(n))

    in_threads(work, 4)


def test_a_traced_value_does_not_go_to_another_thread_silently():
    """What a second thread computes with a traced value is on the tape, or it is an error."""

    def f(x):
        results = []
        thread = threading.Thread(target=lambda: results.append(attempt(x)))
        thread.start()
        thread.join()
        if isinstance(results[0], Exception):
            raise results[0]
        return np.sum(results[0])

    def attempt(x):
        try:
            return np.sin(x)
        except Exception as problem:
            return problem

    expect.right_or_error(f, X, reference=lambda x: np.sum(np.sin(x)))


def test_the_gil_is_released_in_long_sweeps():
    """Another thread goes on while a sweep runs: its longest pause is far shorter than the call."""
    vg = value_and_grad(lambda x: np.sum(np.sin(x) * np.exp(-(x**2))))
    x, out = np.linspace(-1.0, 1.0, 2_000_000), np.empty(2_000_000)
    vg(x, out=out)
    shares = []
    for _ in range(8):
        times = []

        def call(times=times):
            times.append(time.perf_counter())
            vg(x, out=out)
            times.append(time.perf_counter())

        thread, ticks = threading.Thread(target=call), [time.perf_counter()]
        thread.start()
        while thread.is_alive():
            ticks.append(time.perf_counter())
        thread.join()
        begin, end = times
        within = [begin, *[t for t in ticks if begin < t < end], end]
        shares.append(max(np.diff(within)) / (end - begin))
    assert min(shares) < 0.5


# Calls within calls


def test_a_function_that_calls_itself():
    """Reentrancy: while vg runs its function, the function calls vg."""

    def f(x):
        if len(x) == 1:
            return x[0] ** 2
        inner_value, inner_gradient = vg(np.arange(1.0, len(x)))
        return np.sum(x**2) + float(inner_value) * 0.0 + np.sum(inner_gradient) * x[0]

    vg = value_and_grad(f)
    # d/dx of x² is 2x; the inner gradients of constants add their sums to the first component.
    value, gradient = vg(np.array([3.0]))
    assert (value, gradient.tolist()) == (9.0, [6.0])
    value, gradient = vg(np.array([3.0, 4.0]))
    assert value == pytest.approx(25.0 + 2.0 * 3.0)
    np.testing.assert_allclose(gradient, [6.0 + 2.0, 8.0])


def test_a_traced_function_that_calls_another():
    other = value_and_grad(lambda y: np.sum(np.sin(y)))

    def f(x):
        value, gradient = other(x)
        plain, _ = other(np.array([0.5, 0.25]))
        return value * np.sum(gradient) + plain

    expect.right(f, X, -X, reference=lambda x: np.sum(np.sin(x)) * np.sum(np.cos(x)) + np.sin(0.5) + np.sin(0.25))


def test_calls_from_a_callback_while_tracing():
    """A warm function called on plain numbers in the middle of somebody else's trace replays as ever."""
    warm = value_and_grad(lambda y: np.sum(y**2))
    warm(X)

    def f(x):
        y = np.sin(x)
        np.testing.assert_allclose(warm(X + 1.0)[1], 2 * (X + 1.0))
        np.testing.assert_allclose(grad(lambda z: np.sum(z**3))(X), 3 * X**2)
        return np.sum(y)

    np.testing.assert_allclose(grad(f)(X), np.cos(X))


def test_tapes_within_traces_and_tapes():
    def f(x):
        with tapead.Tape() as tape:
            v = tape.variable(np.array([1.0, 2.0]))
            y = np.sum(v**3)
        tape.backward(y)
        return np.sum(x * float(v.grad[1]))

    try:
        np.testing.assert_allclose(grad(f)(X), [12.0] * 3)
    except tapead.TapeadError as problem:
        if "tape" not in str(problem).lower():
            raise


def test_generators_that_interleave_two_traces_are_refused_or_right():
    """Two functions traced in turns, by threads handing over to each other."""
    turn = [threading.Event(), threading.Event()]

    def work(k):
        def f(x):
            for _ in range(5):
                turn[k].wait(10)
                turn[k].clear()
                x = np.sin(x) * (k + 1)
                turn[1 - k].set()
            return np.sum(x)

        def reference(x):
            for _ in range(5):
                x = np.sin(x) * (k + 1)
            return np.sum(x)

        np.testing.assert_allclose(grad(f)(X), expect.slope(reference, X), rtol=1e-7)

    turn[0].set()
    in_threads(work, 2)


# Forks


def in_a_fork(work):
    """Run work in a forked child under a watchdog, and assert that it came to its end."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking a process that has threads
        child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(60)  # a lock held by a thread that is gone would wait for ever
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
def test_fork():
    """A child replays what the parent traced, traces anew, and the parent goes on."""
    vg = value_and_grad(branching)
    vg(X)

    def work():
        for x in (X, -X, X + 1):
            np.testing.assert_allclose(vg(x)[1], branching_gradient(x))
        np.testing.assert_allclose(grad(lambda x: np.sum(np.outer(x, x) @ x))(X), expected)

    expected = expect.slope(lambda x: np.sum(np.outer(x, x) @ x), X)
    in_a_fork(work)
    np.testing.assert_allclose(vg(-X)[1], branching_gradient(-X))


@needs_fork
def test_fork_while_other_threads_call_and_trace():
    """No lock that another thread holds at the moment of the fork stops the child."""
    vg = value_and_grad(branching)
    vg(X)
    done = threading.Event()

    def call():
        while not done.is_set():
            vg(X)
            vg(-X)

    def trace():
        while not done.is_set():
            value_and_grad(branching)(X)

    threads = [threading.Thread(target=target) for target in (call, trace)]
    for thread in threads:
        thread.start()

    def work():
        np.testing.assert_allclose(vg(X + 1)[1], branching_gradient(X + 1))
        np.testing.assert_allclose(grad(smooth)(X), slope, rtol=1e-6)

    slope = expect.slope(smooth, X)
    try:
        for _ in range(8):
            in_a_fork(work)
    finally:
        done.set()
        for thread in threads:
            thread.join()


@needs_fork
def test_fork_inside_a_trace():
    def f(x):
        y = np.sin(x)
        in_a_fork(lambda: np.testing.assert_allclose(grad(lambda z: np.sum(z**2))(X), 2 * X))
        return np.sum(y)

    np.testing.assert_allclose(grad(f)(X), np.cos(X))


# Memory


def resident():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def loop_of_replays():
    vg, out = value_and_grad(branching), np.empty(3)
    return lambda k: vg(X if k % 3 else -X, out=out)


def loop_without_out():
    vg = value_and_grad(branching)
    return lambda k: vg(X if k % 2 else -X)


def loop_of_structures():
    vg = value_and_grad(lambda p, s: (np.sum(p["w"] ** 2) * s, p["w"] * 2), has_aux=True)
    return lambda k: vg({"w": X}, float(k))


@LINUX
@pytest.mark.parametrize("loop", [loop_of_replays, loop_without_out, loop_of_structures])
def test_calls_leave_no_memory_behind(loop):
    """100,000 calls grow the process by less than 10 bytes a call."""
    call = loop()
    for k in range(5_000):
        call(k)
    gc.collect()
    before = resident()
    for k in range(100_000):
        call(k)
    gc.collect()
    assert resident() - before < 1_000_000


@pytest.mark.parametrize("loop", [loop_of_replays, loop_without_out, loop_of_structures])
def test_calls_leave_no_python_objects_behind(loop):
    call = loop()
    for k in range(100):
        call(k)
    gc.collect()
    tracemalloc.start()
    try:
        for k in range(200):
            call(k)
        gc.collect()
        before, _ = tracemalloc.get_traced_memory()
        for k in range(5_000):
            call(k)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20_000


def memory_after(attempt, count, warm=2):
    """Give the bytes of Python and NumPy that `count` attempts leave behind without garbage collection.

    Collection counts objects, not bytes: arenas must not wait for it.
    """
    tracemalloc.start()
    try:
        for k in range(warm):
            attempt(k)
        gc.collect()
        gc.disable()
        before, _ = tracemalloc.get_traced_memory()
        for k in range(warm, warm + count):
            attempt(k)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.enable()
    return after - before


def test_functions_that_are_gone_take_their_arenas_along():
    x = np.ones(50_000)

    def attempt(k):
        assert grad(lambda x: np.sum(np.cumsum(x) * k))(x)[-1] == k

    assert memory_after(attempt, 20) < 5 * x.nbytes


def test_traces_that_are_thrown_out_take_their_arenas_along():
    vg = value_and_grad(lambda x, k: np.sum(np.cumsum(x)) * k)
    x = np.ones(50_000)

    def attempt(k):
        assert vg(x, k)[1][-1] == k

    assert memory_after(attempt, 20, warm=70) < 4 * x.nbytes


def test_functions_traced_at_every_call_leave_no_arenas_behind():
    vg = value_and_grad(lambda x: np.sum(np.cumsum(x)) * len(tapead.stop_gradient(x).tolist()))
    x = np.ones(50_000)

    def attempt(k):
        assert vg(x)[1][-1] == 50_000

    assert memory_after(attempt, 20) < 5 * x.nbytes


@LINUX
def test_functions_that_are_gone_take_everything_along():
    def once(k):
        assert grad(lambda x: np.sum(x * k))(X)[-1] == k

    for k in range(500):
        once(k)
    gc.collect()
    before = resident()
    for k in range(2000):
        once(k)
    gc.collect()
    assert resident() - before < 10_000_000


def test_errors_leave_no_arenas_behind():
    def f(x):
        y = np.cumsum(np.sin(x))
        raise LookupError(y.shape)

    x = np.ones(50_000)

    def attempt(k):
        try:
            grad(f)(x)
        except LookupError:
            pass
        else:
            pytest.fail("no error")

    assert memory_after(attempt, 20) < 5 * x.nbytes


@LINUX
def test_threads_that_come_and_go_leave_no_workspaces_behind():
    vg = value_and_grad(lambda x: np.sum(np.cumsum(np.sin(x))))
    x = np.ones(50_000)

    def spawn(count):
        for _ in range(count):
            thread = threading.Thread(target=vg, args=(x,))
            thread.start()
            thread.join()

    spawn(30)
    gc.collect()
    before = resident()
    spawn(300)
    gc.collect()
    assert resident() - before < 40_000_000
