"""The generated kernel files are what the table and the templates give today."""

from pathlib import Path

import pytest

from tapead.kernels import codegen


@pytest.mark.parametrize("name", sorted(codegen.files()))
def test_generated_file_is_current(name):
    path = Path(codegen.__file__).with_name(name)
    assert path.read_text() == codegen.files()[name], "run python -m tapead.kernels.codegen"


def test_no_generated_file_is_left_over():
    found = {path.name for path in Path(codegen.__file__).parent.glob("generated_*.py")}
    assert found == set(codegen.files())


def test_a_changed_source_changes_the_digest(tmp_path, monkeypatch):
    before = codegen.stamped(codegen.entry("index"))
    for path in Path(codegen.__file__).parent.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "strided.py").write_text((tmp_path / "strided.py").read_text() + "\n# changed\n")
    monkeypatch.setattr(codegen, "FOLDER", tmp_path)
    assert codegen.stamped(codegen.entry("index")) != before
