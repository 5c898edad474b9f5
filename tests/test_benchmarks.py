"""The benchmarks run: tiny sizes, results compared, nothing timed for its own sake."""

import doctest
import json
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import command, measure, peers, problems, report

PEERS = peers.installed()
SMALL = {problem.title: problem for problem in problems.available(problems.SMALL)}
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
    value, gradients = runs["tapead"].read(runs["tapead"].call())
    assert value == pytest.approx(float(problem.define()(*problem.arguments, *problem.batch)))
    assert [g.shape for g in gradients] == [np.shape(argument) for argument in problem.arguments]


def test_a_warm_call_repeats_its_result():
    run = PEERS["tapead"].prepare(problems.rosenbrock(6))
    first, again = run.read(run.call()), run.read(run.call())
    assert first[0] == again[0]
    np.testing.assert_array_equal(first[1][0], again[1][0])


def test_disagreement_is_found():
    problem = problems.rosenbrock(3)
    right = (1.0, (np.array([1.0, 2.0, 3.0]),))
    measure.require_agreement(problem, {"handwritten": right, "tapead": right})
    for wrong in (
        (1.0 + 1e-9, right[1]),
        (1.0, (np.array([1.0, 2.0, 3.0 + 1e-9]),)),
        (1.0, (np.array([1.0, np.nan, 3.0]),)),
        (1.0, (np.array([[1.0, 2.0, 3.0]]),)),
    ):
        with pytest.raises(AssertionError, match="tapead against handwritten"):
            measure.require_agreement(problem, {"tapead": wrong, "handwritten": right})
    near = (1.0, (np.array([1.0, 2.0, 3.0 + 1e-7]),))
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
    assert len(prepared) >= 2


def test_table_of_ratios():
    assert report.table(TIMINGS, NAMED).splitlines() == [
        f"| {measure.WARM} | tapead | jax |",
        "|---|---:|---:|",
        "| small | 2.0 µs | 15x |",
        "| large | 1.0 ms | - |",
    ]
    assert report.table([], NAMED) == ""


def test_report_names_the_machine_and_is_plain_data():
    text = report.report(TIMINGS, {name: PEERS.get(name, NAMED[name]) for name in NAMED})
    assert report.processor() in text
    assert f"numpy {np.__version__}" in text
    data = json.loads(json.dumps(report.plain(TIMINGS, NAMED)))
    assert data["results"][0]["median"] == 2e-6
    assert data["machine"]["versions"]["numpy"] == np.__version__


def test_readme_block_is_replaced():
    readme = f"above\n{report.OPENING}\nold\n{report.CLOSING}\nbelow\n"
    once = report.replace_block(readme, "new")
    assert once == f"above\n{report.OPENING}\nnew\n{report.CLOSING}\nbelow\n"
    assert report.replace_block(once, "new") == once
    for broken in ("nothing", report.OPENING, f"{report.CLOSING}{report.OPENING}"):
        with pytest.raises(ValueError, match="there is no"):
            report.replace_block(broken, "new")


def test_command(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(problems, "FULL", (lambda: problems.rosenbrock(3),))
    arguments = ["--quick", "--peers", "tapead", "differences", "--json", str(tmp_path / "figures.json")]
    assert command.main(arguments) == 0
    assert "| Rosenbrock, n=3 |" in capsys.readouterr().out
    results = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert {(result["table"], result["peer"]) for result in results} == {
        (table, peer) for table in (measure.WARM, measure.FIRST) for peer in ("tapead", "differences")
    }


def test_docstrings():
    assert doctest.testmod(report).failed == 0
