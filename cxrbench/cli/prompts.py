"""`cxrbench prompts`: how much of a zero-shot number is wording."""

from cxrbench.cli.cells import Cells, about_cells


@about_cells("model", "task", "group", protocol="zero-shot", group=None)
def prompts(cells: Cells) -> None:
    """Show how zero-shot numbers spread over prompts.

    Over prompt sets and over single prompts; `cxrbench run --prompts all` measures more of them.
    """
    from cxrbench.report.sheets import prompt_sheets
    from cxrbench.verdict.prompt_spread import prompt_spreads

    found = prompt_spreads(cells.out, cells.measured.records)
    cells.show(tuple(found), lambda: prompt_sheets(found, synthetic=cells.synthetic))
