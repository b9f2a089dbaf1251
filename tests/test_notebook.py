"""The notebook of the documentation runs, and shows what it says."""

from pathlib import Path

import pytest

from kdprobe.results import save_result
from tests.saved_results import cka_result, comparison_result

NOTEBOOK = Path(__file__).parents[1] / "docs" / "howto" / "paper.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Jupyter's own
def test_the_notebook_runs_and_shows_tables_and_pictures(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    save_result(cka_result(3, 3), tmp_path / "cka" / "cka.npz", table="")
    save_result(comparison_result(), tmp_path / "comparison.npz", table="")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[2]))
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [cell.get("outputs", []) for cell in notebook.cells]
    loaded, frames, plotted, compared, together = (outputs for outputs in shown[2:] if outputs)
    assert "<strong>cka</strong>" in loaded[0]["data"]["text/html"]
    assert "<table" in frames[-1]["data"]["text/html"]
    for outputs in (plotted, compared, together):
        assert ["image/png" in output["data"] for output in outputs] == [True]
    assert (tmp_path / "figure1.pdf").read_bytes().startswith(b"%PDF")
