"""The exceptions of tapead: each derives from `TapeadError` and from the built-in that fits."""

import numpy as np


class TapeadError(Exception):
    """Base of every exception that tapead raises itself."""


class TapeadTypeError(TapeadError, TypeError):
    """A value of a kind that cannot be used there."""


class TapeadValueError(TapeadError, ValueError):
    """A value of the right kind that does not fit: a shape, a layout, an option."""


class TapeadIndexError(TapeadError, IndexError):
    """An index out of range."""


class TapeadAxisError(TapeadError, np.exceptions.AxisError):
    """An axis that the array does not have."""


class TapeadAttributeError(TapeadError, AttributeError):
    """A name that a namespace does not have."""


class TapeadNotImplementedError(TapeadError, NotImplementedError):
    """A function without a rule."""


class TapeadMemoryError(TapeadError, MemoryError):
    """No space for the arena of a program."""


class TapeadLinAlgError(TapeadError, np.linalg.LinAlgError):
    """A matrix that is singular, or not positive definite."""


class TapeadCheckError(TapeadError, AssertionError):
    """A gradient that differs from its numerical check."""


class TapeadFloatingPointError(TapeadError, FloatingPointError):
    """A value or derivative that is NaN or infinite, while `debug_nans` looks for them."""


class EscapedError(TapeadTypeError):
    """A traced value was to become a Python number, although a derivative could flow through it."""


class TapeadModuleNotFoundError(TapeadError, ModuleNotFoundError):
    """A package of an optional extra is needed, and not installed."""


class ExpressionError(TapeadValueError):
    """A formula that cannot be read or computed; its message ends with the formula and a mark under the place."""


class TapeadGraphvizError(TapeadError, RuntimeError):
    """The program that draws graphs is needed, and not installed, or fails."""


class CommandError(TapeadError, ValueError):
    """What a command was asked to do and cannot: shown in one line, without a traceback."""
