"""What a cell's page says of its AUROC, and a board of what its means take as independent."""

from pathlib import Path

from made_board import write_board
from typer.testing import CliRunner

from cxrbench.cli.main import app
from cxrbench.evaluate.statistics.interval import area_interval
from cxrbench.html.show import ends
from cxrbench.verdict.predictions import read_cell


def test_an_auroc_stands_with_its_interval_and_a_mean_with_what_it_assumes(tmp_path: Path) -> None:
    records = write_board(
        tmp_path, ("clip_cm", "unicl_cm", "gloria"), ("rsna", "siim"), shots=(16,), prompts=("names",)
    )
    page = tmp_path / "report.html"
    done = CliRunner().invoke(
        app, ["report", "--out", str(tmp_path), "--to", str(page), "--resamples", "200", "--workers", "1"]
    )
    assert done.exit_code == 0, done.output
    text = page.read_text()
    for record in records[:3]:
        cell = read_cell(tmp_path, record)
        assert f"({ends(area_interval(cell.folds, cell.over))}: its error rests on" in text
    assert "siim and rsna hold images of one collection (nih); no id says which images" in text
