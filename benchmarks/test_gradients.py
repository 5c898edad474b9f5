"""Every peer on every problem through pytest-benchmark; results are compared before anything is timed."""

from functools import cache
from typing import Any

import pytest

from . import measure, peers, problems

PEERS = peers.installed()
PROBLEMS = {problem.title: problem for problem in problems.available(problems.FULL)}
EVERY = pytest.mark.parametrize(("title", "peer"), [(title, peer) for title in PROBLEMS for peer in PEERS])


@cache
def runs(title: str) -> dict[str, peers.Run]:
    return measure.prepare(PROBLEMS[title], PEERS)


@EVERY
def test_warm_call(benchmark: Any, title: str, peer: str) -> None:
    benchmark.group = f"{title}: {measure.WARM}"
    benchmark(runs(title)[peer].call)


@EVERY
def test_first_gradient(benchmark: Any, title: str, peer: str) -> None:
    benchmark.group = f"{title}: {measure.FIRST}"
    assert peer in runs(title)
    benchmark.pedantic(lambda: PEERS[peer].prepare(PROBLEMS[title]).call(), rounds=3)
