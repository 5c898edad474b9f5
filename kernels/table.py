"""The whole op table: importing this enters every op into the registry."""

from . import elementwise, index, layout, linalg, products, reduce
from .op import BY_CODE, OPS, STRUCTURAL, Elementwise, Layout, Op, Structural

#: ops that block kernels do, and have no kernels of their own
BLOCK_OPS = layout.GROUP

#: the modules of structural ops, each compiled as one group
STRUCTURAL_GROUPS = tuple(module.GROUP for module in (reduce, products, index, linalg))

ROWS = elementwise.ROWS

__all__ = ["BY_CODE", "OPS", "ROWS", "STRUCTURAL", "STRUCTURAL_GROUPS", "Elementwise", "Layout", "Op", "Structural"]
