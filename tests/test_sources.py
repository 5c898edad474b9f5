"""What the words of a command line name: functions in files, numbers, lists, files of arrays."""

import os
import sys
import textwrap

import numpy as np
import pytest

import tapead
from tapead.errors import CommandError
from tapead.sources import (
    ByName,
    check_names,
    explained,
    load_function,
    matched,
    names_function,
    read_array,
    read_value,
    read_values,
)


@pytest.fixture
def file(tmp_path):
    """Give a function that writes a Python file and gives its path."""

    def write(text, name="model.py"):
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def complaint(function, *args):
    """Give the message of a refusal, which must be one line."""
    with pytest.raises(CommandError) as caught:
        function(*args)
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 700
    return message


# ---- values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [("2", 2.0), ("-3.5", -3.5), ("1e-3", 1e-3), ("inf", np.inf), ("pi/2", np.pi / 2), ("-2**0.5", -(2**0.5))],
)
def test_numbers(text, value):
    read = read_value("x", text)
    assert read == value
    assert type(read) is float


@pytest.mark.parametrize(("text", "value"), [("[1, 2,3]", [1, 2, 3]), ("[[1],[2.5]]", [[1], [2.5]]), ("[]", [])])
def test_lists(text, value):
    read = read_value("w", text)
    assert read.dtype == float
    np.testing.assert_array_equal(read, value)


def test_values_by_name():
    assert read_values(["x=2", "y = 3", "µ=1"]) == {"x": 2.0, "y": 3.0, "μ": 1.0}
    assert read_values([]) == {}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x"], "x: give values as NAME=VALUE"),
        (["=2"], "NAME=VALUE"),
        (["2=x"], "NAME=VALUE"),
        (["x.y=2"], "NAME=VALUE"),
        (["a\n\x1bb"], "a??b: give"),
        (["x=1", "x=2"], "x is given twice"),
        (["x=abc"], "x=abc is no number"),
        (["x="], "x= is no number"),
        (["x==2"], "x==2 is no number"),
        (["x=2 3"], "x=2 3 is no number"),
        (["x=1+2j"], "is no number"),
        (["x=9**9**9"], "is no number"),
        (["x=__import__('os')"], "is no number"),
        (["x=" + "a" * 1000], "..."),
        (["w=[1,2"], "is no list of numbers"),
        (["w=[1,2]]"], "is no list of numbers"),
        (["w=['a']"], "is no list of numbers"),
        (['w=["a"]'], "is no list of numbers"),
        (["w=[null]"], "is no list of numbers"),
        (['w=[{"a": 1}]'], "is no list of numbers"),
        (["w=[1" + "0" * 400 + "]"], "is no list of numbers"),
        (["w=[[1,2],[3]]"], "not equally long"),
        (["w=" + "[" * 100_000], "nested too deeply"),
        (["X=@nowhere.npy"], "there is no file nowhere.npy"),
        (["X=@"], "there is no file"),
    ],
)
def test_values_that_are_none(words, said):
    assert said in complaint(read_values, words)


# ---- arrays in files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int32, np.uint8, np.bool_, ">f8"])
def test_arrays_keep_their_dtype(tmp_path, dtype):
    X = np.arange(6).reshape(2, 3).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    read = read_value("X", f"@{tmp_path}/X.npy")
    assert read.dtype == X.dtype.newbyteorder("=")
    np.testing.assert_array_equal(read, X)


def test_an_array_without_axes_is_a_number(tmp_path):
    np.save(tmp_path / "x.npy", 2.5)
    assert type(read_value("x", f"@{tmp_path}/x.npy")) is np.float64


def test_archives(tmp_path):
    np.savez(tmp_path / "one.npz", w=np.ones(2))
    np.savez(tmp_path / "two.npz", X=np.zeros(3), y=np.arange(3.0))
    np.testing.assert_array_equal(read_array(f"{tmp_path}/one.npz"), np.ones(2))
    np.testing.assert_array_equal(read_array(f"{tmp_path}/two.npz:y"), np.arange(3.0))
    assert complaint(read_array, f"{tmp_path}/two.npz").endswith("holds several arrays: name one; there are X, y")
    assert complaint(read_array, f"{tmp_path}/two.npz:z").endswith("has no array z; there are X, y")
    assert complaint(read_array, f"{tmp_path}/one.npz:z").endswith("has no array z; there is w")


def test_text(tmp_path):
    (tmp_path / "a.csv").write_text("1,2\n3,4.5\n")
    (tmp_path / "a.txt").write_text("# a comment\n1 2\n3 4.5\n")
    for name in ("a.csv", "a.txt"):
        np.testing.assert_array_equal(read_array(f"{tmp_path}/{name}"), [[1, 2], [3, 4.5]])


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.npy", b"not an array"),
        ("empty.npy", b""),
        ("short.npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }" + b" " * 60),
        ("text.npz", b"not an archive"),
        ("broken.npz", b"PK\x03\x04 not an archive"),
        ("words.csv", b"a,b\n1,2\n"),
        ("ragged.csv", b"1,2\n3\n"),
        ("empty.csv", b""),
        ("binary.txt", b"\xff\xfe\x00"),
    ],
)
def test_files_that_are_no_arrays(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "cannot be read as an array" in complaint(read_array, f"{tmp_path}/{name}")


def test_other_files(tmp_path):
    (tmp_path / "a.pkl").write_bytes(b"x")
    assert "arrays are read from .npy, .npz, .csv, .txt" in complaint(read_array, f"{tmp_path}/a.pkl")
    assert "there is no file" in complaint(read_array, str(tmp_path))
    np.savez(tmp_path / "a.npz", x=1.5)
    os.rename(tmp_path / "a.npz", tmp_path / "a.npy")
    assert read_array(f"{tmp_path}/a.npy") == 1.5  # a file tells itself what it is


def test_python_objects_are_never_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    assert "cannot be read as an array" in complaint(read_array, f"{tmp_path}/trap.npy")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("dtype", [complex, np.float16, "U3", "M8[s]"])
def test_dtypes_that_tapead_does_not_have(tmp_path, dtype):
    np.save(tmp_path / "a.npy", np.zeros(2, dtype))
    assert "X is of dtype" in complaint(read_value, "X", f"@{tmp_path}/a.npy")


# ---- functions in files ------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["a.py:f", "dir/a.py:f", "a.py", "a b (1).py:f", "a.py:", "a.txt:f", "./a.pyc:f"])
def test_words_that_name_a_function(word):
    assert names_function(word)


@pytest.mark.parametrize("word", ["log(x1) + x1", "x", "lambda: 0", "x[0:1]", "{x: y}", "(x := 1)", "x.real", "0.5"])
def test_words_that_do_not(word):
    assert not names_function(word)


def test_a_function_is_loaded(file):
    path = file("import numpy as np\ndef f(x):\n    return np.sin(x)\n")
    f = load_function(f"{path}:f")
    assert f(1.0) == np.sin(1.0)
    assert f.__code__.co_filename == path


def test_a_file_may_import_its_neighbours_and_be_called_as_another_module(file, tmp_path):
    file("factor = 3.0\n", "neighbour_of_model.py")
    path = file(
        "import numpy as np\nfrom neighbour_of_model import factor\ndef f(x):\n    return np.exp(x)*factor\n",
        "numpy.py",
    )
    before = list(sys.path)
    assert load_function(f"{path}:f")(0.0) == 3.0
    assert sys.path == before
    assert sys.modules["numpy"] is np


def test_dataclasses_find_their_module(file):
    path = file(
        """
        from __future__ import annotations
        import dataclasses
        @dataclasses.dataclass
        class Line:
            slope: float
            def at(self, x):
                return self.slope * x
        f = Line(2.0).at
        """
    )
    assert load_function(f"{path}:f")(3.0) == 6.0


def test_what_a_file_prints_goes_to_stderr(file, capsys):
    load_function(file("print('loading')\ndef f(x):\n    return x\n") + ":f")
    assert capsys.readouterr() == ("", "loading\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def f(x:\n", "line 1 is not Python: '(' was never closed"),
        ("x = 1\n  y = 2\n", "line 2 is not Python: unexpected indent"),
        ("1/0\n", "cannot be imported: ZeroDivisionError: division by zero (model.py:1)"),
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all' (model.py:1)"),
        ("raise ValueError('two\\nlines')\n", "cannot be imported: ValueError: two lines (model.py:1)"),
        ("import sys\nsys.exit('bye')\n", "cannot be imported: SystemExit: bye (model.py:2)"),
        ("raise Exception\n", "cannot be imported: Exception (model.py:1)"),
        ("raise Exception('long '*10000)\n", "long long"),
        ("open('/nowhere/at/all')\n", "No such file"),
        ("def g(x):\n    return x\n", "has no function f"),
        ("def ff(x):\n    return x\ndef f2(x):\n    return x\n", "has no function f; nearest: "),
        ("f = [1, 2]\n", "f in "),
        ("f = 3\n", "is no function: it is of type int"),
    ],
)
def test_files_that_cannot_be_used(file, text, said):
    path = file(text)
    assert said in complaint(load_function, f"{path}:f")


def test_a_module_that_failed_is_forgotten(file):
    path = file("1/0\n", "failing_model.py")
    complaint(load_function, f"{path}:f")
    assert not [name for name in sys.modules if "failing_model" in name]


def test_words_without_a_file_or_a_function(file, tmp_path):
    path = file("def f(x):\n    return x\n")
    assert "there is no file nowhere.py" in complaint(load_function, "nowhere.py:f")
    assert f"as in {path}:FUNCTION" in complaint(load_function, path)
    assert f"as in {path}:FUNCTION" in complaint(load_function, f"{path}:")
    text = file("def f(x):\n    return x\n", "model.txt")
    assert "is no Python file" in complaint(load_function, f"{text}:f")
    (tmp_path / "folder.py").mkdir()
    assert "is no Python file" in complaint(load_function, f"{tmp_path}/folder.py:f")
    (tmp_path / "binary.py").write_bytes(b"\x7fELF\x00\x01\xff")
    assert "binary.py" in complaint(load_function, f"{tmp_path}/binary.py:f")


# ---- values for a function ---------------------------------------------------------------------------------


def plain(x, w=2.0, /, b=3.0, *, scale=1.0):
    return scale * (x * w + b)


def test_values_are_matched_by_name():
    function, values = matched(plain, {"scale": 10.0, "x": 1.0, "b": 0.5}, "plain")
    assert function.names == ("x", "b", "scale")
    assert values == (1.0, 0.5, 10.0)
    assert function(*values) == plain(1.0, b=0.5, scale=10.0)
    assert tapead.grad(function, argnums=(0, 1, 2))(*values) == (20.0, 10.0, 2.5)


def test_defaults_may_be_given_and_left_out():
    for given in ({"x": 1.0}, {"x": 1.0, "w": 5.0}, {"w": 5.0, "x": 1.0, "scale": 2.0}):
        function, values = matched(plain, given, "plain")
        positional = [given[name] for name in ("x", "w") if name in given]
        assert function(*values) == plain(*positional, **{n: v for n, v in given.items() if n not in ("x", "w")})


def test_keywords_of_any_name():
    function, values = matched(lambda x, **more: x + more["y"], {"y": 2.0, "x": 1.0}, "f")
    assert function.names == ("x", "y")
    assert function(*values) == 3.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "plain needs x: give x=VALUE"),
        ({"x": 1.0, "y": 2.0}, "plain has no variable y: it takes x, w, b, scale"),
        ({"y": 1.0, "z": 2.0}, "plain has no variable y, z"),
    ],
)
def test_missing_and_extra_values(given, said):
    assert said in complaint(matched, plain, given, "plain")


def test_check_names_of_nothing():
    assert "f has no variable x: it takes none" in complaint(check_names, ["x"], (), (), "f")
    assert "f needs x, y: give x=VALUE y=VALUE" in complaint(check_names, [], ("x", "y"), (), "f")


def test_whole_numbers():
    def power(x, n: int):
        return x**n

    function, values = matched(power, {"x": 2.0, "n": 3.0}, "power")
    assert [type(value) for value in values] == [float, int]
    assert function(*values) == 8.0
    assert "n=2.5: power wants a whole number" in complaint(matched, power, {"x": 2.0, "n": 2.5}, "power")


def test_functions_that_do_not_tell_their_parameters():
    assert "does not tell its parameters" in complaint(matched, dict.fromkeys.__self__, {"x": 1.0}, "dict")


def test_a_function_by_name_is_called_as_the_function_is():
    by_name = ByName(plain, ["x"])
    assert by_name.__name__ == "plain"
    assert by_name.__code__ is plain.__code__


def test_errors_of_a_function_name_its_line(file):
    path = file("def f(x):\n    return x\ndef g(x):\n    return 1/x\n")
    g = load_function(f"{path}:g")
    with pytest.raises(CommandError, match=r"^g raises ZeroDivisionError: .*\(model.py:4\)$"), explained(path, "g"):
        g(0)
    with pytest.raises(KeyError), explained(path, "g"):
        raise KeyError("ours")
