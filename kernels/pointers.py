"""Reading and writing memory by address inside jitted code: the intrinsics that every kernel stands on.

Addresses travel as int64, so one compiled kernel serves every program, and caching is never in the way.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _pointer_to(element: types.Type) -> Any:
    """Make an intrinsic that reads an int64 as the address of elements of one type."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        signature = types.CPointer(element)(types.int64)

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return signature, codegen

    return pointer


as_f8 = _pointer_to(types.float64)
as_f4 = _pointer_to(types.float32)
as_i8 = _pointer_to(types.int64)
as_i4 = _pointer_to(types.int32)
as_i2 = _pointer_to(types.int16)
as_b1 = _pointer_to(types.uint8)


@intrinsic
def shifted(typing_context: Any, pointer: Any, count: Any) -> Any:
    """Move a pointer by a number of elements."""
    signature = pointer(pointer, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.gep(arguments[0], [arguments[1]])

    return signature, codegen


@intrinsic
def prefetch(typing_context: Any, address: Any) -> Any:
    """Ask for the cache line at an address, which need not exist: the second-level cache will have it."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(function, [builder.inttoptr(arguments[0], byte), word(0), word(2), word(1)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


def _caller(count: int) -> Any:
    """Make the code of an intrinsic that calls the C function at an address with words."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        function = builder.inttoptr(arguments[0], ir.FunctionType(word, [word] * count).as_pointer())
        return builder.call(function, arguments[1:])

    return types.int64(*[types.int64] * (count + 1)), codegen


@intrinsic
def call_kernel(typing_context: Any, address: Any, p: Any, values: Any, adjoints: Any, services: Any) -> Any:
    """Call the kernel at an address: four int64 in (parameters, values, adjoints, services), a status out."""
    return _caller(4)


@intrinsic
def address_of(typing_context: Any, pointer: Any) -> Any:
    """Give the address that a pointer holds."""
    signature = types.int64(pointer)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.ptrtoint(arguments[0], ir.IntType(64))

    return signature, codegen


@intrinsic
def call1(typing_context: Any, address: Any, a: Any) -> Any:
    """Call the C function at an address: a word in, a word out."""
    return _caller(1)


@intrinsic
def call2(typing_context: Any, address: Any, a: Any, b: Any) -> Any:
    """Call the C function at an address: two words in, a word out."""
    return _caller(2)


@intrinsic
def call4(typing_context: Any, address: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Call the C function at an address: four words in, a word out."""
    return _caller(4)


@intrinsic
def read_now(typing_context: Any, address: Any) -> Any:
    """Read a word that other threads write."""
    signature = types.int64(types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_word(builder, arguments[0]), "seq_cst", 8)

    return signature, codegen


@intrinsic
def swap(typing_context: Any, address: Any, value: Any) -> Any:
    """Write a word that other threads read; give what was there."""
    signature = types.int64(types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.atomic_rmw("xchg", _word(builder, arguments[0]), arguments[1], "seq_cst")

    return signature, codegen


@intrinsic
def count_up(typing_context: Any, address: Any) -> Any:
    """Add one to a word that other threads count up, too; give the sum."""
    signature = types.int64(types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = ir.Constant(ir.IntType(64), 1)
        return builder.add(builder.atomic_rmw("add", _word(builder, arguments[0]), one, "seq_cst"), one)

    return signature, codegen


@intrinsic
def replace(typing_context: Any, address: Any, old: Any, new: Any) -> Any:
    """Write a word if it is still the old one; tell whether it was."""
    signature = types.boolean(types.int64, types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address, old, new = arguments
        return builder.extract_value(builder.cmpxchg(_word(builder, address), old, new, "seq_cst", "seq_cst"), 1)

    return signature, codegen


def _word(builder: Any, address: Any) -> Any:
    return builder.inttoptr(address, ir.IntType(64).as_pointer())
