"""The benchmarks run: tiny sizes, results compared, nothing timed for its own sake."""

import argparse
import dataclasses
import doctest
import importlib
import json
from types import SimpleNamespace
from unittest.mock import Mock

import expect
import numpy as np
import pytest

from benchmarks import cold, command, measure, memory, peers, plot, problems, report, targets

PEERS = peers.installed()
SMALL = {problem.title: problem for problem in problems.available(problems.SMALL)}
SMALL_DERIVATIVES = {problem.title: problem for problem in problems.available(problems.SMALL_DERIVATIVES)}
TIMINGS = [
    measure.Timing(measure.WARM, "small", "tapead", (2e-6, 1e-6, 5e-6)),
    measure.Timing(measure.WARM, "small", "jax", (30e-6,)),
    measure.Timing(measure.WARM, "large", "tapead", (1e-3,)),
]
NAMED = {name: SimpleNamespace(NAME=name) for name in ("tapead", "jax", "torch")}


def test_tapead_and_two_oracles_take_part():
    assert {"tapead", "handwritten", "differences"} <= PEERS.keys()
    assert list(peers.installed(["differences", "tapead"])) == ["tapead", "differences"]


@pytest.mark.parametrize("title", SMALL)
def test_peers_agree(title):
    problem = SMALL[title]
    runs = measure.prepare(problem, PEERS)
    assert {"tapead", "handwritten", "differences"} <= runs.keys()
    value, *gradients = runs["tapead"].read(runs["tapead"].call())
    assert value == pytest.approx(float(problem.define()(*problem.arguments, *problem.batch)), rel=1e-5)
    assert [g.shape for g in gradients] == [np.shape(argument) for argument in problem.arguments]


def by_differences(problem):
    """Give what a problem asks for, by differences of differences."""

    def f(x):
        return problem.define(grad=lambda loss: lambda y, a: 2 * (y - a) + y**3)(x)

    def slopes(g, x):
        return np.array([expect.slope(lambda x, i=i: g(x)[i], x) for i in range(len(g(x)))])

    def slope(x):
        return expect.slope(f, x)

    x, u = problem.point, problem.direction
    return {
        "gradient": lambda: (f(x), slope(x)),
        "jvp": lambda: (f(x), slope(x) @ u),
        "hvp": lambda: (expect.slope(lambda x: slope(x) @ u, x),),
        "jacfwd": lambda: (slopes(f, x),),
        "jacrev": lambda: (slopes(f, x),),
        "hessian": lambda: (slopes(slope, x),),
    }[problem.derivative]()


@pytest.mark.parametrize("title", SMALL_DERIVATIVES)
def test_peers_agree_on_derivatives(title):
    problem = SMALL_DERIVATIVES[title]
    runs = measure.prepare(problem, PEERS)
    assert ("gradient" in runs) == (problem.derivative == "hvp")
    assert PEERS.keys() & {"jax", "casadi"} < runs.keys()
    for _ in range(2):
        results = runs["tapead"].read(runs["tapead"].call())
        for result, expected in zip(results, by_differences(problem), strict=True):
            np.testing.assert_allclose(result, expected, rtol=1e-7, atol=1e-6)


def test_a_warm_call_repeats_its_result():
    run = PEERS["tapead"].prepare(problems.rosenbrock(6))
    for first, again in zip(run.read(run.call()), run.read(run.call()), strict=True):
        np.testing.assert_array_equal(first, again)


def test_disagreement_is_found():
    problem = problems.rosenbrock(3)
    right = (np.array(1.0), np.array([1.0, 2.0, 3.0]))
    measure.require_agreement(problem, {"handwritten": right, "tapead": right})
    for wrong in (
        (right[0] + 1e-9, right[1]),
        (right[0], np.array([1.0, 2.0, 3.0 + 1e-9])),
        (right[0], np.array([1.0, np.nan, 3.0])),
        (right[0], np.array([[1.0, 2.0, 3.0]])),
    ):
        with pytest.raises(AssertionError, match="tapead against handwritten"):
            measure.require_agreement(problem, {"tapead": wrong, "handwritten": right})
    near = (right[0], np.array([1.0, 2.0, 3.0 + 1e-7]))
    measure.require_agreement(problem, {"handwritten": right, "differences": near})


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    figures = measure.interleave(calls, repeats=3, slice_seconds=0.0)
    assert "".join(order) == "abcabcabc"
    assert {name: len(seconds) for name, seconds in figures.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_call_without_budget_still_runs_once():
    figures = measure.interleave({"a": lambda: None}, repeats=3, slice_seconds=0.0, budget=1e-12)
    assert len(figures["a"]) == 1


def test_first_gradients_are_of_new_functions():
    prepared = []

    class Counting:
        NAME = "counting"

        def prepare(self, problem):
            prepared.append(problem)
            return PEERS["differences"].prepare(problem)

    timings = measure.measure_first(problems.rosenbrock(3), {"counting": Counting()}, repeats=2)
    assert [len(timing.repeats) for timing in timings] == [2]
    assert len(prepared) == 2


def test_a_peer_that_would_take_minutes_is_left_out():
    problem = dataclasses.replace(problems.rosenbrock(3), without=("differences",))
    assert "differences" not in measure.prepare(problem, PEERS)


def test_yardsticks_run():
    problem = problems.network((5, 4, 3, 2), 6)
    assert {"forward", "limit"} <= measure.prepare(problem, PEERS).keys()
    assert PEERS["limit"].prepare(problems.loop(3)) is None


@pytest.mark.parametrize("title", SMALL)
def test_the_forward_sweep_gives_the_value(title):
    problem = SMALL[title]
    value = PEERS["forward"].prepare(problem).call()
    assert float(value) == pytest.approx(float(problem.define()(*problem.arguments, *problem.batch)), rel=1e-5)


def test_threads_are_set_for_the_call_alone(monkeypatch):
    threaded = importlib.import_module("benchmarks.peers.threaded")
    monkeypatch.setattr(threaded, "set_threads", None)
    assert threaded.prepare(problems.rosenbrock(3)) is None
    asked = []
    monkeypatch.setattr(threaded, "set_threads", asked.append)
    run = threaded.prepare(problems.rosenbrock(3))
    value, *_ = run.read(run.call())
    assert asked == [2, 1]
    assert value == pytest.approx(float(problems.rosenbrock(3).define()(*problems.rosenbrock(3).arguments)))


def test_the_scalar_graph_stays_bounded():
    (x,), (rounds,) = problems.graph().arguments, problems.graph().constants
    value = float(problems.graph().define()(x))
    assert rounds == 2500
    assert 0.0 < value < 30.0


def test_table_of_ratios():
    assert report.table(TIMINGS, NAMED).splitlines() == [
        f"| {measure.WARM} | tapead | jax |",
        "|---|---:|---:|",
        "| small | 2.0 µs | 15x |",
        "| large | 1.0 ms | - |",
    ]
    assert report.table([], NAMED) == ""


def test_table_says_what_is_met():
    def timing(peer, seconds, table=measure.WARM, problem="Rosenbrock, n=10"):
        return measure.Timing(table, problem, peer, (seconds,))

    named = {name: SimpleNamespace(NAME=name.upper()) for name in peers.PACKAGES}
    row = report.table([timing("tapead", 1e-6), timing("casadi", 0.9e-6), timing("jax", 14e-6)], named).splitlines()[2]
    assert row.split(" | ")[-1] == "CASADI ≥ 0.77x: met; JAX ≥ 15x: **missed**; FORWARD ≥ 0.29x: not measured |"
    problem = "elementwise loss, n=1,000,000"
    figures = [
        timing(peer, time, measure.THREADED, problem) for peer, time in (("tapead", 4), ("threaded", 2), ("jax", 7))
    ]
    row = report.table(figures, named).splitlines()[2]
    assert row.split(" | ")[-1] == "JAX ≥ 1.9x: **missed**; JAX ≥ 3.3x of 2 threads: met |"
    row = report.table([timing("tapead", 0.2, measure.COLD, "import tapead, after numba")], named).splitlines()[2]
    assert row.split(" | ")[-1] == "≤ 150 ms: **missed** |"
    row = report.table([timing("tapead", 2e6, measure.MEMORY, memory.TITLE)], named).splitlines()[2]
    assert row.split(" | ")[1] == "2.0 MB"


def test_every_target_has_a_row():
    rows = {(measure.WARM, problem.title) for problem in problems.available(problems.FULL)}
    rows |= {(measure.FIRST, title) for _, title in rows}
    rows |= {(measure.DERIVATIVES, problem.title) for problem in problems.available(problems.DERIVATIVES)}
    rows |= {(measure.THREADED, problem.title) for problem in problems.available(problems.THREADED)}
    rows |= {(measure.MEMORY, memory.TITLE), *((measure.COLD, title) for title in cold.CODE)}
    assert targets.TARGETS.keys() <= rows
    named = {target.peer for row in targets.TARGETS.values() for target in row if isinstance(target, targets.Ratio)}
    assert named <= peers.PACKAGES.keys()


def test_report_names_the_machine_and_is_plain_data():
    text = report.report(TIMINGS, {name: PEERS.get(name, NAMED[name]) for name in NAMED})
    assert report.processor() in text
    assert f"numpy {np.__version__}" in text
    data = json.loads(json.dumps(report.plain(TIMINGS, NAMED)))
    assert data["results"][0]["median"] == 2e-6
    assert [measure.Timing.read(figures) for figures in data["results"]] == TIMINGS
    assert data["machine"]["versions"]["numpy"] == np.__version__


def test_plot_is_the_same_for_the_same_figures(tmp_path):
    pytest.importorskip("matplotlib")
    timings = [
        measure.Timing(measure.CURVE, f"elementwise loss, n={n:,}", peer, (n,))
        for n in (1000, 10)
        for peer in ("jax", "tapead")
    ]
    assert plot.curves(timings)["jax"] == [(10, 10), (1000, 1000)]
    for name in ("a.svg", "b.svg", "c.png"):
        plot.draw(timings, NAMED, tmp_path / name)
    picture = (tmp_path / "a.svg").read_text()
    assert "tapead" in picture
    assert "torch" not in picture
    assert picture == (tmp_path / "b.svg").read_text()
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_readme_block_is_replaced():
    readme = f"above\n{report.OPENING}\nold\n{report.CLOSING}\nbelow\n"
    once = report.replace_block(readme, "new")
    assert once == f"above\n{report.OPENING}\nnew\n{report.CLOSING}\nbelow\n"
    assert report.replace_block(once, "new") == once
    for broken in ("nothing", report.OPENING, f"{report.CLOSING}{report.OPENING}"):
        with pytest.raises(ValueError, match="there is no"):
            report.replace_block(broken, "new")


def test_a_session_measures_its_problems(monkeypatch):
    monkeypatch.setattr(problems, "FULL", (lambda: problems.rosenbrock(3), lambda: problems.loop(2)))
    monkeypatch.setattr(problems, "DERIVATIVES", (lambda: problems.derived(problems.rosenbrock(3), "hvp"),))
    monkeypatch.setattr(problems, "THREADED", (lambda: problems.chain(3),))
    monkeypatch.setattr(problems, "CURVE", (lambda: problems.elementwise(3),))
    monkeypatch.setattr(command, "FULL", command.Pace(warm=1, first=1, budget=0.1, points=1, processes=1))
    chosen = argparse.Namespace(quick=False, only="n=3", peers=["tapead", "forward", "gradient", "differences"])
    rows = {(t.table, t.problem, t.peer) for session in command.SESSIONS.values() for t in session(chosen)}
    both, all_three = ("tapead", "differences"), ("tapead", "forward", "differences")
    assert rows == {
        *((measure.WARM, "Rosenbrock, n=3", peer) for peer in all_three),
        *((measure.FIRST, "Rosenbrock, n=3", peer) for peer in both),
        *((measure.DERIVATIVES, "hvp: Rosenbrock, n=3", peer) for peer in ("tapead", "gradient")),
        *((measure.THREADED, "cheap chain, n=3", peer) for peer in all_three),
        (measure.CURVE, "elementwise loss, n=3", "tapead"),
    }


def test_command(tmp_path, capsys):
    arguments = ["--quick", "--only", "100x10", "--peers", "tapead", "--json", str(tmp_path / "figures.json")]
    assert command.main(arguments) == 0
    assert "| logistic loss, 100x10 |" in capsys.readouterr().out
    results = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert [result["table"] for result in results] == [measure.WARM]


def test_readme_gets_figures_and_picture(monkeypatch, tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "README.md").write_text(f"{report.OPENING}{report.CLOSING}")
    (tmp_path / "benchmarks").mkdir()
    monkeypatch.setattr(command, "ROOT", tmp_path)
    monkeypatch.setattr(command, "PICTURE", tmp_path / "benchmarks" / "elementwise.svg")
    monkeypatch.setattr(command, "run_apart", lambda session, chosen: TIMINGS[:1] if session == "alone" else [])
    assert command.main(["--readme", "--only", "nothing else", "--peers", "tapead"]) == 0
    text = (tmp_path / "README.md").read_text()
    assert "| small | 2.0 µs |" in text
    assert "](benchmarks/elementwise.svg)" in text
    assert (tmp_path / "benchmarks" / "elementwise.svg").exists()


def test_memory_is_measured_in_a_process_of_its_own():
    (timing,) = memory.measure(["tapead"], 300_000)
    assert timing.median >= 300_000 * 8  # the gradient itself


@pytest.mark.parametrize("title", cold.CODE)
def test_cold_start_runs(title):
    (timing,) = cold.measure([title], 1)
    assert (timing.table, timing.problem, timing.median > 0) == (measure.COLD, title, True)


def test_pytest_benchmark_takes_the_same_calls(monkeypatch):
    module = importlib.import_module("benchmarks.test_gradients")
    monkeypatch.setattr(module, "PROBLEMS", SMALL)
    monkeypatch.setattr(module, "runs", lambda title: measure.prepare(SMALL[title], PEERS))
    benchmark = Mock()
    module.test_warm_call(benchmark, "Rosenbrock, n=4", "tapead")
    (call,) = benchmark.call_args.args
    assert np.isfinite(call()[0])
    module.test_first_gradient(benchmark, "Rosenbrock, n=4", "tapead")
    (call,) = benchmark.pedantic.call_args.args
    assert np.isfinite(call()[0])
    with pytest.raises(pytest.skip.Exception, match="does not take part"):
        module.test_warm_call(benchmark, "Rosenbrock, n=4", "limit")
    with pytest.raises(pytest.skip.Exception, match="no gradient"):
        module.test_first_gradient(benchmark, "Rosenbrock, n=4", "forward")


def test_docstrings():
    assert doctest.testmod(report).failed == 0
