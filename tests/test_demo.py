"""The demonstration: learns, tells the truth about its gradients, and behaves on pipes and terminals."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from tapead import demo

pytest.importorskip("sklearn")

ESCAPE = "\x1b["


@pytest.fixture(scope="module")
def figures(program):
    done = subprocess.run([*program, "demo", "--json"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert ESCAPE not in done.stderr
    return json.loads(done.stdout)  # fails if stdout holds anything else


def test_json_has_every_figure(figures):
    kinds = {
        "accuracy": float,
        "loss": float,
        "parameters": int,
        "training_images": int,
        "held_out_images": int,
        "epochs": int,
        "batch": int,
        "steps": int,
        "seed": int,
        "gradient_check": list,
        "difference_to_gradient_by_hand": float,
        "gradients_per_second": dict,
        "compiled": list,
        "seconds": dict,
    }
    assert {name: type(value) for name, value in figures.items()} == kinds
    assert set(figures["gradients_per_second"]) == {"tape", "by_hand", "central_differences"}
    assert set(figures["seconds"]) == {"kernels", "tracing", "training", "total"}
    assert all(isinstance(s, float) and s >= 0.0 for s in figures["seconds"].values())
    assert figures["seconds"]["tracing"] > 0.0
    assert figures["parameters"] == 650
    assert figures["training_images"] + figures["held_out_images"] == 1797
    assert figures["held_out_images"] == 359


def test_it_learns(figures):
    assert figures["accuracy"] >= 0.95


def test_gradients_agree(figures):
    directions = figures["gradient_check"]
    assert len(directions) == 10
    for d in directions:
        assert d["forward_error"] == abs(d["forward"] - d["tape"]) < 1e-6
        assert d["central_error"] == abs(d["central"] - d["tape"]) < 1e-8
        assert d["tape"] != 0.0
    assert len({d["tape"] for d in directions}) == 10
    assert figures["difference_to_gradient_by_hand"] < 1e-12


def test_speeds_are_in_their_natural_order(figures):
    speeds = figures["gradients_per_second"]
    assert speeds["tape"] > 10 * speeds["central_differences"]
    assert speeds["by_hand"] > speeds["central_differences"]


def test_a_pipe_gets_plain_lines(program):
    done = subprocess.run([*program, "demo"], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert ESCAPE not in done.stdout
    assert "\r" not in done.stdout
    assert len(re.findall(r"^training +\d+/\d+ +loss 0\.\d+$", done.stdout, re.MULTILINE)) == 10
    accuracy = re.search(r"^Held-out accuracy (0\.\d{4})", done.stdout, re.MULTILINE)
    assert float(accuracy[1]) >= 0.95
    assert len(re.findall(r"^ +-?0\.\d{12} ", done.stdout, re.MULTILINE)) == 10
    for method in ("tape", "derived by hand in NumPy", "central differences"):
        assert re.search(rf"^ +{method}.* [\d,]+ +[\d.,]+x$", done.stdout, re.MULTILINE)
    assert re.search(r"^Seconds: [\d.]+ .*kernels", done.stdout, re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_bar_and_colours(program):
    pytest.importorskip("rich")
    import pty

    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    for name in ("NO_COLOR", "CI"):
        environment.pop(name, None)
    child = subprocess.Popen([*program, "demo"], stdout=writer, stderr=writer, env=environment)
    os.close(writer)
    output = b""
    while True:
        try:
            piece = os.read(reader, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not piece:
            break
        output += piece
    os.close(reader)
    assert child.wait(300) == 0
    text = output.decode()
    assert ESCAPE in text
    assert f"{demo.EPOCHS}/{demo.EPOCHS}" in text
    assert "Held-out accuracy 0.9" in text
    assert "Traceback" not in text


def test_first_time_says_that_kernels_are_compiled(program, tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([*program, "demo"], capture_output=True, text=True, timeout=600, env=environment)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    compiling = next(i for i, line in enumerate(lines) if line.startswith("Compiling kernels (first time"))
    assert compiling < next(i for i, line in enumerate(lines) if line.startswith("training"))
    assert any(tmp_path.rglob("*.nbi"))


def test_hand_derived_gradient_against_differences():
    rng = np.random.default_rng(1)
    parameters = demo.Parameters(rng.standard_normal((5, 10)), rng.standard_normal(10))
    X, labels = rng.random((7, 5)), rng.integers(0, 10, 7)
    gradient = demo.gradient_by_hand(parameters, X, labels)
    for array, slopes in zip(parameters, gradient, strict=True):
        for place in np.ndindex(array.shape):
            kept, h = array[place], 1e-6
            array[place] = kept + h
            above = demo.loss(parameters, X, labels)
            array[place] = kept - h
            below = demo.loss(parameters, X, labels)
            array[place] = kept
            assert slopes[place] == pytest.approx((above - below) / (2 * h), abs=1e-7)


def test_loss_is_the_negative_log_likelihood():
    X, labels = np.eye(2, 3), np.array([1, 0])
    parameters = demo.Parameters(np.arange(30.0).reshape(3, 10) / 10, np.zeros(10))
    h = X @ parameters.theta
    likelihood = [np.exp(row[label]) / np.exp(row).sum() for row, label in zip(h, labels, strict=True)]
    assert demo.loss(parameters, X, labels) == pytest.approx(-np.sum(np.log(likelihood)))


def test_loss_stands_large_scores():
    parameters = demo.Parameters(np.full((1, 10), 1e4) * np.arange(10), np.zeros(10))
    assert demo.loss(parameters, np.ones((1, 1)), np.array([9])) == pytest.approx(0.0)


def test_split_is_fixed_and_holds_out_a_fifth():
    first, second = demo.load_digits(), demo.load_digits()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert first.X.min() == 0.0
    assert first.X.max() == 1.0
    assert len(first.labels) == len(first.X) == 1438
    assert len(first.held_labels) == len(first.held_X) == 359
    together = {row.tobytes() for row in first.X} & {row.tobytes() for row in first.held_X}
    assert not together
