"""The demonstration: learns, tells the truth about its gradients, and behaves on pipes and terminals."""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from terminal import on_a_terminal

from tapead import cli, demo, value_and_grad
from tapead.commands import demo as command
from tapead.errors import CommandError
from tapead.kernels import library
from tapead.models import CLASSES, HIDDEN, MODELS, PIXELS, cross_entropy, ingredients
from tapead.picture import Picture
from tapead.screen import PlainScreen

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
        "model": str,
        "accuracy": float,
        "loss": float,
        "loss_before": float,
        "history": list,
        "parameters": int,
        "training_images": int,
        "held_out_images": int,
        "epochs": int,
        "batch": int,
        "lr": float,
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
    assert [figures[name] for name in ("model", "epochs", "batch", "lr")] == ["softmax", 60, 32, 0.2]
    assert figures["parameters"] == 650
    assert figures["training_images"] + figures["held_out_images"] == 1797
    assert figures["held_out_images"] == 359


def test_it_learns(figures):
    assert figures["accuracy"] >= 0.95
    assert figures["loss_before"] == pytest.approx(np.log(10))
    history = figures["history"]
    assert [set(epoch) for epoch in history] == [{"loss", "held_out_loss", "held_out_accuracy"}] * 60
    assert history[-1]["loss"] < history[9]["loss"] < history[0]["loss"] < np.log(10)
    assert (history[-1]["held_out_loss"], history[-1]["held_out_accuracy"]) == (figures["loss"], figures["accuracy"])


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
        assert re.search(rf"^ +{method}.* [\d,.]+ +[\d.,]+x$", done.stdout, re.MULTILINE)
    assert re.search(
        r"^The gradient derived by hand differs from the tape's by \d\.\de-\d+$", done.stdout, re.MULTILINE
    )
    assert re.search(r"^Seconds: [\d.]+ .*kernels", done.stdout, re.MULTILINE)
    assert "Warning" not in done.stdout
    assert done.stdout.index("h = X @ theta + b") < done.stdout.index("training")
    assert "(32, 10) = (32, 64) @ (64, 10) + (10,)\n" in done.stdout
    ingredients = done.stdout[done.stdout.index("hypothesis") : done.stdout.index("training 6/60")]
    assert max(map(len, ingredients.splitlines())) <= 80


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_a_bar_and_colours(program):
    pytest.importorskip("rich")
    status, text = on_a_terminal(*program, "demo", width=120)
    assert status == 0
    assert ESCAPE in text
    assert "60/60" in text
    assert "Held-out accuracy 0.9" in text
    assert "Traceback" not in text


def test_first_time_says_that_kernels_are_compiled(monkeypatch):
    """One group stands for all, and pretends not to be in the cache: to compile everything takes a minute."""
    cached = library.cached
    monkeypatch.setattr(library, "cached", lambda group: group != "sweeps" and cached(group))
    stream = io.StringIO()
    figures = demo.run_demo(demo.Settings(epochs=1), PlainScreen(stream))
    assert "sweeps" in figures.compiled
    lines = stream.getvalue().splitlines()
    compiling = next(i for i, line in enumerate(lines) if line.startswith("Compiling kernels (first time"))
    assert lines[compiling + 1].startswith("compiling 1/")
    assert compiling < next(i for i, line in enumerate(lines) if line.startswith("training"))


@pytest.fixture(scope="module", params=MODELS)
def example(request):
    """A model, parameters that are no special point, images and labels."""
    model = MODELS[request.param]
    rng = np.random.default_rng(1)
    parameters = tuple(array + 0.1 * rng.standard_normal(array.shape) for array in model.start(rng))
    return model, parameters, rng.random((7, PIXELS)), rng.integers(0, CLASSES, 7)


def test_hand_derived_gradient_against_the_tape(example):
    model, parameters, X, labels = example
    value, gradient = value_and_grad(model.loss)(parameters, X, labels)
    assert value == pytest.approx(model.loss(parameters, X, labels), rel=1e-13)
    for array, slopes, by_hand in zip(parameters, gradient, model.gradient_by_hand(parameters, X, labels), strict=True):
        assert by_hand.shape == array.shape
        assert np.abs(by_hand).max() > 0.0
        np.testing.assert_allclose(slopes, by_hand, rtol=1e-10, atol=1e-13)


def test_hand_derived_gradient_against_differences(example):
    model, parameters, X, labels = example
    for array, slopes in zip(parameters, model.gradient_by_hand(parameters, X, labels), strict=True):
        for place in list(np.ndindex(array.shape))[::7]:
            kept, h = array[place], 1e-6
            array[place] = kept + h
            above = model.loss(parameters, X, labels)
            array[place] = kept - h
            below = model.loss(parameters, X, labels)
            array[place] = kept
            assert slopes[place] == pytest.approx((above - below) / (2 * h), abs=1e-7)


def test_ingredients_are_what_the_model_does(example):
    """The formulas, read as Python, give the hypothesis and the shapes that stand beside them."""
    model, parameters, X, _ = example
    rows = list(ingredients(model, parameters, len(X)))
    assert [name for name, _, _ in rows if name] == ["hypothesis", "loss", "update"]
    known = {"X": X, "tanh": np.tanh, **dict(zip(model.names, parameters, strict=True))}
    for (_, formula, shapes), equation in zip(rows, model.equations, strict=False):
        assert formula == equation[0]
        name, right = formula.split(" = ")
        known[name] = eval(right, {}, known)
        operands = [known[word].shape for word in re.findall(r"[A-Za-z]\w*", right) if word != "tanh"]
        assert re.findall(r"\(.*?\)", shapes) == [str(known[name].shape), *map(str, operands)]
    np.testing.assert_allclose(known["h"], model.hypothesis(parameters, X), rtol=1e-14)
    updates = rows[len(model.equations) + 1 :]
    assert [shapes for _, _, shapes in updates] == [f"gradient {array.shape}" for array in parameters]
    assert [formula.split(" -= ")[0] for _, formula, _ in updates] == list(model.names)


def test_loss_is_the_negative_log_likelihood(example):
    model, parameters, X, labels = example
    h = model.hypothesis(parameters, X)
    likelihood = [np.exp(row[label]) / np.exp(row).sum() for row, label in zip(h, labels, strict=True)]
    assert model.loss(parameters, X, labels) == pytest.approx(-np.sum(np.log(likelihood)))


def test_loss_stands_large_scores():
    assert cross_entropy(np.full((1, 10), 1e4) * np.arange(10), np.array([9])) == pytest.approx(0.0)


def test_an_update_is_a_step_down_the_mean_gradient(example):
    model, parameters, X, labels = example
    digits = demo.Digits(X, labels, X, labels)
    settings = demo.Settings(epochs=1, batch=len(X), lr=0.5)
    moved = tuple(array.copy() for array in parameters)
    (epoch,) = demo.train(model, settings, value_and_grad(model.loss), moved, digits, PlainScreen(sys.stderr))
    gradient = model.gradient_by_hand(parameters, X, labels)
    for array, start, slope in zip(moved, parameters, gradient, strict=True):
        np.testing.assert_allclose(array, start - 0.5 / len(X) * slope, rtol=1e-12, atol=1e-14)
    assert epoch.loss == pytest.approx(model.loss(parameters, X, labels) / len(X))
    assert epoch.held_out_loss == pytest.approx(model.loss(moved, X, labels) / len(X))
    assert epoch.held_out_accuracy == np.mean(np.argmax(model.hypothesis(moved, X), axis=1) == labels)


@pytest.fixture
def no_race(monkeypatch):
    """Leave out the timing, which takes longest."""
    monkeypatch.setattr(demo, "race", lambda *_: {"tape": 3.0, "by_hand": 2.0, "central_differences": 0.5})


@pytest.fixture
def untrained(monkeypatch):
    """Fail the test if a command gets as far as training."""
    monkeypatch.setattr(demo, "train", lambda *_: pytest.fail("training has begun"))


def test_settings_reach_the_figures(no_race, capsys):
    options = ["--model", "mlp", "--epochs", "12", "--batch", "16", "--lr", "0.25", "--json"]
    assert cli.main(["demo", *options]) == 0
    written = capsys.readouterr()
    figures = json.loads(written.out)
    assert [figures[name] for name in ("model", "epochs", "batch", "lr")] == ["mlp", 12, 16, 0.25]
    assert figures["parameters"] == PIXELS * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
    assert figures["steps"] == 12 * (1438 // 16)
    assert len(figures["history"]) == 12
    assert figures["accuracy"] > 0.9
    assert figures["difference_to_gradient_by_hand"] < 1e-12
    assert len(figures["gradient_check"]) == 10
    assert all(direction["central_error"] < 1e-8 for direction in figures["gradient_check"])
    assert re.search(r"^hypothesis +A = X @ W1 \+ b1 +\(16, 48\) = ", written.err, re.MULTILINE)


def test_speeds_of_the_other_model(monkeypatch):
    monkeypatch.setattr(demo, "ROUNDS", 1)
    model = MODELS["mlp"]
    digits = demo.load_digits()
    parameters = model.start(np.random.default_rng(0))
    speeds = demo.race(model, value_and_grad(model.loss), parameters, digits.X[:32], digits.labels[:32])
    assert speeds["tape"] > 10 * speeds["central_differences"]


def test_a_slow_race_ends_after_a_round(monkeypatch):
    monkeypatch.setattr(demo, "PATIENCE", 0.0)
    calls = []
    demo.gradients_per_second({"slow": (lambda: calls.append(1), 1)})
    assert len(calls) == 1


@pytest.mark.parametrize(("lr", "loss"), [("1e9", r"\d\.\d{4}e\+\d\d"), ("1e308", "nan")])
def test_a_loss_that_diverges_is_shown_with_one_warning(no_race, capsys, lr, loss):
    assert cli.main(["demo", "--epochs", "2", "--lr", lr]) == 0
    written = capsys.readouterr()
    assert written.err == ""
    assert re.search(rf"^training 2/2  loss {loss}$", written.out, re.MULTILINE)
    (warning,) = [line for line in written.out.splitlines() if line.startswith("Warning")]
    assert re.search(rf"was 2\.3026 .* and is {loss}: try a smaller step", warning)


def test_json_of_a_loss_that_diverges_is_json(no_race, capsys):
    assert cli.main(["demo", "--epochs", "1", "--lr", "1e308", "--json"]) == 0
    written = capsys.readouterr()
    figures = json.loads(written.out, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert figures["loss"] is None
    assert figures["history"][0]["loss"] is None
    assert written.err.count("Warning") == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--epochs", "0"], "--epochs must be 1 or more, not 0"),
        (["--epochs", "-3"], "--epochs must be 1 or more, not -3"),
        (["--batch", "0"], "--batch must be from 1 to 1438, the number of training images, not 0"),
        (["--batch", "1439"], "--batch must be from 1 to 1438, the number of training images, not 1439"),
        (["--lr", "0"], "--lr must be positive and finite, not 0.0"),
        (["--lr", "-0.1"], "--lr must be positive and finite, not -0.1"),
        (["--lr", "inf"], "--lr must be positive and finite, not inf"),
        (["--lr", "nan"], "--lr must be positive and finite, not nan"),
    ],
)
def test_settings_that_cannot_be_are_one_line_and_status_2(untrained, capsys, options, complaint):
    assert cli.main(["demo", *options]) == 2
    written = capsys.readouterr()
    assert (written.out, written.err) == ("", f"tapead: {complaint}\n")


@pytest.mark.parametrize("options", [["--epochs", "2.5"], ["--batch", "x"], ["--lr", "fast"], ["--model", "forest"]])
def test_settings_of_the_wrong_kind_are_status_2(untrained, capsys, options):
    with pytest.raises(SystemExit) as exit:
        cli.main(["demo", *options])
    assert exit.value.code == 2
    assert f"argument {options[0]}: invalid" in capsys.readouterr().err


def test_a_batch_of_all_images_is_one_step(no_race, capsys):
    assert cli.main(["demo", "--epochs", "1", "--batch", "1438", "--json"]) == 0
    written = capsys.readouterr()
    assert json.loads(written.out)["steps"] == 1
    assert "Warning" not in written.err


@pytest.mark.parametrize(("name", "start"), [("loss.png", b"\x89PNG"), ("loss.svg", b"<?xml"), ("loss.PDF", b"%PDF")])
def test_plot_writes_a_picture(no_race, tmp_path, capsys, name, start):
    pytest.importorskip("matplotlib")
    path = tmp_path / name
    assert cli.main(["demo", "--epochs", "2", "--plot", str(path)]) == 0
    assert path.read_bytes().startswith(start)
    assert capsys.readouterr().err == ""
    assert "matplotlib.pyplot" not in sys.modules or len(sys.modules["matplotlib.pyplot"].get_fignums()) == 0


def test_the_picture_shows_the_history(tmp_path):
    pytest.importorskip("matplotlib")
    epochs = [demo.Epoch(2.0, 1.5, 0.7), demo.Epoch(1.0, 0.9, 0.8), demo.Epoch(0.5, np.nan, 0.9)]
    figures = demo.Figures(
        model="mlp", accuracy=0.9, loss=0.6, loss_before=2.3, history=epochs, parameters=10, training_images=4,
        held_out_images=1, epochs=3, batch=2, lr=0.1, steps=6, seed=0, gradient_check=[],
        difference_to_gradient_by_hand=0.0, gradients_per_second={}, compiled=[], seconds={},
    )  # fmt: skip
    picture = Picture(str(tmp_path / "loss.png"), "the test", (9.0, 3.8))
    command.draw(figures, picture.figure)
    picture.save()
    losses, accuracies = picture.figure.axes
    assert [line.get_label() for line in losses.lines] == ["training", "held out (not always finite)"]
    np.testing.assert_array_equal([line.get_xdata() for line in losses.lines], [[1, 2, 3]] * 2)
    np.testing.assert_array_equal([line.get_ydata() for line in losses.lines], [[2.0, 1.0, 0.5], [1.5, 0.9, np.nan]])
    np.testing.assert_array_equal(accuracies.lines[0].get_ydata(), [0.7, 0.8, 0.9])
    assert "multilayer perceptron" in picture.figure.get_suptitle()


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("nowhere/loss.png", r"cannot write '.*loss\.png': No such file or directory"),
        ("folder.png", r"cannot write '.*folder\.png': Is a directory"),
        ("loss.xyz", r"cannot draw '.*loss\.xyz': the file's name must end in \.png, \.svg, \.pdf"),
        ("loss", r"cannot draw '.*loss': the file's name must end in"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="the system's words are others")
def test_a_picture_that_cannot_be_written_is_found_before_training(untrained, tmp_path, capsys, name, complaint):
    pytest.importorskip("matplotlib")
    (tmp_path / "folder.png").mkdir()
    assert cli.main(["demo", "--plot", str(tmp_path / name)]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert re.fullmatch(f"tapead: {complaint}.*\n", written.err)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.png"]


def test_plot_without_matplotlib_says_what_to_install(untrained, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["demo", "--plot", str(tmp_path / "loss.png")]) == 2
    complaint = capsys.readouterr().err
    assert complaint.startswith("tapead: --plot needs matplotlib")
    assert 'pip install "tapead[plot]"' in complaint


def test_a_picture_keeps_what_is_there_until_it_is_saved(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "loss.svg"
    path.write_text("old")
    picture = Picture(str(path), "the test", (2.0, 1.0))
    assert path.read_text() == "old"
    picture.save()
    assert "<svg" in path.read_text()
    new = Picture(str(tmp_path / "deep.png"), "the test", (2.0, 1.0))
    assert not new.path.exists()
    new.path.mkdir()
    with pytest.raises(CommandError, match=r"cannot write '.*deep\.png'"):
        new.save()


def test_split_is_fixed_and_holds_out_a_fifth():
    first, second = demo.load_digits(), demo.load_digits()
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert first.X.min() == 0.0
    assert first.X.max() == 1.0
    assert len(first.labels) == len(first.X) == 1438
    assert len(first.held_labels) == len(first.held_X) == 359
    together = {row.tobytes() for row in first.X} & {row.tobytes() for row in first.held_X}
    assert not together
