"""einsum: any expression, contracted pair by pair into matrix products, elementwise products and sums."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from .dispatch import as_tensor, here, implements, refuse, view
from .errors import TapeadValueError
from .products import multiplied, operands
from .record import find_tensor
from .reductions import sum_
from .shaping import permuted, reshape
from .tensor import Tensor


@implements(np.einsum)
def einsum(*arguments: Any, out: Any = None, optimize: Any = False, dtype: Any = None, **options: Any) -> Any:
    """Sum products over subscripts, Einstein's way."""
    refuse("einsum", out=out)
    text, values = _written(arguments)
    _, values = operands(*values)
    values = [as_tensor(v, _tape(values)) for v in values]
    if dtype is not None:
        values = [v.astype(dtype, copy=False) for v in values]
    terms, output = _terms(text, [v.ndim for v in values])
    sizes: dict[str, int] = {}
    for term, value in zip(terms, values, strict=True):
        for label, n in zip(term, value.shape, strict=True):
            if n != 1 and sizes.get(label, 1) not in (1, n):
                raise TapeadValueError(f"einsum: {label} stands for {sizes[label]} and {n} elements, at {here()}")
            sizes[label] = n if sizes.get(label, 1) == 1 else sizes[label]
    if set(output) - set(sizes) or len(set(output)) < len(output):
        raise TapeadValueError(f"einsum: the output {output!r} repeats subscripts or has unknown ones, at {here()}")
    pieces = [_simple(v, t, sizes) for v, t in zip(values, terms, strict=True)]
    for pair in _path(pieces, output):
        left, *rest = [pieces.pop(k) for k in sorted(pair, reverse=True)]
        for k, right in enumerate(rest, 1):
            kept = set(output).union(*(term for _, term in pieces + rest[k:]))
            left = _contract(left, right, kept)
        pieces.append(left)
    ((value, term),) = pieces
    value, term = _summed(value, term, set(output))
    missing = [label for label in output if label not in term]
    if missing:  # labels of one element everywhere
        value, term = value[(None,) * len(missing)], "".join(missing) + term
    order = [term.index(label) for label in output]
    return permuted(value, order)


def _tape(values: Any) -> Any:
    tensor = find_tensor(values)
    assert tensor is not None  # one of them made NumPy call us
    return tensor.tape


def _written(arguments: tuple[Any, ...]) -> tuple[str, list[Any]]:
    """Give subscripts as text, and the operands, of either way to call einsum."""
    if isinstance(arguments[0], str):
        return arguments[0].replace(" ", ""), list(arguments[1:])
    values, lists = list(arguments[::2]), list(arguments[1::2])
    result = values.pop() if len(arguments) % 2 else None

    def letters(subscripts: Any) -> str:
        return "".join("..." if s is Ellipsis else string.ascii_letters[s] for s in subscripts)

    text = ",".join(map(letters, lists))
    return text if result is None else f"{text}->{letters(result)}", values


def _terms(text: str, ndims: list[int]) -> tuple[list[str], str]:
    """Give the labels of each operand and of the result, one an axis: letters in place of ellipses."""
    left, arrow, output = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ndims):
        raise TapeadValueError(f"einsum: {len(terms)} subscripts for {len(ndims)} operands, at {here()}")
    if not set(text.replace("...", "").replace("->", "")) <= set(string.ascii_letters + ","):
        raise TapeadValueError(f"einsum: subscripts {text!r} are not letters, at {here()}")
    free = [letter for letter in reversed(string.ascii_letters) if letter not in text]
    counts = [ndim - len(term.replace("...", "")) for term, ndim in zip(terms, ndims, strict=True)]
    for term, count in zip(terms, counts, strict=True):
        if count < 0 or (count and "..." not in term):
            raise TapeadValueError(f"einsum: subscripts {term!r} do not fit the operand's axes, at {here()}")
    wide = "".join(free[: max((c for c, t in zip(counts, terms, strict=True) if "..." in t), default=0)])
    terms = [t.replace("...", wide[len(wide) - c :]) for t, c in zip(terms, counts, strict=True)]
    if arrow:
        return terms, output.replace("...", wide)
    labels = "".join(terms)
    return terms, wide + "".join(sorted(s for s in set(labels) - set(wide) if labels.count(s) == 1))


def _simple(value: Any, term: str, sizes: dict[str, int]) -> tuple[Any, str]:
    """Take the diagonals of repeated labels, and take out axes of one element that others broadcast."""
    small = [n == 1 and sizes[label] != 1 for label, n in zip(term, value.shape, strict=True)]
    if any(small):
        value = value[tuple(0 if s else slice(None) for s in small)]
        term = "".join(label for label, s in zip(term, small, strict=True) if not s)
    unique = "".join(dict.fromkeys(term))
    if unique != term:
        value = view(value, lambda v: np.einsum(f"{term}->{unique}", v))
    return value, unique


def _path(pieces: list[tuple[Any, str]], output: str) -> list[tuple[int, ...]]:
    """Choose the order of contractions."""
    if len(pieces) <= 2:
        return [tuple(range(len(pieces)))] if len(pieces) == 2 else []
    shadows = [np.broadcast_to(0.0, value.shape) for value, _ in pieces]
    text = ",".join(term for _, term in pieces) + "->" + "".join(s for s in output if any(s in t for _, t in pieces))
    optimize: Any = "optimal" if len(pieces) <= 5 else "greedy"
    return [step for step in np.einsum_path(text, *shadows, optimize=optimize)[0][1:] if len(step) > 1]


def _summed(value: Any, term: str, kept: set[str]) -> tuple[Any, str]:
    """Sum over labels that nothing else needs."""
    axes = tuple(k for k, label in enumerate(term) if label not in kept)
    if not axes:
        return value, term
    if value.dtype.kind == "b":
        return np.any(value, axis=axes), "".join(label for label in term if label in kept)
    return sum_(value, axes, value.dtype), "".join(label for label in term if label in kept)


def _contract(left: tuple[Any, str], right: tuple[Any, str], kept: set[str]) -> tuple[Any, str]:
    """Contract two operands: over the labels that both have and nothing else needs."""
    a, of_a = _summed(*left, kept | set(right[1]))
    b, of_b = _summed(*right, kept | set(of_a))
    shared = [label for label in of_a if label in of_b]
    batch = "".join(label for label in shared if label in kept)
    inner = "".join(label for label in shared if label not in kept)
    free_a = "".join(label for label in of_a if label not in of_b)
    free_b = "".join(label for label in of_b if label not in of_a)
    if not inner or not (free_a or free_b):  # nothing that a matrix product would be good for
        labels = batch + free_a + free_b + inner
        return _summed(_spread(a, of_a, labels) * _spread(b, of_b, labels), labels, kept)
    sizes = dict(zip(of_a, a.shape, strict=True)) | dict(zip(of_b, b.shape, strict=True))

    def lay(x: Any, term: str, *groups: str) -> Any:
        order = [term.index(label) for group in groups for label in group]
        shape = [sizes[label] for label in batch] + [int(np.prod([sizes[s] for s in g], dtype=int)) for g in groups[1:]]
        return reshape(permuted(x, order), shape)

    product = multiplied(lay(a, of_a, batch, free_a, inner), lay(b, of_b, batch, inner, free_b))
    labels = batch + free_a + free_b
    return reshape(product, tuple(sizes[label] for label in labels)), labels


def _spread(x: Tensor, term: str, labels: str) -> Any:
    """Lay an operand's axes out along labels, with one element where it has none."""
    order = [term.index(label) for label in labels if label in term]
    index = tuple(slice(None) if label in term else None for label in labels)
    x = permuted(x, order)
    return x[index] if None in index else x
