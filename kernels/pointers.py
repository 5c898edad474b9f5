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
def call_kernel(typing_context: Any, address: Any, p: Any, values: Any, adjoints: Any, services: Any) -> Any:
    """Call the kernel at an address: four int64 in (parameters, values, adjoints, services), a status out."""
    signature = types.int64(types.int64, types.int64, types.int64, types.int64, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        function = builder.inttoptr(arguments[0], ir.FunctionType(word, [word] * 4).as_pointer())
        return builder.call(function, arguments[1:])

    return signature, codegen


@intrinsic
def data_address(typing_context: Any, array: Any) -> Any:
    """Give the address of an array's first element."""
    signature = types.int64(array)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return signature, codegen
