"""How instructions and partials read: as text, and in LaTeX; made from the expressions of the op table."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .kernels.op import Elementwise, Op, Structural
from .tape import Buffer

#: what the macron of an adjoint and the dot of a tangent look like in text
BAR, DOT = "\u0304", "\u0307"

Write = Callable[[str], str]


def adjoint_name(name: str) -> str:
    """Give the name of an adjoint: v3 has v̄3."""
    return f"{name[0]}{BAR}{name[1:]}"


def tangent_name(name: str) -> str:
    """Give the name of a tangent: v3 has v̇3."""
    return f"{name[0]}{DOT}{name[1:]}"


def number_text(value: Any) -> str:
    """Write a number of the code shortly and exactly: 2 for 2.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 and math.copysign(1.0, value) > 0:
        return str(int(value))
    return repr(value)


# ---- formulas --------------------------------------------------------------------------------------------------------


def formula(
    op: Op, operands: Sequence[str], parameters: Mapping[str, Any] | None, result: Buffer, operand: Buffer
) -> str:
    """Write an instruction as a formula of its operands."""
    if isinstance(op, Elementwise):
        if not _reads_well(op):
            return f"{op.name}({', '.join(operands)})"
        return _text(_expression(op.value), dict(zip("xyw", operands, strict=False)))
    if isinstance(op, Structural) and op.formula:
        return str(op.formula.format(**_fields(operands), axes=_axes(result, operand)))
    more = [f"{key}={value}" for key, value in (parameters or {}).items()]
    return f"{op.name}({', '.join([*operands, *more])})"


def adjoint_formula(op: Op, i: int, d: str, operands: Sequence[str], result: str) -> str:
    """Write what an instruction adds to the adjoint of its i-th operand, given the name of its result's adjoint."""
    if isinstance(op, Elementwise):
        partial = op.partials[i] or "0.0"
        if partial in ("1.0", "-1.0"):
            return d if partial == "1.0" else f"-{d}"
        names = {**dict(zip("xyw", operands, strict=False)), "z": result}
        tree = _expression(partial)
        text = _text(tree, names)
        return f"{d} * ({text})" if isinstance(tree, ast.BinOp | ast.UnaryOp | ast.Compare) else f"{d} * {text}"
    if isinstance(op, Structural) and i in op.active and op.adjoints:
        return str(op.adjoints[op.active.index(i)].format(**_fields(operands), d=d, z=result))
    return f"adjoint of {op.name} by operand {i + 1}"


def formula_latex(
    op: Op, operands: Sequence[str], parameters: Mapping[str, Any] | None, result: Buffer, operand: Buffer
) -> str:
    """Write an instruction in LaTeX; the operands' names are LaTeX already."""
    if isinstance(op, Elementwise):
        if _reads_well(op):
            return _latex(_expression(op.value), dict(zip("xyw", operands, strict=False)))
        return _call_latex(op.name, operands)
    if isinstance(op, Structural) and op.formula:
        return _template_latex(op.formula, {**_fields(operands), "axes": _axes(result, operand)})
    return _call_latex(op.name, operands)


def adjoint_latex(op: Op, i: int, d: str, operands: Sequence[str], result: str) -> str:
    """Write what an instruction adds to the adjoint of its i-th operand in LaTeX."""
    if isinstance(op, Elementwise):
        partial = op.partials[i] or "0.0"
        if partial in ("1.0", "-1.0"):
            return d if partial == "1.0" else f"-{d}"
        tree = _expression(partial)
        text = _latex(tree, {**dict(zip("xyw", operands, strict=False)), "z": result})
        wide = isinstance(tree, ast.UnaryOp) or (isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add | ast.Sub))
        return rf"{d} \left({text}\right)" if wide else rf"{d} \cdot {text}"
    if isinstance(op, Structural) and i in op.active and op.adjoints:
        return _template_latex(op.adjoints[op.active.index(i)], {**_fields(operands), "d": d, "z": result})
    return rf"\text{{adjoint of {_escaped(op.name)} by operand {i + 1}}}"


def _reads_well(op: Elementwise) -> bool:
    """Whether an op's expression is one operation on each of its operands once, in their order."""
    tree = _expression(op.value)
    names: list[ast.expr]
    if isinstance(tree, ast.BinOp):
        names = [tree.left, tree.right]
    elif isinstance(tree, ast.Compare):
        names = [tree.left, *tree.comparators]
    elif isinstance(tree, ast.UnaryOp):
        names = [tree.operand]
    elif isinstance(tree, ast.Call):
        names = tree.args
    else:
        return False
    return [node.id if isinstance(node, ast.Name) else "" for node in names] == list("xyw"[: op.arity])


def _expression(text: str) -> ast.expr:
    found = _TREES.get(text)
    if found is None:
        found = _TREES[text] = ast.parse(text, mode="eval").body
    return found


_TREES: dict[str, ast.expr] = {}


class _Named(ast.NodeTransformer):
    """Puts names in the place of x, y, w and z, writes whole numbers as such, and power as **."""

    def __init__(self, names: Mapping[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.expr:
        text = self.names.get(node.id)
        if text is None:
            return node
        return ast.parse(text, mode="eval").body if re.fullmatch(r"[-+.\w]+", text) else ast.Name(text)

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        whole = isinstance(node.value, float) and node.value.is_integer()
        return ast.Constant(int(node.value)) if whole else node  # type: ignore[arg-type]

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.func, ast.Name) and node.func.id == "power":
            return ast.BinOp(node.args[0], ast.Pow(), node.args[1])
        return node


#: (expression, names in it) -> what it reads like, for names and numbers that need no brackets
_TEMPLATES: dict[tuple[object, ...], str] = {}
_PLAIN = re.compile(r"[^\W\d]\w*|[\d.]+(e[-+]?\d+)?")


def _text(tree: ast.expr, names: Mapping[str, str]) -> str:
    """Write an expression with its names replaced; for plain ones by a template, as a long tape has many like it."""
    if not all(map(_PLAIN.fullmatch, names.values())):
        return _written(tree, names)
    key = (id(tree), *names)  # expressions live for ever
    template = _TEMPLATES.get(key)
    if template is None:
        template = _TEMPLATES[key] = _written(tree, {name: f"{{{name}}}" for name in names})
    return template.format(**names)


def _written(tree: ast.expr, names: Mapping[str, str]) -> str:
    copied = ast.parse(ast.unparse(tree), mode="eval").body
    return ast.unparse(ast.fix_missing_locations(_Named(names).visit(copied)))


def _fields(operands: Sequence[str]) -> dict[str, str]:
    """Name operands as the formulas of structural ops do: x, y, and rest for all but the first."""
    return {**dict(zip("xyw", operands, strict=False)), "rest": ", ".join(operands[1:])}


def _axes(result: Buffer, operand: Buffer) -> str:
    """Name the axes that went, unless all did."""
    if len(result.shape) < len(operand.shape):
        return "" if math.prod(result.shape) == 1 else f", axis={len(operand.shape) - 1}"
    gone = [i for i, (a, b) in enumerate(zip(operand.shape, result.shape, strict=False)) if b == 1 != a]
    if len(gone) == len([d for d in operand.shape if d != 1]):
        return ""
    return f", axis={gone[0] if len(gone) == 1 else tuple(gone)}"


# ---- LaTeX -----------------------------------------------------------------------------------------------------------

_FUNCTIONS = {
    **{name: rf"\{name}" for name in ("exp", "log", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arcsin", "arccos", "arctan")},
    **{"maximum": r"\max", "minimum": r"\min"},
}  # fmt: skip
_COMPARISONS = {ast.Lt: "<", ast.LtE: r"\le", ast.Gt: ">", ast.GtE: r"\ge", ast.Eq: "=", ast.NotEq: r"\ne"}
_SUMS: tuple[type[ast.AST], ...] = (ast.Add, ast.Sub)


def _escaped(text: str) -> str:
    return re.sub(r"([_&%#$])", r"\\\1", text)


def _call_latex(name: str, arguments: Sequence[str]) -> str:
    function = _FUNCTIONS.get(name, rf"\operatorname{{{_escaped(name)}}}")
    return rf"{function}\left({', '.join(arguments)}\right)"


def _latex(node: ast.expr, names: Mapping[str, str]) -> str:
    """Write an expression of the op table in LaTeX."""

    def bracketed(part: ast.expr, kinds: tuple[type[ast.AST], ...]) -> str:
        text = _latex(part, names)
        inner = isinstance(part, ast.UnaryOp) or (isinstance(part, ast.BinOp) and isinstance(part.op, kinds))
        return rf"\left({text}\right)" if inner or isinstance(part, ast.Compare) else text

    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Constant):
        return number_text(node.value)
    if isinstance(node, ast.UnaryOp):
        sign = "-" if isinstance(node.op, ast.USub) else r"\neg "
        return f"{sign}{bracketed(node.operand, _SUMS)}"
    if isinstance(node, ast.Compare):
        sides = [_latex(side, names) for side in (node.left, *node.comparators)]
        signs = [_COMPARISONS[type(op)] for op in node.ops]
        return sides[0] + "".join(f" {sign} {side}" for sign, side in zip(signs, sides[1:], strict=True))
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Div):
            return rf"\frac{{{_latex(node.left, names)}}}{{{_latex(node.right, names)}}}"
        sign = {ast.Add: "+", ast.Sub: "-", ast.Mult: r"\cdot", ast.BitAnd: r"\wedge", ast.BitOr: r"\vee"}[
            type(node.op)
        ]
        kinds = (ast.Add, ast.Sub) if isinstance(node.op, ast.Mult) else ()
        right = bracketed(node.right, kinds or (_SUMS if isinstance(node.op, ast.Sub) else ()))
        left = bracketed(node.left, kinds) if kinds or isinstance(node.left, ast.Compare) else _latex(node.left, names)
        return f"{left} {sign} {right}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        texts = [_latex(argument, names) for argument in node.args]
        if node.func.id == "sqrt":
            return rf"\sqrt{{{texts[0]}}}"
        if node.func.id == "abs":
            return rf"\left|{texts[0]}\right|"
        if node.func.id == "power":
            return rf"{{{bracketed(node.args[0], (ast.operator,))}}}^{{{texts[1]}}}"
        return _call_latex(node.func.id, texts)
    raise TypeError(f"an expression of the op table holds {ast.dump(node)}")


def _template_latex(template: str, fields: Mapping[str, str]) -> str:
    """Write the formula of a structural op in LaTeX: mathematics, or prose with mathematics in it."""
    if re.search(r"[A-Za-z]", re.sub(r"{\w+}", "", template)):
        prose = {key: f"${value}$" if key != "axes" else value for key, value in fields.items() if value} | {
            key: "" for key, value in fields.items() if not value
        }
        return rf"\text{{{_scripts(template.format(**prose), '$')}}}"
    return _scripts(template.format(**fields).replace(" @ ", " "), "")


def _scripts(text: str, dollar: str) -> str:
    """Write transposes and inverses as LaTeX's superscripts."""
    for mark, latex in (("⁻ᵀ", r"^{-\top}"), ("⁻¹", "^{-1}"), ("ᵀ", r"^{\top}")):
        text = text.replace(dollar + mark, latex + dollar).replace(mark, dollar + latex + dollar)
    return text
