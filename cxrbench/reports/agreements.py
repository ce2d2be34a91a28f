"""How far the rule labeller agrees with a table, as text."""

from cxrbench.pretrain.corpus.label_tables import Compared
from cxrbench.pretrain.labeller.agreement import WORDS, Agreement
from cxrbench.specs.paper import MISSING

_FIGURES = ("kappa", "mention", "negation", "uncertainty", "positive")


def agreement_text(found: Compared) -> str:
    """Figures of each finding, then its confusion table; a dash where a figure is not defined."""
    from tabulate import tabulate

    left = f"; {found.left_out} without such a text are left out" if found.left_out else ""
    head = (
        f"{found.rules}\nbeside {found.table}\n{found.reports} reports, read: {found.read}{left}\n\n"
        "Cohen's kappa over present, absent, uncertain and not mentioned; F1 of each, the table as the truth.\n"
    )
    names = ["", *(f"F1 {name}" if name != "kappa" else name for name in _FIGURES)]
    figures = tabulate([_figures(one) for one in found.findings], names, disable_numparse=True, stralign="right")
    counts = tabulate(
        [row for one in found.findings for row in _confusion(one)],
        ["", "table says", *(f"rules: {word}" for word in WORDS)],
        disable_numparse=True,
        stralign="right",
    )
    return f"{head}\n{figures}\n\nReports by what the table says and what the rules say:\n\n{counts}"


def _figures(one: Agreement) -> list[str]:
    values = (one.kappa, one.f1_mention, one.f1(0), one.f1(-1), one.f1(1))
    return [one.finding, *(MISSING if value is None else f"{value:.3f}" for value in values)]


def _confusion(one: Agreement) -> list[list[str]]:
    return [
        [one.finding if row == 0 else "", word, *map(str, one.counts[row].tolist())] for row, word in enumerate(WORDS)
    ]
