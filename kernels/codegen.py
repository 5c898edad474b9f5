"""From the op table to source: the tile loops and scalar switches of both sweeps, for each number class.

Run `python -m tapead.kernels.codegen` after a change of the table or of any kernel source; the generated files are
committed. Each carries a digest of all kernel sources, because numba's cache watches only the cached function's own
file: with the digest in its text, a file changes whenever something that it calls does.
"""

import ast
import hashlib
from pathlib import Path

from .elementwise import ROWS
from .library import structural_kernels
from .op import Elementwise
from .table import STRUCTURAL_GROUPS

FOLDER = Path(__file__).parent

CLASSES = {"f8": "float64", "f4": "float32", "i8": "int64"}
ITEM = {"f8": 8, "f4": 4, "i8": 8}


def digest() -> str:
    """Digest all kernel sources that are written by hand."""
    sources = sorted(path for path in FOLDER.glob("*.py") if not path.name.startswith("generated_"))
    sources += sorted(FOLDER.glob("*.template"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]


class _Literals(ast.NodeTransformer):
    """Give float literals the type of the class, so that float32 stays float32."""

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, float):
            return ast.Call(ast.Name("C", ast.Load()), [node], [])
        return node


def expression(text: str, number: str) -> str:
    """Write an expression of the table for one class."""
    tree = ast.parse(text, mode="eval")
    if number == "f4":
        tree = _Literals().visit(tree)
    return ast.unparse(tree)


def names(text: str) -> set[str]:
    """Name the variables that an expression reads."""
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def rows(number: str) -> list[Elementwise]:
    """Give the rows that exist in a class."""
    return [row for row in ROWS if (row.integer is not None if number == "i8" else row.floating)]


def _value(row: Elementwise, number: str) -> str:
    text = row.integer if number == "i8" else row.value
    return expression(text or "", number)


def _contribution(row: Elementwise, partial: str, number: str) -> str:
    """Write what an operand's adjoint receives: d times the partial, zero where d is."""
    text = expression(partial, number)
    if partial == "1.0":
        return "d"
    if partial == "-1.0":
        return "-d"
    if row.select:
        return f"keep(d, {text})"
    return f"where(d == 0.0, C(0.0), d * ({text}))"


def _branches(number: str, body: list[tuple[int, str, list[str]]], indent: str) -> list[str]:
    """Write an if/elif chain over opcodes; LLVM makes a jump table of it."""
    lines = []
    for k, (code, name, statements) in enumerate(body):
        lines.append(f"{indent}{'if' if k == 0 else 'elif'} op == {code}:  # {name}")
        lines += [f"{indent}    {statement}" for statement in statements]
    return lines


def tile_forward(number: str) -> list[str]:
    """Write the loop over a block's code on one tile, forward."""
    body = []
    for row in rows(number):
        text = _value(row, number)
        reads = [f"{name} = {name.upper()}[i]" for name in "xyw" if name in names(text)]
        body.append((row.code, row.name, ["for i in range(n):", *[f"    {r}" for r in reads], f"    Z[i] = {text}"]))
    return [
        "@njit(error_model='numpy')",
        "def tile_forward(code, count, registers, n):",
        "    for k in range(count):",
        "        op = code[6 * k]",
        "        Z = at(registers[code[6 * k + 1]])",
        "        X = at(registers[code[6 * k + 2]])",
        "        Y = at(registers[code[6 * k + 3]])",
        "        W = at(registers[code[6 * k + 4]])",
        *_branches(number, body, " " * 8),
    ]


def tile_reverse(number: str) -> list[str]:
    """Write the loop over a block's code on one tile, backwards, accumulating adjoints."""
    body = []
    for row in rows(number):
        statements = []
        for bit, (operand, partial) in enumerate(zip("xyw", row.partials, strict=False)):
            if partial is None:
                continue
            used = names(partial)
            reads = [f"{name} = {name.upper()}[i]" for name in "xywz" if name in used]
            statements += [
                f"if active & {1 << bit}:",
                f"    G = at(gradients[code[6 * k + {2 + bit}]])",
                "    for i in range(n):",
                "        d = D[i]",
                *[f"        {r}" for r in reads],
                f"        G[i] += {_contribution(row, partial, number)}",
            ]
        if statements:
            body.append((row.code, row.name, statements))
    return [
        "@njit(error_model='numpy')",
        "def tile_reverse(code, count, registers, gradients, n):",
        "    for k in range(count - 1, -1, -1):",
        "        op = code[6 * k]",
        "        active = code[6 * k + 5]",
        "        D = at(gradients[code[6 * k + 1]])",
        "        Z = at(registers[code[6 * k + 1]])",
        "        X = at(registers[code[6 * k + 2]])",
        "        Y = at(registers[code[6 * k + 3]])",
        "        W = at(registers[code[6 * k + 4]])",
        *_branches(number, body, " " * 8),
    ]


def scalars_forward(number: str) -> list[str]:
    """Write the switch over single numbers, forward."""
    operands = {"x": "v[code[6 * k + 2]]", "y": "v[code[6 * k + 3]]", "w": "v[code[6 * k + 4]]"}
    body = []
    for row in rows(number):
        text = _value(row, number)
        reads = [f"{name} = {operands[name]}" for name in "xyw" if name in names(text)]
        body.append((row.code, row.name, [*reads, f"v[code[6 * k + 1]] = {text}"]))
    return ["        " + line for line in _branches(number, body, "")]


def scalars_reverse(number: str) -> list[str]:
    """Write the switch over single numbers, backwards."""
    operands = {"x": "v[code[6 * k + 2]]", "y": "v[code[6 * k + 3]]", "w": "v[code[6 * k + 4]]", "z": "v[code[6 * k + 1]]"}
    body = []
    for row in rows(number):
        statements = []
        for bit, (_, partial) in enumerate(zip("xyw", row.partials, strict=False)):
            if partial is None:
                continue
            reads = [f"{name} = {operands[name]}" for name in "xywz" if name in names(partial)]
            statements += [f"if active & {1 << bit}:", *[f"    {r}" for r in reads]]
            statements += [f"    g[code[6 * k + {2 + bit}]] += {_contribution(row, partial, number)}"]
        if statements:
            body.append((row.code, row.name, statements))
    return ["        " + line for line in _branches(number, body, "")]


def substitute(number: str, template: str) -> str:
    """Fill a template (a kernel source with marks) for one class."""
    text = (FOLDER / template).read_text()
    text = text.replace("CLASS", number).replace("NUMBER", CLASSES[number]).replace("ITEM", str(ITEM[number]))
    parts = {
        "#: tile_forward": lambda: tile_forward(number),
        "#: tile_reverse": lambda: tile_reverse(number),
        "#: scalars_forward": lambda: scalars_forward(number),
        "#: scalars_reverse": lambda: scalars_reverse(number),
    }
    if number == "i8":  # no derivative flows through integers
        text = text.partition("#: reverse from here")[0].replace("#: tile_reverse", "")
    lines: list[str] = []
    for line in text.splitlines():
        lines += parts[line.strip()]() if line.strip() in parts else [line]
    return "\n".join(lines) + "\n"


def entry(group: str) -> str:
    """Write a group's entry point, which calls the kernel that the first parameter names."""
    kernels = [kernel.__name__ for kernel in structural_kernels(group)]
    lines = [
        f'"""Structural ops of `{group}.py` behind one entry point."""',
        "",
        "from numba import cfunc, types",
        "",
        f"from .{group} import {', '.join(kernels)}",
        "from .pointers import as_i8",
        "",
        "",
        '@cfunc(types.int64(types.int64, types.int64, types.int64, types.int64), cache=True, error_model="numpy")',
        "def kernel(p, values, adjoints, services):",
        "    p, values, adjoints, services = as_i8(p), as_i8(values), as_i8(adjoints), as_i8(services)",
    ]
    for k, name in enumerate(kernels):
        lines += [f"    if p[0] == {k}:", f"        return {name}(p, values, adjoints, services)"]
    return "\n".join([*lines, "    return 0", ""])


SWEEPS = '''"""The sweeps, compiled: `sweep`, and `sweep_released`, which lets go of the interpreter lock meanwhile."""

from numba import njit, types

from .pointers import data_address
from .sweeps import sweep as sweeps


@njit("int64(int64, int64)", error_model="numpy", cache=True)
def sweep(table, gradient):
    return sweeps(table, gradient)


@njit("int64(int64, int64)", error_model="numpy", cache=True, nogil=True)
def sweep_released(table, gradient):
    return sweeps(table, gradient)


_ARRAYS = [types.Array(t, 1, "C", readonly=True) for t in (types.float64, types.float32, types.int64, types.boolean)]


@njit([types.int64(array) for array in _ARRAYS], cache=True)
def address(array):
    return data_address(array)
'''


def files() -> dict[str, str]:
    """Give every generated file's name and text."""
    head = "# Generated by `python -m tapead.kernels.codegen`; kernel sources {}. Do not edit.\n# ruff: noqa\n# mypy: ignore-errors\n"
    head = head.format(digest())
    made = {}
    for number in CLASSES:
        made[f"generated_blocks_{number}.py"] = head + substitute(number, "blocks.template")
        if number != "i8":
            made[f"generated_scalars_{number}.py"] = head + substitute(number, "scalars.template")
    made["generated_sweeps.py"] = head + SWEEPS
    for group in STRUCTURAL_GROUPS:
        made[f"generated_{group}.py"] = head + entry(group)
    return made


def main() -> None:
    """Write the generated files that are not current."""
    for name, text in files().items():
        path = FOLDER / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            print(f"wrote {path}")


if __name__ == "__main__":
    main()
