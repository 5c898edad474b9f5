"""The compiled kernels: loaded group by group when a program first needs one, from numba's cache where it has them."""

import importlib
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from threading import RLock
from types import ModuleType

from .jit import lists_code_of
from .op import Structural
from .table import OPS, STRUCTURAL_GROUPS

#: every group of kernels that is compiled as one: the sweeps, blocks and scalar runs by number class, structural ops
GROUPS = (
    *("tiles_f8", "scalars_f8", "blocks_f8", "sweeps"),
    *STRUCTURAL_GROUPS,
    *("tiles_f4", "scalars_f4", "blocks_f4", "tiles_i8", "blocks_i8"),
)

#: seconds spent on each group so far in this process
seconds: dict[str, float] = {}

#: called with (group, event) around each load: "compiling" or "loading" before, "ready" after
listeners: list[Callable[[str, str], None]] = []

_modules: dict[str, ModuleType] = {}
_lock = RLock()


def _source(group: str) -> Path:
    return Path(__file__).with_name(f"generated_{group}.py")


def _cache_folders() -> list[Path]:
    """Give the folders where numba may keep what it compiles, the preferred one first."""
    from numba import config
    from numba.misc.appdirs import AppDirs

    if config.CACHE_DIR:
        return [Path(config.CACHE_DIR)]
    return [Path(__file__).parent / "__pycache__", Path(AppDirs(appname="numba", appauthor=False).user_cache_dir)]


def _index_files(group: str) -> list[Path]:
    """Give numba's index files of a group whose source has not changed since."""
    source = _source(group)
    found = [file for folder in _cache_folders() for file in folder.rglob(f"{source.stem}.*.nbi")]
    return [file for file in found if lists_code_of(file, source)]


def cached(group: str) -> bool:
    """Whether a group is in numba's cache on disk."""
    return bool(_index_files(group))


def cache_folder() -> str:
    """Give the folder in which numba keeps the compiled kernels."""
    for group in GROUPS:
        for file in _index_files(group):
            return str(file.parent)
    return str(_cache_folders()[0])


def _tell(group: str, event: str) -> None:
    for listener in list(listeners):
        listener(group, event)


def load(group: str) -> ModuleType:
    """Load a group's kernels, compiling them where the cache has none."""
    module = _modules.get(group)
    if module is not None:
        return module
    with _lock:
        if group in _modules:
            return _modules[group]
        _tell(group, "loading" if cached(group) else "compiling")
        start = time.perf_counter()
        name = f"{__package__}.{_source(group).stem}"
        try:
            module = importlib.import_module(name)
        except (RuntimeError, OSError) as error:
            if isinstance(error, RuntimeError) and "cannot cache" not in str(error):
                raise
            module = _load_elsewhere(name, error)
        seconds[group] = time.perf_counter() - start
        _modules[group] = module
        _tell(group, "ready")
        return module


def _load_elsewhere(name: str, error: Exception) -> ModuleType:
    """Compile into a temporary folder, since no cache folder can be written."""
    from numba import config

    folder = tempfile.mkdtemp(prefix="tapead-kernels-")
    warnings.warn(
        f"tapead cannot write its compiled kernels to a cache folder ({error}); they are kept in {folder} and compiled "
        "again by the next process. Set NUMBA_CACHE_DIR to a folder that can be written.",
        RuntimeWarning,
        stacklevel=2,
    )
    config.CACHE_DIR = folder
    sys.modules.pop(name, None)
    return importlib.import_module(name)


def block_kernel(number: str) -> int:
    """Give the address of the kernel of blocks of a class."""
    return int(load(f"blocks_{number}").block.address)


def tile_kernel(number: str) -> int:
    """Give the address of the kernel that runs the code of a class's tiles."""
    return int(load(f"tiles_{number}").tile.address)


def part_kernel(number: str) -> int:
    """Give the address of the kernel that does a part of a block of a class."""
    return int(load(f"blocks_{number}").part.address)


def clear_kernel() -> int:
    """Give the address of the kernel that zeroes an adjoint."""
    return int(load("sweeps").clear.address)


def strips_kernel() -> int:
    """Give the address of the kernel that runs rows strip by strip."""
    return int(load("sweeps").strips.address)


def clear_part_kernel() -> int:
    """Give the address of the kernel that zeroes a part of an adjoint."""
    return int(load("sweeps").clear_part.address)


def scalar_kernels(number: str) -> tuple[int, int]:
    """Give the addresses of the forward and the reverse kernel of scalar runs of a class."""
    module = load(f"scalars_{number}")
    return module.scalars_forward.address, module.scalars_reverse.address


def group_kernel(group: str) -> int:
    """Give the address of a structural group's entry point."""
    return int(load(group).kernel.address)


def structural_kernels(group: str) -> list[Callable[..., int]]:
    """List the kernels of a group, op by op: a kernel's place is the number that its entry point knows it by."""
    ops = [op for op in OPS.values() if isinstance(op, Structural) and op.group == group]
    kernels = [kernel for op in ops for kernel in (op.forward, op.reverse, op.restore) if kernel is not None]
    return list(dict.fromkeys(kernels))
