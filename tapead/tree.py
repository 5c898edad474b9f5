"""Arguments as pytrees: leaves that are traced, leaves that are part of the signature."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable
from typing import Any

import numpy as np
import optree

from .errors import TapeadTypeError
from .tape import number_class
from .tensor import Tensor

NAMESPACE = "tapead"
_registered: set[type] = set()

#: types of leaves that are taken as they are
PLAIN = frozenset({np.ndarray, float, int, bool, str, type(None), Tensor})


def _register(kind: type) -> None:
    """Let optree see a dataclass as a node whose children are its fields."""
    names = tuple(f.name for f in dataclasses.fields(kind))

    def flatten(value: Any) -> Any:
        return [getattr(value, name) for name in names], None, names

    def unflatten(_: Any, children: Any) -> Any:
        made: Any = object.__new__(kind)
        for name, child in zip(names, children, strict=True):
            object.__setattr__(made, name, child)
        return made

    optree.register_pytree_node(kind, flatten, unflatten, namespace=NAMESPACE)
    _registered.add(kind)


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """Give a tree's leaves and its structure; dataclasses are nodes."""
    while True:
        leaves, structure = optree.tree_flatten(tree, namespace=NAMESPACE)
        if PLAIN.issuperset(map(type, leaves)):
            return leaves, structure
        others = [leaf for leaf in leaves if type(leaf) not in PLAIN]
        new = {type(leaf) for leaf in others if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type)}
        new -= _registered
        if not new:
            return leaves, structure
        for kind in new:
            _register(kind)


class Reader:
    """Reads the leaves of trees of one structure, made of dicts, lists and tuples; several times faster than flattening."""

    __slots__ = ("_children", "_count", "_keys", "_kind", "_nodes")

    def __init__(self, structure: Any) -> None:
        self._kind, self._keys, self._count = structure.type, structure.entries(), structure.num_children
        self._children = [None if child.is_leaf() else Reader(child) for child in structure.children()]
        self._nodes = any(child is not None for child in self._children)
        if self._kind not in (dict, list, tuple):
            raise TapeadTypeError(f"no reader for {self._kind.__name__}")

    def read(self, tree: Any, leaves: list[Any]) -> bool:
        """Append the leaves of a tree; give False where its structure is another. What is taken for leaves is not checked."""
        kind = self._kind
        if type(tree) is not kind or len(tree) != self._count:
            return False
        if kind is dict:
            try:
                tree = [tree[key] for key in self._keys]
            except KeyError:
                return False
        if not self._nodes:
            leaves += tree
            return True
        for child, item in zip(self._children, tree, strict=True):
            if child is None:
                leaves.append(item)
            elif not child.read(item, leaves):
                return False
        return True


def reader(structure: Any) -> Reader | None:
    """Give the reader of a structure; None where it has nodes of other types."""
    try:
        return Reader(structure)
    except TapeadTypeError:
        return None


def unflatten(structure: Any, leaves: Any) -> Any:
    """Put leaves back into a structure."""
    return optree.tree_unflatten(structure, leaves)


def paths(tree: Any) -> list[str]:
    """Name each leaf by its path, like ['weights'][0]."""
    flatten(tree)
    return [optree.PyTreeAccessor(a).codify("") for a in optree.tree_accessors(tree, namespace=NAMESPACE)]


def argument_names(args: Any, kwargs: Any) -> list[str]:
    """Name each leaf of a call's arguments by its path, like args[0]['weights'][0]."""
    return ["args" + path for path in paths(args)] + ["kwargs" + path for path in paths(kwargs)]


def normal(leaf: Any) -> Any:
    """Turn array-likes into arrays; leave everything else."""
    if type(leaf) in PLAIN:
        return leaf
    if isinstance(leaf, np.ndarray):
        return np.asarray(leaf)
    if not isinstance(leaf, np.generic) and hasattr(leaf, "__array__"):
        return np.asarray(leaf)
    return leaf


def is_traced(leaf: Any) -> bool:
    """Whether a leaf is a value that is traced: a float, or an array of a dtype that buffers have."""
    if isinstance(leaf, np.ndarray):
        return number_class(leaf.dtype) is not None
    return isinstance(leaf, float | np.floating) and number_class(np.asarray(leaf).dtype) is not None


def signature(leaf: Any) -> Hashable:
    """Give what a leaf contributes to the signature: shape and dtype, or the static value itself."""
    kind = type(leaf)
    if kind is np.ndarray:
        return leaf.dtype.char, leaf.shape
    if kind is float:
        return "float"
    if isinstance(leaf, np.floating):
        return leaf.dtype.char, ()
    try:
        hash(leaf)
    except TypeError:
        raise TapeadTypeError(
            f"an argument of type {kind.__name__} is neither a number, an array, a tree of these, nor hashable: it cannot be "
            "part of a signature"
        ) from None
    return kind, leaf
