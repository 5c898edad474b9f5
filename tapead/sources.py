"""What the words of a command line name: functions in Python files, and values as numbers, lists and files of arrays.

Whatever cannot be used raises a `CommandError` of one line.
"""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import json
import re
import sys
import traceback
import unicodedata
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.abc import Loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from .errors import CommandError, ExpressionError
from .expression import parse
from .tape import number_class

#: the most characters of another's message that are shown
LONGEST = 300


class ByName:
    """A function whose arguments are given by name: called with their values in the order of `names`."""

    def __init__(self, function: Callable[..., Any], names: Sequence[str]) -> None:
        self.function, self.names = function, tuple(names)
        parameters = inspect.signature(function).parameters.values()
        # What can be given by its place only may have defaults between the ones that are given.
        self._first = [p for p in parameters if p.kind is p.POSITIONAL_ONLY]

    def __call__(self, *values: Any) -> Any:
        given = dict(zip(self.names, values, strict=True))
        first = [given.pop(p.name, p.default) for p in self._first]
        while first and first[-1] is inspect.Parameter.empty:
            first.pop()
        return self.function(*first, **given)

    @property
    def __name__(self) -> str:
        return str(getattr(self.function, "__name__", type(self.function).__name__))

    @property
    def __code__(self) -> CodeType:
        """The function's own code, by which messages find its file."""
        return self.function.__code__


# ---- functions in files ------------------------------------------------------------------------------------


def names_function(word: str) -> bool:
    """Tell whether a word is FILE.py:FUNCTION, or wants to be: no formula has a colon."""
    return re.fullmatch(r".+\.py(:.*)?|[^\s()]+\.\w+:\w*", word) is not None or Path(word.rpartition(":")[0]).is_file()


def load_function(word: str) -> Callable[..., Any]:
    """Load the function that FILE.py:FUNCTION names."""
    file, _, name = word.rpartition(":")
    if word.endswith(".py") or not name or not file:
        raise CommandError(f"{word}: name the function, as in {file or word}:FUNCTION")
    module = _load_module(Path(file))
    if not hasattr(module, name):
        found = [n for n, value in vars(module).items() if callable(value) and not n.startswith("_")]
        raise CommandError(f"{file} has no function {name}{nearest(name, found)}")
    function = getattr(module, name)
    if not callable(function):
        raise CommandError(f"{name} in {file} is no function: it is of type {type(function).__name__}")
    if inspect.iscoroutinefunction(function):
        raise CommandError(f"{name} in {file} is an asynchronous function: calling it computes nothing")
    return function  # type: ignore[no-any-return]


def _load_module(path: Path) -> ModuleType:
    """Run a Python file as a module; what it imports from its own folder is found, and what it prints goes to stderr."""
    if not path.exists():
        raise CommandError(f"there is no file {path}")
    name = f"tapead.files.{path.stem}"  # a file may be called as a module that is in use, numpy.py or so
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    if path.suffix != ".py" or not path.is_file() or spec is None or spec.loader is None:
        raise CommandError(f"{path} is no Python file: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    folder = str(path.resolve().parent)
    sys.path.append(folder)
    try:
        _execute(module, spec.loader)
        return module
    except SyntaxError as error:
        at = path if error.filename in (None, str(path.resolve())) else error.filename
        line = f", line {error.lineno}" if error.lineno else ""
        raise CommandError(f"{at}{line} is not Python: {one_line(error.msg)}") from error
    except OSError as error:
        raise CommandError(f"{path}: {failure(error, path)}") from error
    except (Exception, SystemExit) as error:
        raise CommandError(f"{path} cannot be imported: {failure(error, path)}") from error
    finally:
        sys.path.remove(folder)


def _execute(module: ModuleType, loader: Loader) -> None:
    """Run a module's code; forget the module where that fails, as an import does."""
    sys.modules[module.__name__] = module  # dataclasses look their module up
    try:
        with redirect_stdout(sys.stderr):
            loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]
        raise


@contextmanager
def explained(file: str, what: str) -> Iterator[None]:
    """Turn what a function in a file raises into a line; errors that did not pass through the file stay as they are."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        if _line_in(error, Path(file)) is None:
            raise
        raise CommandError(f"{what} raises {failure(error, Path(file))}") from error


def failure(error: BaseException, path: Path) -> str:
    """Say in one line what was raised, and in which line of a file."""
    line = _line_in(error, path)
    where = "" if line is None or f":{line}," in str(error) else f" ({path.name}:{line})"
    text = one_line(str(error))
    return f"{type(error).__name__}{f': {text}' if text else ''}{where}"


def _line_in(error: BaseException, path: Path) -> int | None:
    """Give the innermost line of a file that an error passed through."""
    file = str(path.resolve())
    lines = [line for frame, line in traceback.walk_tb(error.__traceback__) if frame.f_code.co_filename == file]
    return lines[-1] if lines else None


# ---- values ------------------------------------------------------------------------------------------------


def read_values(words: Iterable[str]) -> dict[str, Any]:
    """Read NAME=VALUE words: name -> float or array."""
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        name = unicodedata.normalize("NFKC", name.strip())  # as Python does with names
        if not equals or not name.isidentifier():
            raise CommandError(f"{shown(word)}: give values as NAME=VALUE, as in x=2, w=[1,2,3] or X=@data.npy")
        if name in values:
            raise CommandError(f"{name} is given twice")
        values[name] = read_value(name, text.strip())
    return values


def read_value(name: str, text: str) -> Any:
    """Read a value: a number or a formula of numbers, a JSON list, or @FILE. Numbers and lists are double precision."""
    if text.startswith("@"):
        return _as_stored(name, read_array(text[1:]))
    if text.startswith("["):
        return _read_list(name, text)
    try:
        return float(text)
    except ValueError:
        pass
    try:
        formula = parse(text)
    except ExpressionError:
        formula = None
    if formula is None or formula.names:
        raise CommandError(f"{name}={shown(text)} is no number, list like [1,2,3], or @FILE of an array")
    return float(formula())


def _read_list(name: str, text: str) -> Any:
    try:
        array = np.array(json.loads(text))
    except RecursionError:
        raise CommandError(f"{name}: this list is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise CommandError(f"{name}={shown(text)} is no list of numbers: {error}") from None
    except ValueError:
        raise CommandError(f"{name}={shown(text)}: the rows of this list are not equally long") from None
    if array.dtype.kind not in "iuf":
        raise CommandError(f"{name}={shown(text)} is no list of numbers")
    return array.astype(float)


def read_array(word: str) -> Any:
    """Read an array from FILE.npy, FILE.npz:KEY, FILE.csv or FILE.txt; never Python objects."""
    file, colon, key = word.partition(".npz:")
    path = Path(file + ".npz" if colon else word)
    if not path.is_file():
        raise CommandError(f"there is no file {path}")
    readers: dict[str, Callable[[], Any]] = {
        ".npy": lambda: _read_numpy(path, key),
        ".npz": lambda: _read_numpy(path, key),
        ".csv": lambda: _read_text(path, ","),
        ".txt": lambda: _read_text(path, None),
    }
    read = readers.get(path.suffix.lower())
    if read is None:
        raise CommandError(f"{path}: arrays are read from {', '.join(readers)}")
    try:
        return read()
    except CommandError:
        raise
    except Exception as error:  # NumPy raises whatever its parsers meet: ValueError, EOFError, BadZipFile, SyntaxError
        raise CommandError(f"{path} cannot be read as an array: {one_line(str(error))}") from error


def _read_numpy(path: Path, key: str) -> Any:
    with path.open("rb") as stream:  # NumPy leaves a file open that it cannot read
        loaded = np.load(stream, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return loaded
        if not key and len(loaded.files) == 1:
            key = loaded.files[0]
        if key not in loaded.files:
            said = f"has no array {key}" if key else "holds several arrays: name one"
            raise CommandError(f"{path} {said}; there {_listed(loaded.files)}")
        return loaded[key]


def _read_text(path: Path, delimiter: str | None) -> Any:
    with path.open(encoding="utf-8") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        array = np.loadtxt(stream, delimiter=delimiter)
    if not array.size:
        raise ValueError("it holds no numbers")
    return array


def _listed(names: Sequence[str]) -> str:
    shown_names = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
    return f"are {shown_names}" if len(names) > 1 else f"is {shown_names}" if names else "is none"


def _as_stored(name: str, array: Any) -> Any:
    """Give an array as tapead takes it, in the machine's byte order; a number for an array without axes."""
    if number_class(array.dtype) is None:
        raise CommandError(f"{name} is of dtype {array.dtype}: float64, float32, integers and booleans are read")
    return array.astype(array.dtype.newbyteorder("="), copy=False)[()]


# ---- values for a function ---------------------------------------------------------------------------------


def check_names(given: Iterable[str], wanted: Sequence[str], optional: Sequence[str], what: str) -> None:
    """Raise unless every wanted name is given, and no name is that is not known."""
    given, known = list(given), [*wanted, *optional]
    missing = [name for name in wanted if name not in given]
    extra = [name for name in given if name not in known]
    if extra:
        takes = f"it takes {', '.join(known)}" if known else "it takes none"
        raise CommandError(f"{what} has no variable {', '.join(extra)}: {takes}")
    if missing:
        raise CommandError(f"{what} needs {', '.join(missing)}: give {' '.join(f'{name}=VALUE' for name in missing)}")


def matched(function: Callable[..., Any], values: dict[str, Any], what: str) -> tuple[ByName, tuple[Any, ...]]:
    """Match values with a function's parameters by name: the function of just these, and their values in its order.

    Parameters that are not given keep their defaults. A whole number for a parameter annotated as `int` is an int.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError) as error:
        raise CommandError(f"{what} does not tell its parameters: {one_line(str(error))}") from error
    named = {n: p for n, p in parameters.items() if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    wanted = [n for n, p in named.items() if p.default is p.empty]
    optional = [n for n in named if n not in wanted]
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        optional += [n for n in values if n not in named]
    check_names(values, wanted, optional, what)
    order = [*(n for n in named if n in values), *(n for n in values if n not in named)]
    made = []
    for name in order:
        value = values[name]
        annotation = named[name].annotation if name in named else None
        if annotation in (int, "int") and isinstance(value, float):
            if not value.is_integer():
                raise CommandError(f"{name}={value:g}: {what} wants a whole number")
            value = int(value)
        made.append(value)
    return ByName(function, order), tuple(made)


# ---- words -------------------------------------------------------------------------------------------------


def nearest(name: str, names: Iterable[str]) -> str:
    """Say which of some names are like one that is not among them."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else ""


def one_line(text: str) -> str:
    """Put a message on one line of moderate length."""
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def shown(text: str) -> str:
    """Show a word of the command line, which may be long or hold anything."""
    text = "".join(sign if sign.isprintable() else "?" for sign in text)
    return text if len(text) <= 60 else f"{text[:57]}..."
