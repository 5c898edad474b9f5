"""The notebook runs from top to bottom, and shows what it promises."""

import subprocess
import sys
from pathlib import Path

import pytest

nbclient = pytest.importorskip("nbclient")
nbformat = pytest.importorskip("nbformat")

NOTEBOOK = Path(__file__).resolve().parents[1] / "tapead" / "examples" / "see_the_tape.ipynb"


@pytest.fixture(scope="module")
def cells():
    """Run the notebook; give its cells of code."""
    if subprocess.run(
        [sys.executable, "-c", "import tapead.kernels"], capture_output=True, cwd=NOTEBOOK.parent
    ).returncode:
        pytest.skip("tapead is not installed where a notebook would find it")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    nbclient.NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(NOTEBOOK.parent))
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cells, source):
    """Give the kinds of what the cell shows whose code ends so, and its text."""
    (cell,) = [cell for cell in cells if cell.source.rstrip().endswith(source)]
    kinds, text = set(), ""
    for output in cell.outputs:
        kinds |= set(output.get("data", ()))
        text += output.get("text", "") + output.get("data", {}).get("text/html", "")
    return kinds, text


@pytest.mark.filterwarnings("ignore")
def test_every_cell_shows_what_it_promises(cells):
    for source, word in [
        ("tape", "v6 - v5"),
        ("trace_table(f, 2.0, 5.0)", "11.652"),
        ('trace_table(loss, w, X, sign, wrt=["w"])', "v2ᵀ @"),
        ("tapead.explain(value_and_grad, w, X, sign)", "blocks"),
        ("tapead.profile(value_and_grad, w, X, sign)", "block of"),
    ]:
        kinds, text = shown(cells, source)
        assert "text/html" in kinds
        assert word in text, source
    for source in ("tape.graph()", 'value_and_grad.graph(w, X, sign, colour="time")'):
        assert {"text/html"} <= shown(cells, source)[0]
    assert "told right" in shown(cells, 'told right")')[1]
    assert (
        "the adjoint of norm_root" in shown(cells, "print(error)")[1]
        or "the adjoint of sqrt" in shown(cells, "print(error)")[1]
    )
    assert "text/latex" in shown(cells, "gradient()")[0]


def test_the_notebook_is_kept_without_outputs():
    """Times and pictures of one machine make noise in every change."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
