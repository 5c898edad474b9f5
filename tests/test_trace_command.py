"""`tapead trace`: through its real entry point, piped and on a terminal, and with everything that cannot be used."""

import json
import os
import re
import subprocess
import textwrap

import numpy as np
import pytest
from terminal import on_a_terminal, without_colours

from tapead import cli, vocabulary

COURSE = ["log(x1) + x1*x2 - sin(x2)", "x1=2", "x2=5"]

MODEL = '''
import numpy as np

def loss(w, X, y, scale=1.0):
    """Mean squared error of a linear model."""
    residual = X @ w - y
    return scale * np.mean(residual**2)

def power(x, n: int):
    y = x
    for _ in range(n - 1):
        y = y * x
    return y

def shouting(x):
    print("called")
    return np.sin(x)

def fails(x):
    return {}["nothing"] * x

def text(x):
    return "text"

def eigen(X):
    return np.sum(np.linalg.eigvals(X))

def leaves(x):
    raise SystemExit("bye")

async def later(x):
    return x

def huge(x):
    return np.ones((10**6, 10**7)) * x

constant = 3
'''


@pytest.fixture
def model(tmp_path):
    """Give the path of a Python file with functions, beside arrays for them."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "X.npy", rng.standard_normal((40, 3)))
    np.savez(tmp_path / "data.npz", y=rng.standard_normal(40), other=np.ones(2))
    (tmp_path / "model.py").write_text(MODEL)
    return str(tmp_path / "model.py")


def arrays(model):
    folder = os.path.dirname(model)
    return [f"X=@{folder}/X.npy", f"y=@{folder}/data.npz:y", "w=[1, 0.5, -1]"]


def run(program, *words, **keywords):
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([*program, "trace", *words], capture_output=True, timeout=300, env=env, **keywords)
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def cells(text, node):
    """Give what stands in the first line that begins with a node's name."""
    return next(re.split(r"  +", line.strip()) for line in text.splitlines() if line.strip().startswith(f"{node} "))


def in_process(capsys, *words):
    """Run the command in this process: quick, for the many kinds of input."""
    status = cli.main(["trace", *words])
    out, err = capsys.readouterr()
    return status, out, err


# ---- what it shows -----------------------------------------------------------------------------------------


def test_the_example_of_the_course_in_a_pipe(program):
    status, out, err = run(program, *COURSE)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    assert cells(out, "v3") == ["v3", "log(v1)", "0.693", "0.5", "0"]
    assert cells(out, "v4") == ["v4", "v1 * v2", "10", "5", "2"]
    assert cells(out, "v5")[:3] == ["v5", "sin(v2)", "-0.959"]
    assert cells(out, "v6")[:4] == ["v6", "v3 + v4", "10.693", "5.5"]
    assert cells(out, "v7") == ["v7", "v6 - v5", "11.652", "5.5", "1.716"]
    assert cells(out, "x1") == ["x1", "5.5"]
    assert cells(out, "x2") == ["x2", "1.716"]
    assert out.count("agrees") == 2


@pytest.mark.parametrize("width", [60, 120])
def test_the_example_of_the_course_on_a_terminal(program, width):
    pytest.importorskip("rich")
    status, written = on_a_terminal(*program, "trace", *COURSE, width=width)
    assert status == 0
    assert "\x1b[" in written
    shown = without_colours(written)
    assert cells(shown, "v7") == ["v7", "v6 - v5", "11.652", "5.5", "1.716"]
    assert all(len(line) <= width + 2 for line in shown.splitlines())  # an accent takes no column


def test_an_error_on_a_terminal(program):
    status, written = on_a_terminal(*program, "trace", "log(x1) + x1[0]", "x1=2")
    assert status == 2
    lines = without_colours(written).splitlines()
    assert lines[0].startswith("tapead: subscripts are refused")
    assert lines[1:] == ["  log(x1) + x1[0]", "              ^"]


def test_json(program):
    status, out, err = run(program, "--json", *COURSE)
    assert (status, err) == (0, "")
    table = json.loads(out)
    rows = {row["name"]: row for row in table["rows"]}
    assert [rows[f"v{k}"]["tangents"]["x1"] for k in range(1, 8)] == [1, 0, 0.5, 5, 0, 5.5, 5.5]
    assert rows["v7"]["value"] == np.log(2) + 10 - np.sin(5)
    assert table["gradient"] == {"x1": 5.5, "x2": 2 - np.cos(5)}


@pytest.mark.parametrize(("mode", "tangents", "adjoints"), [("forward", True, False), ("reverse", False, True)])
def test_modes(capsys, mode, tangents, adjoints):
    status, out, _ = in_process(capsys, *COURSE, "--mode", mode)
    assert status == 0
    assert ("∂/∂x1" in out) == tangents
    assert ("v̄" in out) == adjoints


def test_wrt(capsys):
    status, out, _ = in_process(capsys, *COURSE, "--wrt", "x2", "--json")
    assert status == 0
    assert json.loads(out)["gradient"] == {"x2": 2 - np.cos(5)}
    both = in_process(capsys, *COURSE, "--wrt", "x2, x1", "--json")[1]
    assert set(json.loads(both)["gradient"]) == {"x1", "x2"}


def test_latex(capsys):
    status, out, err = in_process(capsys, *COURSE, "--latex")
    assert (status, err) == (0, "")
    assert out.count(r"\begin{tabular}") == out.count(r"\end{tabular}") == 2


def test_dot(capsys):
    status, out, err = in_process(capsys, *COURSE, "--dot")
    assert (status, err) == (0, "")
    assert out.startswith("digraph")


def test_a_formula_of_arrays(capsys):
    status, out, _ = in_process(capsys, "sum(exp(w) * x)", "w=[0,1]", "x=[2,3]", "--json")
    assert status == 0
    assert json.loads(out)["gradient"]["x"] == pytest.approx([1, np.e])


def test_a_formula_may_begin_with_a_minus(capsys):
    status, out, _ = in_process(capsys, "--json", "--", "-x**2", "x=3")
    assert status == 0
    assert json.loads(out)["gradient"] == {"x": -6}


def test_a_function_on_arrays(program, model):
    status, out, err = run(program, f"{model}:loss", *arrays(model))
    assert (status, err) == (0, "")
    assert "loss" in out
    assert "float64[40, 3]" in out
    assert "model.py:6" in out


def test_names_and_defaults(capsys, model):
    status, out, _ = in_process(capsys, f"{model}:loss", *arrays(model), "scale=2", "--json", "--wrt", "w,scale")
    assert status == 0
    folder = os.path.dirname(model)
    X, y, w = np.load(f"{folder}/X.npy"), np.load(f"{folder}/data.npz")["y"], np.array([1, 0.5, -1])
    gradient = json.loads(out)["gradient"]
    assert gradient["w"] == pytest.approx(2 * 2 * X.T @ (X @ w - y) / 40)
    assert gradient["scale"] == pytest.approx(np.mean((X @ w - y) ** 2))


def test_whole_values(capsys, model):
    short = in_process(capsys, f"{model}:loss", *arrays(model), "--wrt", "w")[1]
    whole = in_process(capsys, f"{model}:loss", *arrays(model), "--wrt", "w", "--values")[1]
    assert "‖·‖" in short
    assert "‖·‖" not in whole
    assert len(whole) > len(short)


def test_whole_numbers_for_parameters_that_are(capsys, model):
    status, out, _ = in_process(capsys, f"{model}:power", "x=2", "n=5", "--json")
    assert status == 0
    assert json.loads(out)["gradient"] == {"x": 80}


def test_what_the_function_prints_does_not_spoil_the_output(capsys, model):
    status, out, err = in_process(capsys, f"{model}:shouting", "x=0", "--json")
    assert status == 0
    assert json.loads(out)["gradient"] == {"x": 1}
    assert "called" in err


def test_outside_of_the_domain_is_a_warning(program):
    status, out, err = run(program, "log(x1) * x2", "x1=-2", "x2=3")
    assert status == 0
    assert "nan" in out.lower()
    assert err == "tapead: warning: NaN arises at v3 = log(v1), with v1 = -2\n"


def test_an_encoding_without_bars_and_curls(program):
    done = subprocess.run(
        [*program, "trace", *COURSE],
        capture_output=True,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"11.652" in done.stdout


def test_a_picture(program, tmp_path):
    graphviz = pytest.importorskip("graphviz")
    try:
        graphviz.version()
    except graphviz.ExecutableNotFound:
        pytest.skip("Graphviz is not installed")
    file = tmp_path / "graph.svg"
    status, out, err = run(program, *COURSE, "--svg", str(file))
    assert (status, err) == (0, "")
    assert "11.652" in out
    assert "<svg" in file.read_text()


def test_a_picture_without_graphviz(program, tmp_path):
    env = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(
        [*program, "trace", *COURSE, "--svg", str(tmp_path / "graph.svg")], capture_output=True, timeout=300, env=env
    )
    assert done.returncode == 2
    complaint = done.stderr.decode()
    assert complaint.startswith("tapead: ")
    assert complaint.count("\n") == 1
    assert "Graphviz" in complaint or "graphviz" in complaint
    assert done.stdout == b""


# ---- what it refuses ---------------------------------------------------------------------------------------

#: words -> part of what is said; FOLDER stands for a folder with model.py and its arrays
REFUSED = [
    (["log(x1"], "malformed: '(' was never closed"),
    (["x1 +", "x1=2"], "malformed"),
    (["logg(x1)", "x1=2"], "unknown function logg; nearest: log"),
    (["x.real", "x=2"], "attributes are refused"),
    (["__import__('os').system('true')"], "attributes are refused"),
    (["9**9**9*x", "x=2"], "too large"),
    (["lambda: 0"], "lambda is refused"),
    (["[x for x in y]"], "comprehensions are refused"),
    (["x" * 20_000], "too long"),
    ([""], "empty"),
    (["2 + 3"], "has no variables"),
    (["x1*x2", "x1=2"], "the formula needs x2: give x2=VALUE"),
    (["x1*x2"], "the formula needs x1, x2"),
    (["x1", "x1=2", "x3=1"], "the formula has no variable x3: it takes x1"),
    (["x1", "x1=2", "x1=3"], "x1 is given twice"),
    (["x1", "x1=two"], "x1=two is no number"),
    (["x1", "x1"], "give values as NAME=VALUE"),
    (["x1", "x1=[1,"], "is no list of numbers"),
    (["x1", "x1=[[1],[2,3]]"], "not equally long"),
    (["x1", "x1=@nowhere.npy"], "there is no file nowhere.npy"),
    (["x1", "x1=@FOLDER/model.py"], "arrays are read from"),
    (["x1", "x1=@FOLDER/data.npz"], "holds several arrays"),
    (["x1", "x1=@FOLDER/data.npz:z"], "has no array z"),
    (["x1", "x1=@FOLDER/broken.npy"], "cannot be read as an array"),
    (["x1", "x1=@FOLDER/whole.npy"], "float"),
    (["x1 > 2", "x1=3"], "has a derivative"),
    (["x1 @ x2", "x1=[1,2]", "x2=[1,2,3]"], "matmul"),
    (["x1 + x2", "x1=[1,2]", "x2=[1,2,3]"], "shapes (2,) and (3,)"),
    (["x1", "x1=2", "--wrt", "x2"], "x2 is not among x1"),
    (["x1", "x1=2", "--wrt", ""], "is not among x1"),
    (["FOLDER/nowhere.py:f", "x=2"], "there is no file"),
    (["FOLDER/model.py", "x=2"], "name the function"),
    (["FOLDER/model.py:los", "x=2"], "has no function los; nearest: loss"),
    (["FOLDER/model.py:constant", "x=2"], "is no function"),
    (["FOLDER/X.npy:f", "x=2"], "is no Python file"),
    (["FOLDER/syntax.py:f", "x=2"], "syntax.py, line 2 is not Python"),
    (["FOLDER/raises.py:f", "x=2"], "cannot be imported: RuntimeError: no (raises.py:1)"),
    (["FOLDER/model.py:power", "x=2"], "needs n: give n=VALUE"),
    (["FOLDER/model.py:power", "x=2", "n=3", "z=1"], "has no variable z: it takes x, n"),
    (["FOLDER/model.py:power", "x=2", "n=2.5"], "wants a whole number"),
    (["FOLDER/model.py:power", "x=2", "n=3", "--wrt", "n"], "n is int 3: only float64 and float32"),
    (["FOLDER/model.py:loss", "X=[[1,2]]", "w=[1,2,3]", "y=[1]"], "model.py:6"),
    (["FOLDER/model.py:fails", "x=2"], "KeyError: 'nothing' (model.py:20)"),
    (["FOLDER/model.py:text", "x=2"], "returned nothing"),
    (["FOLDER/model.py:eigen", "X=[[1,2],[3,4]]"], "eigvals has no rule"),
    (["x1", "x1=2", "--svg", "FOLDER/nowhere/graph.svg"], "there is no such folder"),
    (["x1", "x1=2", "--svg", "FOLDER"], "cannot write"),
    (["FOLDER/model.py:leaves", "x=1"], "raises SystemExit: bye (model.py"),
    (["FOLDER/model.py:later", "x=1"], "is an asynchronous function"),
    (["FOLDER/model.py:huge", "x=1"], "raises MemoryError"),
    (["FOLDER/model.py:power", "x=2", "n=3", "--wrt", "x,n"], "n is int 3"),
]


def in_folder(words, model):
    folder = os.path.dirname(model)
    with open(f"{folder}/broken.npy", "w") as file:
        file.write("not an array")
    np.save(f"{folder}/whole.npy", np.arange(3))
    for name, text in (("syntax", "import os\ndef f(x:\n"), ("raises", "raise RuntimeError('no')\n")):
        with open(f"{folder}/{name}.py", "w") as file:
            file.write(textwrap.dedent(text))
    return [word.replace("FOLDER", folder) for word in words]


def check_refusal(said, status, out, err):
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert lines[0].startswith("tapead: ")
    assert said in lines[0]
    assert "Traceback" not in err
    if len(lines) != 1:  # a formula, and a mark under the place
        assert len(lines) == 3
        assert lines[2].strip() == "^"


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(words)[:50] for words, _ in REFUSED])
def test_what_cannot_be_used_is_one_line(capsys, model, words, said):
    check_refusal(said, *in_process(capsys, *in_folder(words, model)))


# One of each kind, as a user meets it.
@pytest.mark.parametrize(("words", "said"), [REFUSED[k] for k in (0, 2, 4, 11, 15, 23, 26, 32, 35, 36, 42, 45)])
def test_what_cannot_be_used_through_the_entry_point(program, model, words, said):
    check_refusal(said, *run(program, *in_folder(words, model)))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written(capsys, tmp_path):
    tmp_path.chmod(0o500)
    check_refusal("cannot write", *in_process(capsys, *COURSE, "--svg", str(tmp_path / "graph.svg")))


@pytest.mark.parametrize("words", [[], ["x", "x=1", "--mode", "sideways"], ["x", "x=1", "--json", "--latex"]])
def test_a_wrong_command_line_is_usage(program, words):
    status, out, err = run(program, *words)
    assert (status, out) == (2, "")
    assert err.startswith("usage: tapead trace")


def test_an_expression_without_enough_memory(capsys, monkeypatch):
    def refuse(*values):
        raise MemoryError("Unable to allocate 72 TiB")

    monkeypatch.setitem(vocabulary.FUNCTIONS, "outer", (refuse, 2))
    check_refusal("out of memory: Unable to allocate 72 TiB", *in_process(capsys, "outer(x, x)", "x=[1,2]"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is always full")
def test_output_that_cannot_be_written(program):
    with open("/dev/full", "w") as full:
        done = subprocess.run([*program, "trace", *COURSE], stdout=full, stderr=subprocess.PIPE, timeout=300)
    assert done.returncode == 2
    assert done.stderr.decode().startswith("tapead: cannot go on: [Errno")
    assert done.stderr.decode().count("\n") == 1


def test_a_narrow_terminal_hides_no_digits(program):
    pytest.importorskip("rich")
    status, written = on_a_terminal(*program, "trace", "x1*x2 + sin(x1)", "x1=2", "x2=5", width=36)
    assert status == 0
    assert "…" not in written
