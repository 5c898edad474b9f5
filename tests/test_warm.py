"""Kernels are compiled ahead side by side, and the screen says so."""

import io
import os
import subprocess
import sys

import pytest
from numba.core.caching import IndexDataCacheFile

from tapead import warm
from tapead.kernels import library
from tapead.kernels.jit import lists_code_of, source_stamp
from tapead.screen import PlainScreen


@pytest.fixture
def listeners(monkeypatch):
    monkeypatch.setattr(library, "listeners", [])
    return library.listeners


def test_kernel_lines_say_what_is_compiled_and_nothing_of_what_is_loaded(monkeypatch, listeners):
    monkeypatch.setattr(library, "seconds", {"slow": 3.21, "fast": 0.02})
    stream, compiled = io.StringIO(), []
    with warm.kernel_lines(PlainScreen(stream), compiled):
        (hear,) = library.listeners
        hear("fast", "loading")
        hear("fast", "ready")
        assert stream.getvalue() == ""
        hear("slow", "compiling")
        told = f"Compiling kernels (first time on this machine; kept in {library.cache_folder()})\n"
        assert stream.getvalue() == told
        hear("slow", "ready")
    assert stream.getvalue() == told + "  slow 3.2 s\n"
    assert compiled == ["slow"]
    assert listeners == []


def test_kernel_lines_stop_listening_after_an_error(listeners):
    with pytest.raises(KeyError), warm.kernel_lines(PlainScreen(io.StringIO()), []):
        raise KeyError
    assert listeners == []


def test_nothing_to_compile_is_nothing_to_say(monkeypatch):
    monkeypatch.setattr(library, "cached", lambda group: True)
    stream = io.StringIO()
    assert warm.compile_kernels(library.GROUPS, PlainScreen(stream)) == []
    assert stream.getvalue() == ""


def start(code):
    return subprocess.Popen([sys.executable, "-c", code])


def test_only_what_is_missing_is_compiled_one_process_a_core(monkeypatch):
    alive, most = [], 0

    def apart(group):
        nonlocal most
        process = start("import time; time.sleep(0.3)")
        alive.append(process)
        most = max(most, sum(p.poll() is None for p in alive))
        return process

    monkeypatch.setattr(warm, "compile_apart", apart)
    monkeypatch.setattr(warm, "cores", lambda: 2)
    monkeypatch.setattr(library, "cached", lambda group: group == "b")
    stream = io.StringIO()
    assert warm.compile_kernels(("a", "b", "c", "d"), PlainScreen(stream)) == ["a", "c", "d"]
    assert len(alive) == 3
    assert most == 2
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("Compiling kernels (first time on this machine")
    assert sorted(line.split()[2] for line in lines[1:]) == ["a", "c", "d"]
    assert [line.split()[1] for line in lines[1:]] == ["1/3", "2/3", "3/3"]


def test_a_failing_process_does_no_harm(monkeypatch):
    monkeypatch.setattr(warm, "compile_apart", lambda group: start("raise SystemExit(3)"))
    ended = []
    warm.compile_side_by_side(["a", "b"], ended.append)
    assert len(ended) == 2


def test_an_interrupt_leaves_no_process(monkeypatch):
    started = []

    def apart(group):
        started.append(start("import time; time.sleep(60)"))
        return started[-1]

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(warm, "compile_apart", apart)
    monkeypatch.setattr(warm.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        warm.compile_side_by_side(["a", "b"], lambda note: None)
    assert started
    assert all(process.poll() is not None for process in started)


def test_compile_apart_fills_the_cache(program, tmp_path, monkeypatch):
    if len(program) > 1:
        pytest.skip("tapead is not installed")
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    monkeypatch.chdir(os.path.dirname(os.path.dirname(warm.__file__)))  # no folder tapead/ may get in the way
    process = warm.compile_apart("sweeps")
    assert process.wait(300) == 0
    assert list(tmp_path.rglob("generated_sweeps.*.nbi"))


def test_code_is_taken_for_cached_as_long_as_its_source_is_the_same(tmp_path):
    source, index = tmp_path / "kernels.py", tmp_path / "kernels.sweep-1.nbi"
    source.write_text("one = 1")
    assert not lists_code_of(index, source)
    IndexDataCacheFile(str(tmp_path), index.stem, source_stamp(source)).save("sweep", "code")
    assert lists_code_of(index, source)
    source.write_text("eleven = 11")
    assert not lists_code_of(index, source)
    source.write_text("one = 1")
    index.write_bytes(index.read_bytes()[:-10])
    assert not lists_code_of(index, source)
