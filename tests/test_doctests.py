"""The examples in the docstrings of every module."""

import doctest
import importlib
import pkgutil

import pytest

import tapead
import tapead.kernels

NAMES = ["tapead"] + [
    module.name
    for package in (tapead, tapead.kernels)
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + ".")
    if not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", sorted(set(NAMES)))
def test_examples(name):
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, "see the captured output"


def test_modules_are_found():
    assert {"tapead.api", "tapead.screen", "tapead.kernels.op"} <= set(NAMES)
