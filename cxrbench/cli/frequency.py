"""`cxrbench table frequency`: zero-shot accuracy of classes beside how often pre-training saw them."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.cells import Cells, about_cells
from cxrbench.cli.options import pairs


@about_cells("model", "task", "group", "prompts", protocol="zero-shot")
def frequency(
    cells: Cells,
    corpus: Annotated[Path, typer.Argument(help="Finding frequencies of the pre-training corpus (JSON).")],
    same: Annotated[
        list[str] | None,
        typer.Option("--same", metavar="CLASS=FINDING", help="A class under the corpus's name for it; repeatable."),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Also draw it: SVG, PNG or PDF.")] = None,
) -> None:
    """Show recall beside how often pre-training saw a class.

    Zero-shot recall and share of the pre-training images of each class, with their rank correlation. CORPUS is the
    file `frequencies.json` in the folder of a `cxrbench pretrain run`.
    """
    from cxrbench.analysis.frequency import frequency as beside
    from cxrbench.pretrain.frequencies import read
    from cxrbench.reports.diagram import checked_path
    from cxrbench.reports.figures import write_frequency
    from cxrbench.reports.sheets import frequency_sheet

    if figure is not None:
        checked_path(figure)
    shares = {name: found.share for name, found in read(corpus).all.of_images.items()}
    views = tuple(beside(record, shares, pairs(same, "--same")) for record in cells.measured.records)
    if figure is not None:
        write_frequency(views, figure, synthetic=cells.synthetic)
    cells.show(views, lambda: [frequency_sheet(view, synthetic=cells.synthetic) for view in views])
