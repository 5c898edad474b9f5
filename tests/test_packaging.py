"""What a wheel and a source archive hold."""

import importlib
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import tapead

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources(folder):
    files = {path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    return {path.relative_to(ROOT / folder).as_posix() for path in files}


VERSION = PROJECT["project"]["version"]


def test_one_version():
    assert tapead.__version__ in (VERSION, "0+unknown")  # the latter where tapead is not installed
    assert f"## [{VERSION}]" in (ROOT / "CHANGELOG.md").read_text()


def test_every_package_is_listed():
    found = {"tapead.kernels"}
    for init in (ROOT / "tapead").rglob("__init__.py"):
        found.add(".".join(init.parent.relative_to(ROOT).parts))
    for init in (ROOT / "kernels").rglob("__init__.py"):
        found.add(".".join(("tapead", *init.parent.relative_to(ROOT).parts)))
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_top_level_holds_what_it_should_only():
    allowed = {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        "CHANGELOG.md",
        "tapead",
        "kernels",
        "tests",
        "benchmarks",
    }
    built = {"build", "dist", "tapead.egg-info", "__pycache__"}
    present = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert allowed - present == set()
    assert present - allowed - built == set()


def test_kernels_is_no_package_of_its_own():
    assert (ROOT / "kernels" / "__init__.py").exists()
    assert "kernels" not in sys.modules
    with pytest.raises(ImportError, match=r"tapead\.kernels"):
        importlib.import_module("kernels")


def setuptools_is_new_enough():
    try:
        return int(importlib.metadata.version("setuptools").partition(".")[0]) >= 77
    except importlib.metadata.PackageNotFoundError:
        return False


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    if not setuptools_is_new_enough():
        pytest.skip("building needs setuptools 77 or newer in this environment")
    copy = tmp_path_factory.mktemp("checkout")  # so that the checkout gets no build folder
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    for name in ("tapead", "kernels"):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    build = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
    done = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (wheel,) = (copy / "dist").glob("*.whl")
    (archive,) = (copy / "dist").glob("*.tar.gz")
    return wheel, archive


def test_wheel(archives):
    with zipfile.ZipFile(archives[0]) as wheel:
        names = set(wheel.namelist())
        entry_points = wheel.read(f"tapead-{VERSION}.dist-info/entry_points.txt").decode()
    metadata = f"tapead-{VERSION}.dist-info/"
    code = {name for name in names if not name.startswith(metadata)}
    assert "tapead/py.typed" in code
    assert code == (
        {f"tapead/{name}" for name in sources("tapead")} | {f"tapead/kernels/{name}" for name in sources("kernels")}
    )
    assert metadata + "licenses/LICENSE" in names
    assert "tapead = tapead.cli:main" in entry_points


def test_source_archive(archives):
    with tarfile.open(archives[1]) as archive:
        names = set(archive.getnames())
    top = f"tapead-{VERSION}"
    for name in ("pyproject.toml", "README.md", "LICENSE", "tapead/py.typed"):
        assert f"{top}/{name}" in names
    for folder in ("tapead", "kernels"):
        assert {f"{top}/{folder}/{name}" for name in sources(folder)} <= names
