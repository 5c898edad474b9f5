"""What CPython's and NumPy's objects look like in memory, and the functions that make and call them, by address.

Compiled code reads arguments where they lie, without asking the interpreter. The places are part of the stable binary
interfaces of CPython (with the interpreter lock) and NumPy; `readable` looks at known objects all the same, and where
one is not as expected, nothing is read and every call goes through Python.
"""

import ctypes
import sys
import sysconfig
from functools import cache
from typing import Any

import numpy as np

#: words (8 bytes) of an object: its type; then, by type: a number's value; length and items of a tuple
TYPE, NUMBER, LENGTH, ITEMS = 1, 2, 2, 3
#: words of an array: data, dimensions (their address), dtype; bytes before the 32-bit number of axes and the flags
DATA, DIMENSIONS, DTYPE, AXES, FLAGS = 2, 4, 7, 24, 64
#: flags of an array: C-contiguous and aligned; and writeable
IN_ORDER, WRITEABLE = 0x101, 0x400
#: words of the table of functions and objects that compiled code needs
(
    NEW_TUPLE,
    NEW_METHOD,
    CALL,
    HOLD,
    DROP,
    RELEASE_LOCK,
    TAKE_LOCK,
    EMPTY,
    OUT,
    NONE,
    TUPLE,
    GENERAL,
) = range(12)

_FUNCTIONS = (
    "PyTuple_New",
    "PyMethod_New",
    "PyObject_Vectorcall",
    "Py_IncRef",
    "Py_DecRef",
    "PyEval_SaveThread",
    "PyEval_RestoreThread",
)
#: slots and flags of CPython's types, as its header files number them
_TP_ALLOC, _TP_MEMBERS = 47, 72
_DEFAULT, _VECTORCALL = 1 << 18, 1 << 11
_SIZE, _READ_ONLY = 19, 1


def words(thing: Any, count: int) -> list[int]:
    """Read the first words of an object."""
    return list((ctypes.c_int64 * count).from_address(id(thing)))


@cache
def readable() -> bool:
    """Whether objects of this interpreter and this NumPy lie in memory as this module says."""
    if sys.implementation.name != "cpython" or any(map(sysconfig.get_config_var, ("Py_GIL_DISABLED", "Py_DEBUG"))):
        return False
    if object.__basicsize__ != 16 or ctypes.sizeof(ctypes.c_void_p) != 8 or sys.byteorder != "little":
        return False
    array = np.arange(6.0).reshape(2, 3)
    found = words(array, 9)
    locked = array.copy()
    locked.flags.writeable = False
    pair = (array, found)
    number, scalar, single = (1.5, np.float64(1.5), np.float32(1.5))
    bits = np.array(1.5).view(np.int64).item()
    return (
        found[TYPE] == id(np.ndarray)
        and found[DATA] == array.ctypes.data
        and list((ctypes.c_int64 * 2).from_address(found[DIMENSIONS])) == [2, 3]
        and found[DTYPE] == id(array.dtype) == id(np.dtype(np.float64))
        and found[AXES // 8] & 0xFFFFFFFF == 2
        and found[FLAGS // 8] & (IN_ORDER | WRITEABLE) == IN_ORDER | WRITEABLE
        and words(array.T, 9)[FLAGS // 8] & IN_ORDER != IN_ORDER
        and words(locked, 9)[FLAGS // 8] & (IN_ORDER | WRITEABLE) == IN_ORDER
        and words(pair, 5)[TYPE:] == [id(tuple), 2, id(array), id(found)]
        and words(found, 3)[LENGTH] == len(found)
        and ctypes.c_int64.from_address(words(found, 4)[ITEMS]).value == id(found[0])
        and words(number, 3)[TYPE:] == [id(float), bits]
        and words(scalar, 3)[TYPE:] == [id(np.float64), bits]
        and words(single, 3)[NUMBER] & 0xFFFFFFFF == np.float32(1.5).view(np.int32)
    )


def _function(name: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def _slot(kind: type, slot: int) -> int:
    """Give the C function behind a slot of a type."""
    get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_int)(("PyType_GetSlot", ctypes.pythonapi))
    return get(kind, slot) or 0


def allocator(kind: type) -> int:
    """Give the address of the C function that allocates an object of a type."""
    return _slot(kind, _TP_ALLOC)


@cache
def functions(general: Any) -> Any:
    """Give the table of functions and objects; general is what compiled code calls where it cannot do a call."""
    objects = (np.empty, sys.intern("out"), None, tuple, general)
    return np.array([*map(_function, _FUNCTIONS), *map(id, objects)], np.int64)


class _Method(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Member(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


class _Slot(ctypes.Structure):
    _fields_ = (("slot", ctypes.c_int), ("address", ctypes.c_void_p))


class _Spec(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("size", ctypes.c_int),
        ("item", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.c_void_p),
    )


_kept: list[Any] = []  # C structures that types and functions point to for as long as the process lives


def builtin(name: str, address: int) -> Any:
    """Make a Python function of a C function (self, arguments, count, names)."""
    method = _Method(name.encode(), address, 0x0082, None)  # METH_FASTCALL | METH_KEYWORDS
    _kept.append(method)
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return make(ctypes.addressof(method), None, None)


def callable_type(base: type) -> type:
    """Give a subtype whose instances may each have a C function that is called in place of `__call__` (PEP 590)."""
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", _SIZE, base.__basicsize__, _READ_ONLY, None))
    slots = (_Slot * 2)(_Slot(_TP_MEMBERS, ctypes.addressof(members)))
    name = f"{base.__module__}.{base.__name__}".encode()
    spec = _Spec(name, base.__basicsize__ + 8, 0, _DEFAULT | _VECTORCALL, ctypes.addressof(slots))
    _kept.extend((members, slots, spec))
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object)(
        ("PyType_FromSpecWithBases", ctypes.pythonapi)
    )
    made: type = make(ctypes.addressof(spec), (base,))
    return made


def set_call(thing: Any, address: int) -> None:
    """Let an instance of a `callable_type` be called by a C function (self, arguments, count, names)."""
    ctypes.c_void_p.from_address(id(thing) + type(thing).__basicsize__ - 8).value = address
