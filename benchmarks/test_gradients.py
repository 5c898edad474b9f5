"""Every peer on every problem through pytest-benchmark; results are compared before anything is timed."""

from functools import cache
from typing import Any

import pytest

from . import measure, peers, problems

PEERS = peers.installed()
PROBLEMS = {problem.title: problem for problem in problems.available((*problems.FULL, *problems.DERIVATIVES))}
EVERY = pytest.mark.parametrize(("title", "peer"), [(title, peer) for title in PROBLEMS for peer in PEERS])


@cache
def runs(title: str) -> dict[str, peers.Run]:
    return measure.prepare(PROBLEMS[title], PEERS)


def known(title: str, peer: str) -> peers.Run:
    if peer not in runs(title):
        pytest.skip("this peer does not take part")
    return runs(title)[peer]


@EVERY
def test_warm_call(benchmark: Any, title: str, peer: str) -> None:
    benchmark.group = f"{title}: {measure.WARM}"
    benchmark(known(title, peer).call)


@EVERY
def test_first_gradient(benchmark: Any, title: str, peer: str) -> None:
    benchmark.group = f"{title}: {measure.FIRST}"
    if known(title, peer).read is None:
        pytest.skip("a yardstick, no gradient")
    benchmark.pedantic(lambda: PEERS[peer].prepare(PROBLEMS[title]).call(), rounds=3)
