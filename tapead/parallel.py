"""Threads: how many work on one gradient, and the pool in which they wait.

The pool's threads are started when they are first asked for and stay in compiled code, without the interpreter lock,
until the process ends. A sweep that finds them at work for another one does not wait for them.
"""

from __future__ import annotations

import atexit
import ctypes
import operator
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from .kernels import library
from .kernels.constants import (
    INDEX,
    PARTS,
    POOL_INDEX,
    POOL_REGISTERS,
    POOL_SUMS,
    POOL_TILES,
    REGISTERS,
    SERVICE_SLOTS,
    TILES,
)
from .kernels.pool import (
    DONE,
    GIVE_LOCK,
    HELPER,
    HELPERS,
    MOST,
    OWN_SERVICES,
    PART_SUMS,
    SLOTS,
    STARTED,
    TAKE_LOCK,
    THREADS,
    WAKE,
)

#: the names by which BLAS libraries set and give their number of threads
_BLAS_NAMES = (
    ("scipy_openblas_set_num_threads", "scipy_openblas_get_num_threads"),
    ("openblas_set_num_threads", "openblas_get_num_threads"),
    ("MKL_Set_Num_Threads", "MKL_Get_Max_Threads"),
    ("bli_thread_set_num_threads", "bli_thread_get_num_threads"),
)


def set_threads(n: int) -> None:
    """Let n threads work on a gradient, from the next call on: elementwise code over large arrays, and BLAS.

    It holds for the whole process. One thread is the default; BLAS is left as it is until this is called. Results are
    the same at every call with the same number of threads; another number may round sums another way.
    """
    n = _checked(n)
    with _pool.lock:
        _pool.use(n)
        _set_blas_threads(n)


def get_threads() -> int:
    """Give the number of threads that work on a gradient."""
    return _pool.threads


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let n threads work on a gradient in the body of a `with` statement, in the whole process."""
    n = _checked(n)
    before, blas_before = get_threads(), _blas_threads()
    set_threads(n)
    try:
        yield
    finally:
        with _pool.lock:
            _pool.use(before)
            _set_blas_threads(blas_before)


def _checked(n: Any) -> int:
    try:
        if isinstance(n, bool | np.bool_):
            raise TypeError
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"the number of threads must be an int, got {type(n).__name__}: {n!r}") from None
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, got {n}")
    return int(n)


def pool_table() -> Any:
    """Give the pool's table, which the kernels of blocks read: one for the life of the process."""
    return _pool.table


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


class _Pool:
    """The helpers, their memory, and the table that compiled code reads."""

    def __init__(self) -> None:
        self.table = np.zeros(SLOTS, np.int64)
        self._forget()

    def _forget(self) -> None:
        """Begin without helpers; what is there may be in use by threads that are no more (after a fork)."""
        self.lock = threading.Lock()
        self.threads = 1
        self.table[:] = 0
        self.table[THREADS] = 1
        self._helpers: list[threading.Thread] = []
        self._kept: list[Any] = []

    def use(self, n: int) -> None:
        """Let n threads work, the caller's included; start the helpers that there are not yet."""
        count = min(n - 1, MOST)
        if count and not self._kept:
            self._prepare()
        while len(self._helpers) < count:
            self._start(len(self._helpers))
        self.table[THREADS] = n
        self.threads = n

    def _prepare(self) -> None:
        self._rows = np.zeros((MOST, HELPER), np.int64)
        sums = np.empty((MOST + 1) * PARTS * POOL_SUMS // 8, np.int64)
        self._kept += [self._rows, sums]
        t = self.table
        t[HELPERS], t[PART_SUMS], t[DONE] = _address(self._rows), _address(sums), _taken_lock()
        t[TAKE_LOCK], t[GIVE_LOCK] = map(_function, ("PyThread_acquire_lock", "PyThread_release_lock"))

    def _start(self, k: int) -> None:
        services = np.zeros(SERVICE_SLOTS, np.int64)
        small = np.zeros(POOL_INDEX + POOL_REGISTERS, np.int64)
        tiles = np.empty(POOL_TILES // 8 + 8, np.int64)
        self._kept += [services, small, tiles]
        services[INDEX], services[REGISTERS] = _address(small), _address(small) + 8 * POOL_INDEX
        services[TILES] = _address(tiles) + -_address(tiles) % 64
        self._rows[k, OWN_SERVICES], self._rows[k, WAKE] = _address(services), _taken_lock()
        work = library.load("sweeps").help
        helper = threading.Thread(target=work, args=(_address(self.table), k), name=f"tapead-{k + 1}", daemon=True)
        helper.start()
        self._helpers.append(helper)
        self.table[STARTED] = k + 1

    def stop(self) -> None:
        """Send the helpers home, before the code that they run is taken down."""
        if self._helpers:
            library.load("sweeps").stop(_address(self.table))
            for helper in self._helpers:
                helper.join(1.0)

    def start_again(self) -> None:
        """Start as many helpers in a forked child as there were in the parent."""
        n = self.threads
        self._forget()
        if n > 1:
            self.use(n)


def _function(name: str) -> int:
    return ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0


def _taken_lock() -> int:
    """Make a lock of the interpreter's that waits for somebody to give it."""
    make = ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi))
    take = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(("PyThread_acquire_lock", ctypes.pythonapi))
    lock = make()
    if not lock:
        raise MemoryError("no memory for a lock")
    take(lock, 1)
    return int(lock)


@cache
def _blas() -> tuple[Any, Any] | None:
    """Find the functions that set and give the number of threads of SciPy's BLAS; None where it has none that we know."""
    from scipy.linalg import cython_blas

    library = ctypes.CDLL(cython_blas.__file__)  # a name is looked up in what it links to, too
    for names in _BLAS_NAMES:
        if all(hasattr(library, name) for name in names):
            return getattr(library, names[0]), getattr(library, names[1])
    return None


def _blas_threads() -> int:
    found = _blas()
    return int(found[1]()) if found else 1


def _set_blas_threads(n: int) -> None:
    found = _blas()
    if found:
        found[0](n)


_pool = _Pool()
atexit.register(_pool.stop)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.start_again)
