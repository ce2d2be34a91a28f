"""`cxrbench prompts`: how much of a zero-shot number is wording."""

from cxrbench.cli.cell_choice import CellChoice, about_cells
from cxrbench.cli.options import TheseDraws


@about_cells("model", "task", "group", protocol="zero-shot", group=None)
def prompts(cells: CellChoice, these_draws: TheseDraws = False) -> None:
    """Show how zero-shot numbers spread over prompts.

    Over prompt sets and over single prompts; `cxrbench run` with --prompts all measures more of them.
    """
    from cxrbench.analysis.prompts import prompt_spreads
    from cxrbench.reports.sheets import prompt_sheets

    found = prompt_spreads(cells.out, cells.measured.records, these_draws=these_draws)
    cells.show(tuple(found), lambda: prompt_sheets(found, synthetic=cells.synthetic))
