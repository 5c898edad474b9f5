"""What every test needs: the package `tapead.kernels` in a bare checkout, and calm hypothesis."""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]


class KernelsOfCheckout:
    """Find `tapead.kernels` in `kernels/` where tapead is not installed; asked after all other finders."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != "tapead.kernels":
            return None
        folder = ROOT / "kernels"
        return importlib.util.spec_from_file_location(
            name, folder / "__init__.py", submodule_search_locations=[str(folder)]
        )


sys.meta_path.append(KernelsOfCheckout)

# A replay compiles nothing, but the first example may load kernels: no deadline.
settings.register_profile("calm", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "calm")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Compile the kernels side by side before a run of the whole suite, which needs all of them."""
    if len(session.items) > 1000 and not session.config.option.collectonly:
        from tapead.kernels import library
        from tapead.warm import compile_side_by_side

        compile_side_by_side([group for group in library.GROUPS if not library.cached(group)], lambda line: None)


@pytest.fixture(scope="session")
def program() -> list[str]:
    """Give the words that start `tapead`: the installed command, or the same from a bare checkout."""
    script = Path(sys.executable).with_name("tapead")
    if script.exists():
        return [str(script)]
    start = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]; import conftest; "
    return [sys.executable, "-c", start + "from tapead.cli import main; sys.exit(main())"]
