"""The `tapead` command, run as a user runs it: in a process of its own."""

import importlib.metadata
import os
import re
import subprocess
import sys

import pytest

import tapead
from tapead import cli
from tapead.commands import info
from tapead.kernels import library
from tapead.screen import PlainScreen, screen_for


def run(*words, **keywords):
    return subprocess.run(words, capture_output=True, text=True, timeout=300, **keywords)


def test_version(program):
    done = run(*program, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"tapead {tapead.__version__}\n", "")


def test_python_m_is_the_same_program(program):
    if importlib.util.find_spec("tapead.kernels").loader is None or len(program) > 1:
        pytest.skip("tapead is not installed")
    for words in (["--version"], ["--help"], ["demo", "--help"], ["nonsense"]):
        command, module = run(*program, *words), run(sys.executable, "-m", "tapead", *words)
        assert (command.returncode, command.stdout, command.stderr) == (
            module.returncode,
            module.stdout,
            module.stderr,
        )


def test_help_tells_every_command(program):
    done = run(*program, "--help")
    assert done.returncode == 0
    for command in ("trace", "demo", "warmup", "info"):
        assert re.search(rf"^ +{command} +\S", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("words", [[], ["nonsense"], ["demo", "--nonsense"], ["info", "more"]])
def test_wrong_command_line_is_status_2_and_usage(program, words):
    done = run(*program, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("usage: tapead")


def test_info(program):
    done = run(*program, "info")
    assert (done.returncode, done.stderr) == (0, "")
    told = {line[:14].strip(): line[14:] for line in done.stdout.splitlines()}
    assert told["tapead"] == tapead.__version__
    for package in ("numpy", "numba", "llvmlite", "scipy"):
        assert told[package] == importlib.metadata.version(package)
    assert told["python"].startswith("{}.{}.{}".format(*sys.version_info))
    assert told["cache folder"] == library.cache_folder()
    assert told["cores"].endswith(f"usable of {os.cpu_count()}")
    assert set(told) >= {"cpu", "cpu features", "threads", "kernels"}
    for group in library.GROUPS:
        assert re.search(rf"\b{re.escape(group)} (compiled|to compile)\b", told["kernels"])


def test_info_tells_what_is_not_compiled_yet(program, tmp_path):
    done = run(*program, "info", env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)})
    assert done.returncode == 0
    told = {line[:14].strip(): line[14:] for line in done.stdout.splitlines()}
    assert told["cache folder"].startswith(str(tmp_path))
    assert told["kernels"].count("to compile") == len(library.GROUPS)


def test_warmup_makes_every_group_ready(program):
    done = run(*program, "warmup")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith(f"{len(library.GROUPS)} kernel groups ready")
    assert all(library.cached(group) for group in library.GROUPS)


def test_missing_extra_is_one_line_and_status_2(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "sklearn", None)  # what `import` meets when a package is not there
    assert cli.main(["demo"]) == 2
    complaint = capsys.readouterr().err
    assert complaint.count("\n") == 1
    assert complaint.startswith("tapead: the demo needs scikit-learn")
    assert 'pip install "tapead[demo]"' in complaint


def test_a_terminal_without_rich_gets_plain_text(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "70")
    chosen = screen_for(sys.stdout)
    assert type(chosen) is PlainScreen
    assert chosen.width == 70


def test_a_missing_module_that_is_no_extra_is_not_hidden(monkeypatch):
    def broken(arguments):
        raise ModuleNotFoundError("No module named 'nowhere'", name="nowhere")

    monkeypatch.setattr(info, "run", broken)
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        cli.main(["info"])


def test_interrupt_is_status_130(monkeypatch):
    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(info, "run", interrupted)
    assert cli.main(["info"]) == 130


def test_a_reader_that_goes_away_leaves_no_traceback(program):
    child = subprocess.Popen([*program, "info"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    child.stdout.close()
    assert child.wait(300) == 1
    assert child.stderr.read() == b""
    child.stderr.close()
