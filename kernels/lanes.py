"""A few numbers side by side, as one value: what a loop works on that must not depend on the vectoriser.

LLVM has such vectors as a type and maps them to the registers of any machine. So short rows are fast, and loops need
no checks for overlap. Everything is made for a count of lanes by `Lanes`.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model


class Vector(types.Type):
    """The type of `count` numbers side by side."""

    def __init__(self, element: types.Type, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"lanes({element}, {count})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):  # type: ignore[misc, unused-ignore]
    """How LLVM sees lanes: as its own vectors."""

    def __init__(self, manager: Any, vector: Vector) -> None:
        element = manager.lookup(vector.element).get_value_type()
        super().__init__(manager, vector, ir.VectorType(element, vector.count))


def _place(builder: Any, pointer: Any, count: int) -> Any:
    return builder.bitcast(pointer, ir.VectorType(pointer.type.pointee, count).as_pointer())


def lanes_at(count: int) -> Any:
    """Make an intrinsic that loads lanes from a pointer."""

    @intrinsic
    def load(typing_context: Any, pointer: Any) -> Any:
        signature = Vector(pointer.dtype, count)(pointer)

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            item = context.get_abi_sizeof(arguments[0].type.pointee)
            return builder.load(_place(builder, arguments[0], count), align=item)

        return signature, codegen

    return load


def no_lanes_at(count: int) -> Any:
    """Make an intrinsic that gives zeros, of a pointer's class."""

    @intrinsic
    def none(typing_context: Any, pointer: Any) -> Any:
        signature = Vector(pointer.dtype, count)(pointer)

        def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return context.get_value_type(signature.return_type)(None)

        return signature, codegen

    return none


@intrinsic
def copies(typing_context: Any, pointer: Any, number: Any) -> Any:
    """Give eight lanes of one number, of a pointer's class."""
    signature = Vector(pointer.dtype, 8)(pointer, pointer.dtype)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return spread(builder, arguments[1], context.get_value_type(signature.return_type))

    return signature, codegen


@intrinsic
def side_by_side(typing_context: Any, a: Any, b: Any, c: Any, d: Any) -> Any:
    """Give four lanes of four numbers."""
    signature = Vector(a, 4)(a, a, a, a)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes = context.get_value_type(signature.return_type)(ir.Undefined)
        for k, number in enumerate(arguments):
            lanes = builder.insert_element(lanes, number, ir.IntType(32)(k))
        return lanes

    return signature, codegen


@intrinsic
def store(typing_context: Any, pointer: Any, lanes: Any) -> Any:
    """Store lanes at a pointer."""
    signature = types.void(pointer, lanes)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, lanes = arguments
        item = context.get_abi_sizeof(pointer.type.pointee)
        builder.store(lanes, _place(builder, pointer, lanes.type.count), align=item)
        return context.get_dummy_value()

    return signature, codegen


@intrinsic
def add_lanes(typing_context: Any, pointer: Any, lanes: Any) -> Any:
    """Add lanes to what is at a pointer, in its class."""
    signature = types.void(pointer, lanes)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        pointer, lanes = arguments
        place = _place(builder, pointer, lanes.type.count)
        item = context.get_abi_sizeof(pointer.type.pointee)
        total = _sum(builder, builder.load(place, align=item), _converted(builder, lanes, place.type.pointee))
        builder.store(total, place, align=item)
        return context.get_dummy_value()

    return signature, codegen


def _converted(builder: Any, lanes: Any, kind: Any) -> Any:
    given, wanted = lanes.type.element, kind.element
    if given == wanted:
        return lanes
    if isinstance(given, ir.IntType):
        return builder.sitofp(lanes, kind)
    if isinstance(wanted, ir.IntType):
        return builder.fptosi(lanes, kind)
    return builder.fpext(lanes, kind) if isinstance(wanted, ir.DoubleType) else builder.fptrunc(lanes, kind)


def spread(builder: Any, number: Any, kind: Any) -> Any:
    """Write the code of lanes that are all one number."""
    one = builder.insert_element(kind(ir.Undefined), number, ir.IntType(32)(0))
    return builder.shuffle_vector(one, kind(ir.Undefined), ir.VectorType(ir.IntType(32), kind.count)(None))


def fused(builder: Any, x: Any, y: Any, z: Any, how: str = "fma") -> Any:
    """Write the code of x * y + z; "fma" rounds it once, "fmuladd" as is faster."""
    return _called(builder, how, x, y, z)


def _called(builder: Any, name: str, *lanes: Any) -> Any:
    """Call one of LLVM's own functions, with lanes all of one type."""
    kind = lanes[0].type
    name = f"llvm.{name}.v{kind.count}f{64 if isinstance(kind.element, ir.DoubleType) else 32}"
    made = ir.FunctionType(kind, [kind] * len(lanes))
    return builder.call(builder.module.globals.get(name) or ir.Function(builder.module, made, name), lanes)


def _sum(builder: Any, x: Any, y: Any) -> Any:
    return builder.add(x, y) if isinstance(x.type.element, ir.IntType) else builder.fadd(x, y)


@intrinsic
def add_multiple(typing_context: Any, total: Any, number: Any, lanes: Any) -> Any:
    """Give total + number * lanes."""
    signature = lanes(lanes, lanes.element, lanes)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, number, lanes = arguments
        return fused(builder, spread(builder, number, lanes.type), lanes, total, "fmuladd")

    return signature, codegen


@intrinsic
def add_product(typing_context: Any, total: Any, x: Any, y: Any) -> Any:
    """Give total + x * y."""
    signature = x(x, x, x)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return fused(builder, arguments[1], arguments[2], arguments[0], "fmuladd")

    return signature, codegen


@intrinsic
def add(typing_context: Any, x: Any, y: Any) -> Any:
    """Give x + y."""
    signature = x(x, x)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _sum(builder, *arguments)

    return signature, codegen


@intrinsic
def total(typing_context: Any, lanes: Any) -> Any:
    """Give the sum of all lanes."""
    signature = lanes.element(lanes)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x = arguments[0]
        while x.type.count > 1:
            half = x.type.count // 2
            index = ir.VectorType(ir.IntType(32), half)
            low, high = (
                builder.shuffle_vector(x, x, ir.Constant(index, [i + shift for i in range(half)]))
                for shift in (0, half)
            )
            x = builder.fadd(low, high)
        return builder.extract_element(x, ir.IntType(32)(0))

    return signature, codegen


@intrinsic
def without(typing_context: Any, lanes: Any, count: Any) -> Any:
    """Give lanes of which the first `count` are zero."""
    signature = lanes(lanes, types.int64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lanes, count = arguments
        places = ir.VectorType(ir.IntType(32), lanes.type.count)
        limit = spread(builder, builder.trunc(count, ir.IntType(32)), places)
        kept = builder.icmp_signed(">=", ir.Constant(places, list(range(places.count))), limit)
        return builder.select(kept, lanes, lanes.type(None))

    return signature, codegen


@intrinsic
def lanes_sqrt(typing_context: Any, lanes: Any) -> Any:
    """Give the square root of each lane."""
    signature = lanes(lanes)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(builder, "sqrt", *arguments)

    return signature, codegen
