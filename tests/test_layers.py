"""Imports point downwards only, and importing tapead is light."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# From the roof to the ground: a module imports from lines below its own only.
STOREYS = """
__main__
cli
commands.demo commands.trace commands.compare commands.warmup commands.info commands.__init__
demo
plots
warm models comparison
sources
expression
vocabulary
__init__
trace_tables
slopes trace_rows
explanation
primitive_check
check
derivatives
api linearized
replayed rules observation
nested
batch
scaled
bands tangent define
adjoint
profiling
symbolic
dictionary operations reference
interpreter
trace
calling walk
tree
scipy.special scipy.linalg scipy.__init__
numpy
contraction
statistics
reductions products linear placement
selection pointwise joining
shaping
dispatch declaration
primitives
record
indexing protocols finite
binding
program
framing
plan
activity memory strips passes
blocks
order tiles
splitting parallel
graph
folding drawing
nodes
formulas views
grouping
scalars
operands
slabs
shape
tensor
tape
screen picture
switches extras markup figures
errors
"""


def name_of(path, folder, package):
    return ".".join((package, *path.relative_to(folder).with_suffix("").parts))


def modules():
    """Map each module's dotted name to its file; a package's own name ends in `.__init__`."""
    found = {}
    for folder, package in ((ROOT / "tapead", "tapead"), (ROOT / "kernels", "tapead.kernels")):
        for path in sorted(folder.rglob("*.py")):
            found[name_of(path, folder, package)] = path
    return found


MODULES = modules()


def is_for_types_only(node):
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def statements(node):
    """Walk all nodes, functions' bodies included, but not what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if not is_for_types_only(child):
            yield child
            yield from statements(child)


def resolve(name):
    """Give the module that dotted `name` stands for, or None when it is not tapead's."""
    if name in MODULES:
        return name
    if f"{name}.__init__" in MODULES:
        return f"{name}.__init__"
    return None


def imports(module):
    """Give the names of tapead's modules that `module` imports, wherever in the file it does so."""
    found = set()
    package = module.rpartition(".")[0].split(".")
    for node in statements(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {resolve(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            for alias in node.names:  # `from . import x` may name a module or something in the package
                found.add(resolve(f"{base}.{alias.name}") or resolve(base))
    return found - {None, module}


def storey(module):
    if module.startswith("tapead.kernels."):
        return len(STOREYS.split("\n"))
    for height, line in enumerate(STOREYS.split("\n")):
        if module.removeprefix("tapead.") in line.split():
            return height
    raise AssertionError(f"{module} has no place yet: add it to STOREYS in {Path(__file__).name}")


def test_there_is_something_to_check():
    assert {"tapead.cli", "tapead.kernels.library", "tapead.api"} <= set(MODULES)
    assert "tapead.kernels.library" in imports("tapead.commands.warmup")
    assert "tapead.cli" in imports("tapead.__main__")


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("tapead.kernels.")])
def test_imports_point_downwards(module):
    for imported in imports(module):
        # The command line may ask the package for its version.
        if imported == "tapead.__init__" and module in ("tapead.cli", "tapead.__main__", "tapead.commands.info"):
            continue
        assert storey(module) < storey(imported), f"{module} imports {imported}, which is not below it"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("tapead.kernels.")])
def test_kernels_know_nothing_of_tapead(module):
    upward = {name for name in imports(module) if not name.startswith("tapead.kernels.")}
    assert upward == set()
    for node in statements(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").partition(".")[0] not in ("tapead", "kernels")
        elif isinstance(node, ast.Import):
            assert not {alias.name.partition(".")[0] for alias in node.names} & {"tapead", "kernels"}


def test_no_import_circle():
    graph = {module: imports(module) for module in MODULES}
    # A package is imported along with any of its modules, and may gather their names.
    for package in [name for name in MODULES if name.endswith(".__init__")]:
        for module, imported in graph.items():
            if module.startswith(package.removesuffix("__init__")):
                imported.discard(package)
    order = tuple(TopologicalSorter(graph).static_order())  # raises CycleError with the circle
    assert len(order) == len(MODULES)


def python(code):
    start = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; import conftest\n"
    return subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, timeout=300)


def test_import_is_light():
    done = python(
        "before = set(sys.modules)\n"
        "import tapead\n"
        "from tapead.kernels import library\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new & {'rich', 'sklearn', 'sympy', 'graphviz', 'jax', 'torch', 'matplotlib', 'pandas', 'pytest'}))\n"
        "print(library.seconds)\n"
        "pictures = ('graph', 'nodes', 'trace_tables', 'symbolic')\n"
        "print([name for name in pictures if f'tapead.{name}' in sys.modules])\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "{}", "[]"]


def test_what_is_imported_late_is_there():
    done = python(
        "import tapead.trace_tables, tapead\n"
        "print(callable(tapead.trace_table), tapead.symbolic.__name__, hasattr(tapead, 'nothing'))\n"
        "names = {}\n"
        "exec('from tapead import *', names)\n"
        "print(set(tapead.__all__) <= set(names))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["True tapead.symbolic False", "True"]


def test_import_compiles_nothing():
    done = python(
        "from numba.core import event\n"
        "with event.install_recorder('numba:compile') as recorder:\n"
        "    import tapead\n"
        "print(len(recorder.buffer))\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n"
