"""`tapead compare`: counts that grow as they should, errors that make a V, and all that cannot be used."""

import json
import math
import re
import subprocess
import sys

import mpmath
import numpy as np
import pytest
from matplotlib.figure import Figure
from terminal import on_a_terminal, without_colours

import tapead
import tapead.cli
from tapead import comparison, plots
from tapead.commands import compare as command
from tapead.comparison import CENTRAL_DIFFERENCES, FORWARD_DIFFERENCES, FORWARD_MODE, METHODS, REVERSE_MODE, SYMBOLIC
from tapead.operations import Operations

SIZES = (2, 4, 8, 16, 32)


def run(*words, **keywords):
    return subprocess.run(words, capture_output=True, text=True, timeout=300, **keywords)


@pytest.fixture(scope="module")
def products():
    """Compare on the product: (method, n) -> measurement."""
    found = comparison.compare(comparison.product, SIZES)
    return {(m.method, m.n): m for _, measured, _ in found for m in measured}


# ---- counts ------------------------------------------------------------------------------------------------------


def test_the_slides_counts(products):
    for n in SIZES:
        assert products[SYMBOLIC, n].operations == Operations(multiplications=n * (n - 2))
        assert 3 * n - 4 <= products[REVERSE_MODE, n].operations.multiplications <= 3 * n
        # n - 1 products each time, and a division for each difference
        assert products[FORWARD_DIFFERENCES, n].operations.multiplications == (n + 1) * (n - 1) + n
        assert products[CENTRAL_DIFFERENCES, n].operations.multiplications == 2 * n * (n - 1) + n
        # each product has its own value and two in its tangent
        assert products[FORWARD_MODE, n].operations.multiplications == 3 * n * (n - 1)


def test_passes(products):
    for n in SIZES:
        passes = {method: products[method, n].passes for method in METHODS}
        assert list(passes.values()) == [n + 1, 2 * n, 1, n, 1]


@pytest.mark.parametrize("problem", comparison.PROBLEMS)
def test_growth_laws(problem):
    sizes = (64, 128)
    f, _ = comparison.PROBLEMS[problem]
    found = [m for _, measured, _ in comparison.compare(f, sizes) for m in measured]
    powers = {method: comparison.growth([m for m in found if m.method == method]) for method in METHODS}
    for method in (FORWARD_DIFFERENCES, CENTRAL_DIFFERENCES, FORWARD_MODE):
        assert powers[method] == pytest.approx(2.0, abs=0.1)
    assert powers[REVERSE_MODE] == pytest.approx(1.0, abs=0.1)
    assert powers[SYMBOLIC] is None


def test_what_is_symbolic_swells(products):
    swell = [products[SYMBOLIC, n].operations.total / products[REVERSE_MODE, n].operations.total for n in SIZES]
    assert swell == sorted(swell)
    assert swell[-1] > 4


def test_reverse_mode_is_a_small_multiple_of_the_function():
    for f, _ in comparison.PROBLEMS.values():
        bench = comparison._Bench(f, comparison.point(32))
        counts = bench._counts()
        assert counts["adjoint"].total <= 5 * counts["value"].total


# ---- errors ------------------------------------------------------------------------------------------------------


def test_errors_of_gradients(products):
    for n in SIZES:
        for method in (SYMBOLIC, FORWARD_MODE, REVERSE_MODE):
            assert products[method, n].error < 1e-14
        assert 1e-11 < products[FORWARD_DIFFERENCES, n].error < 1e-6
        assert products[CENTRAL_DIFFERENCES, n].error < products[FORWARD_DIFFERENCES, n].error


def test_a_wrong_gradient_is_found_out():
    x = comparison.point(20)
    judge = comparison._judge(comparison.rosenbrock, x, [])
    right = tapead.grad(comparison.rosenbrock)(x)
    assert judge(right) < 1e-14
    assert judge(right * (1 + 1e-6)) == pytest.approx(1e-6, rel=1e-3)
    assert math.isnan(judge(right * np.nan))
    wrong = right.copy()
    wrong[-1] += 1.0
    assert judge(wrong) > 1e-4


@pytest.mark.parametrize("problem", comparison.PROBLEMS)
def test_the_v_of_truncation_against_rounding(problem):
    slope = comparison.slope_errors(comparison.PROBLEMS[problem][0], 16)
    h = np.array([s.step for s in slope.steps])
    forward, central = np.array([s.forward for s in slope.steps]), np.array([s.central for s in slope.steps])

    def power(errors, low, high):
        chosen = (h >= low) & (h <= high)
        return np.polyfit(np.log(h[chosen]), np.log(errors[chosen]), 1)[0]

    assert power(forward, 1e-6, 1e-2) == pytest.approx(1.0, abs=0.15)
    assert power(central, 1e-3, 1e-1) == pytest.approx(2.0, abs=0.15)
    assert power(forward, 1e-15, 1e-9) == pytest.approx(-1.0, abs=0.35)
    assert power(central, 1e-15, 1e-9) == pytest.approx(-1.0, abs=0.35)
    assert 1e-10 < h[forward.argmin()] < 1e-6 < h[central.argmin()] < 1e-3
    assert central.min() < forward.min() / 10
    assert max(slope.forward_mode, slope.reverse_mode) < 1e-14 < central.min()


def test_a_function_without_reference_is_compared_all_the_same():
    def determinant(x):
        return np.linalg.slogdet(np.eye(len(x)) + np.outer(x, x))[1]

    ((_, measured, missing),) = comparison.compare(determinant, [3])
    assert [m.method for m in measured] == [FORWARD_DIFFERENCES, CENTRAL_DIFFERENCES, FORWARD_MODE, REVERSE_MODE]
    assert all(m.error is None and m.operations is None for m in measured)
    assert sorted(m.what for m in missing) == ["error", "operations", SYMBOLIC]
    assert all("slogdet" in m.reason and "determinant" in m.reason for m in missing)
    assert comparison.slope_errors(determinant, 3) is None
    figure = Figure()
    plots.draw(figure, "determinant", measured, None)
    assert figure.axes[0].get_ylabel() == "seconds for one gradient"
    assert [text.get_text() for text in figure.axes[1].texts] == ["no reference in high precision"]
    assert command.cells(measured[0])[2:6] == ("?",) * 4


def test_functions_outside_of_their_domain():
    ((_, measured, missing),) = comparison.compare(lambda x: np.sum(np.log(-x)), [2])
    assert {m.error for m in measured} == {None}
    assert [(m.what, m.n) for m in missing] == [("error", 2)]
    assert "not finite" in missing[0].reason


def test_functions_without_any_error():
    for f in (lambda x: 3.0, lambda x: x[0]):
        ((_, measured, missing),) = comparison.compare(f, [1])
        assert [m.error for m in measured if m.method in (SYMBOLIC, FORWARD_MODE, REVERSE_MODE)] == [0.0] * 3
        assert not missing
        figure = Figure()
        plots.draw(figure, "straight", measured, comparison.slope_errors(f, 1))
        low, high = figure.axes[1].get_ylim()
        assert all(low < line.get_ydata()[0] < high for line in figure.axes[1].get_lines()[-2:])


# ---- the command -------------------------------------------------------------------------------------------------


def test_tables(program):
    done = run(*program, "compare", "rosenbrock", "--n", "4,2,64")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("rosenbrock")] == [f"rosenbrock, n = {n}" for n in (2, 4, 64)]
    for method in METHODS:
        assert sum(line.startswith(f"  {method} ") for line in lines) == (3 if method == SYMBOLIC else 4)
    powers = {line[:20].strip(): float(line.split("^")[1]) for line in lines if "n^" in line}
    assert powers["reverse mode"] < 1.2
    assert powers["forward mode"] > 1.8
    assert lines[-1].startswith("left out: symbolic at n = 64: SymPy would take long for 64 partials")


def test_json_and_plot(program, tmp_path):
    picture = tmp_path / "out.png"
    done = run(*program, "compare", "--n", "2,8", "--json", "--plot", str(picture))
    assert (done.returncode, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert set(told) == {"problem", "measurements", "slope", "left_out"}
    assert told["problem"] == "product"
    assert len(told["measurements"]) == 10
    one = next(m for m in told["measurements"] if m["method"] == SYMBOLIC and m["n"] == 8)
    assert one["operations"] == {"additions": 0, "multiplications": 48, "functions": 0, "choices": 0, "total": 48}
    assert one["passes"] == 1
    assert one["error"] < 1e-14
    assert told["slope"]["n"] == 8
    assert len(told["slope"]["steps"]) == len(comparison.STEPS)
    assert told["left_out"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_numbers_that_json_does_not_hold():
    found = [comparison.Measurement(REVERSE_MODE, 2, 1, None, 1.0, math.nan)]
    told = command.as_dict("f", found, None, [])
    assert told["measurements"][0]["error"] is None
    assert told["slope"] is None
    json.dumps(told, allow_nan=False)


def test_a_function_of_ones_own(program, tmp_path):
    (tmp_path / "model.py").write_text(
        "import numpy as np\ndef loss(x):\n    print('here')\n    return np.sum(np.sin(x) ** 2)\n"
    )
    done = run(*program, "compare", "model.py:loss", "--n", "3", "--json", cwd=tmp_path)
    assert done.returncode == 0
    assert {m["n"] for m in json.loads(done.stdout)["measurements"]} == {3}


def test_the_picture():
    found = [m for _, measured, _ in comparison.compare(comparison.product, (2, 4)) for m in measured]
    slope = comparison.slope_errors(comparison.product, 4)
    figure = Figure()
    plots.draw(figure, "product", found, slope)
    left, right = figure.axes
    for axes in (left, right):
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert [text.get_text() for text in left.get_legend().get_texts()] == [
        "forward differences (n + 1 passes)",
        "central differences (2 n passes)",
        "symbolic (each partial written out)",
        "forward mode (n passes)",
        "reverse mode (1 pass)",
    ]
    reverse = left.get_lines()[-1]
    assert reverse.get_xdata().tolist() == [2, 4]
    assert reverse.get_ydata().tolist() == [m.operations.total for m in found if m.method == REVERSE_MODE]
    assert right.get_lines()[0].get_ydata().tolist() == [s.forward for s in slope.steps]


FILE = """
import numpy as np
def two(x, y): return x
def several(x): return x * 2
def fails(x): return x[100]
def nothing(x): pass
def leaves(x): return float(x[0])
number = 3
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rosenbrok"], "there is no problem rosenbrok; nearest: rosenbrock; there are product"),
        (["--n", "2,x"], "--n 2,x: x is no positive whole number"),
        (["--n", "0"], "--n 0: 0 is no positive whole number"),
        (["--n", "-3"], "--n -3: -3 is no positive whole number"),
        (["--n", "2,,3"], "--n 2,,3: nothing is no positive whole number"),
        (["--n", "2.5"], "--n 2.5: 2.5 is no positive whole number"),
        (["--n", "²"], "--n ²: ² is no positive whole number"),
        (["--n", "5000"], "--n 5000: 5000 is more than 4096"),
        (["--n", "9" * 5000], "is more than 4096"),
        (["rosenbrock", "--n", "1"], "rosenbrock takes n of 2 at least, not 1"),
        (["--plot", "nowhere/out.png"], "cannot write 'nowhere/out.png': No such file"),
        (["--plot", "out.doc"], "cannot draw 'out.doc': the file's name must end in"),
        (["--plot", "out"], "cannot draw 'out': the file's name must end in"),
        (["--plot", "folder.png"], "cannot write 'folder.png': Is a directory"),
        (["missing.py:f"], "there is no file missing.py"),
        (["own.py:lost"], "own.py has no function lost"),
        (["own.py:number"], "number in own.py is no function"),
        (["own.py:two"], "own.py:two must take one vector: missing a required argument: 'y'"),
        (["own.py:several"], "own.py:several: the function must return one number"),
        (["own.py:fails"], "own.py:fails raises TapeadIndexError: "),
        (["own.py:nothing"], "own.py:nothing: the function returned None"),
        (["own.py:leaves"], "derivative could flow through it"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else "",
)
def test_what_cannot_be_used_is_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(FILE)
    (tmp_path / "folder.png").mkdir()
    assert tapead.cli.main(["compare", "--n=2", *words] if "--n" not in words else ["compare", *_joined(words)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("tapead: ")
    assert message in told.err
    assert told.err.count("\n") == 1


def _joined(words):
    """Join `--n` with its value, which may begin with a minus."""
    k = words.index("--n")
    return [*words[:k], f"--n={words[k + 1]}", *words[k + 2 :]]


def test_one_of_them_through_the_real_entry_point(program):
    done = run(*program, "compare", "nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "tapead: there is no problem nonsense; there are product, rosenbrock, logistic, or FILE.py:FUNCTION\n"
    )


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("sympy", [], "symbolic"),
        ("mpmath", [], "symbolic"),
        ("matplotlib", ["--plot", "out.png"], "plot"),
    ],
)
def test_without_an_extra(package, words, extra, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert tapead.cli.main(["compare", "--n", "2", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert f'which is not installed: pip install "tapead[{extra}]"' in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("seconds", "expected"), [(2.5, "2.5 s"), (0.0123, "12.3 ms"), (4.56e-6, "4.56 µs"), (7.8e-8, "78 ns")]
)
def test_durations(seconds, expected):
    assert command.time_text(seconds) == expected


def test_help_says_how(program):
    done = run(*program, "compare", "--help")
    assert done.returncode == 0
    for word in ("product|rosenbrock|logistic|FILE.py:FUNCTION", "--n", "--plot", "--json"):
        assert word in done.stdout


def test_the_reference_is_independent_of_the_rules():
    x = comparison.point(3)
    with mpmath.workdps(60):
        a, b, c = map(mpmath.mpf, x.tolist())
        truth = comparison.Precise(comparison.record(comparison.product, x)).partials([0, 1, 2])
        for got, expected in zip(truth, (b * c, a * c, a * b), strict=True):
            assert abs(got - expected) < mpmath.mpf("1e-35")


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_gets_the_same_tables(program):
    status, written = on_a_terminal(*program, "compare", "product", "--n", "2,4", width=120)
    assert status == 0
    shown = without_colours(written)
    assert "growth, by the two largest n" in shown
    assert len(re.findall(r"^ *reverse mode +1 ", shown, re.MULTILINE)) == 3
