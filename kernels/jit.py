"""How kernels are compiled: the flags in one place.

Only entry points (in the generated files) are called from Python, so what they are made of needs no wrappers;
leaving those out saves a tenth of the compile time. NumPy's error model: division by zero gives inf or NaN.
"""

import pickle
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from numba import njit, types
from numba.core import untyped_passes
from numba.core.caching import CompileResultCacheImpl, FunctionCache, IndexDataCacheFile, _SourceFileBackedLocatorMixin
from numba.core.ccallback import CFunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, DefaultPassBuilder
from numba.core.sigutils import normalize_signature

#: what numba's compiler does for code of other kinds than a kernel's: closures, with statements, tuples to unroll
_NEEDLESS = (
    untyped_passes.WithLifting,
    untyped_passes.InlineClosureLikes,
    untyped_passes.RewriteDynamicRaises,
    untyped_passes.MakeFunctionToJitFunction,
    untyped_passes.FindLiterallyCalls,
    untyped_passes.LiteralUnroll,
    untyped_passes.LiteralPropagationSubPipelinePass,
)


class _Whole(JITCodeLibrary):
    """The code of an entry point, which is optimised as a whole: to optimise functions before that gains nothing."""

    def _optimize_functions(self, module: Any) -> None:
        pass


class _Part(_Whole):
    """The code of a function that other kernels call: it is optimised, and becomes machine code, as a part of them only.

    Otherwise numba would do all that for each function by itself, and once more wherever it is called.
    """

    @property
    def codegen(self) -> Any:
        return self

    def set_env(self, name: str, environment: Any) -> None:
        """Do without the environment: a kernel has no Python objects."""

    def _optimize_final_module(self) -> None:
        pass

    def _finalize_final_module(self) -> None:
        self._finalized = True


class _Inlined(_Part):
    """The code of a function that is inlined in many places, and had better be optimised before that."""

    def _optimize_final_module(self) -> None:
        JITCodeLibrary._optimize_final_module(self)


class _Compiler(Compiler):
    """numba's compiler without the passes that find nothing to do in a kernel."""

    library: type[JITCodeLibrary] = _Whole

    def define_pipelines(self) -> list[Any]:
        state = self.state
        state.library = self.library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        whole = DefaultPassBuilder.define_nopython_pipeline(state)
        whole.passes = [entry for entry in whole.passes if entry[0] not in _NEEDLESS]
        whole.finalize()
        return [whole]


class _PartCompiler(_Compiler):
    library = _Part


class _InlinedCompiler(_Compiler):
    library = _Inlined


#: kernels own no memory, so there is none to count references to
_options: dict[str, Any] = {"error_model": "numpy", "no_rewrites": True, "_nrt": False}
_inner = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, **_options}


class Kernel:
    """A function that other kernels call. What numba compiles it with is made when something is compiled.

    Most processes load machine code from the cache, and compile nothing; a hundred dispatchers would cost their imports.
    """

    def __init__(self, function: Callable[..., Any], options: dict[str, Any]) -> None:
        self.__name__ = function.__name__
        self._function, self._options = function, options

    @cached_property
    def _dispatcher(self) -> Any:
        return njit(self._function, **self._options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)


def _compiled_with(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a decorator of functions that other kernels call."""
    return lambda function: Kernel(function, options)


kernel = _compiled_with(pipeline_class=_PartCompiler, **_inner)

#: the same for loops that may add in another order, so that they vectorise
summing_kernel = _compiled_with(pipeline_class=_PartCompiler, **_inner, fastmath={"reassoc", "contract"})

#: the same for functions of numbers that are inlined wherever they are called, so that the calling loop vectorises
vector_kernel = _compiled_with(pipeline_class=_InlinedCompiler, **_inner, forceinline=True)

#: a part of a kernel, written out where it is called: several compile faster as one function
part = _compiled_with(error_model="numpy", inline="always")


class _Cache(FunctionCache):
    """numba's cache on disk, without getting ready, before anything is loaded, all that numba can compile.

    That takes several times as long as the loading itself, and imports SciPy's linear algebra. What compiles does it.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


class _Source(_SourceFileBackedLocatorMixin):
    def __init__(self, file: Path) -> None:
        self._py_file = str(file)


def source_stamp(source: Path) -> Any:
    """Give what numba knows a source file by, as it is now."""
    return _Source(source).get_source_stamp()  # type: ignore[no-untyped-call, unused-ignore]


def lists_code_of(index: Path, source: Path) -> bool:
    """Whether an index of numba's cache lists code that was compiled from a source file as it is now."""
    file = IndexDataCacheFile(str(index.parent), index.stem, source_stamp(source))
    try:
        return bool(file._load_index())  # type: ignore[attr-defined, unused-ignore]
    except (OSError, EOFError, pickle.UnpicklingError):
        return False


class _Loaded(JITCodeLibrary):
    """Machine code from the cache."""

    def __init__(self, codegen: Any, name: str, code: bytes) -> None:
        super().__init__(codegen, name)
        self.enable_object_caching()
        self._set_compiled_object(code)
        self._finalize_final_module()

    def get_pointer_to_function(self, name: str) -> int:
        return int(self._codegen._engine.get_function_address(name))


class _CodeFiles(CompileResultCacheImpl):
    """Keep an entry point's machine code and its name in there: nothing else is wanted of it."""

    def reduce(self, data: Any) -> tuple[str, bytes]:
        return data.fndesc.llvm_cfunc_wrapper_name, data.library._get_compiled_object()

    def rebuild(self, target_context: Any, payload: tuple[str, bytes]) -> Any:
        library = _Loaded(target_context.codegen(), *payload)
        return SimpleNamespace(library=library, fndesc=SimpleNamespace(llvm_cfunc_wrapper_name=library.name))


class _CodeCache(_Cache):
    _impl_class = _CodeFiles  # type: ignore[assignment, unused-ignore]


class _EntryPoint(CFunc):
    def enable_caching(self) -> None:
        self._cache = _CodeCache(self._pyfunc)  # type: ignore[attr-defined, unused-ignore]


def entry_point(function: Callable[..., int]) -> Any:
    """Compile an entry point with an address: four int64 in, an int64 out; kept in numba's cache."""
    signature = normalize_signature(types.int64(*[types.int64] * 4))
    made = _EntryPoint(function, signature, locals={}, options=_options, pipeline_class=_Compiler)
    made.enable_caching()
    made.compile()
    return made


def callable_kernel(signature: str, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile an entry point that Python calls; kept in numba's cache."""

    def compiled(function: Callable[..., Any]) -> Any:
        made = njit(pipeline_class=_Compiler, **_options, **options)(function)
        made._cache = _Cache(function)
        made.compile(signature)
        made.disable_compile()
        return made

    return compiled
