"""The multi-label table as text, with the published numbers that stand in no column where they are asked for."""

import json
from dataclasses import astuple, fields

from cxrbench.analysis.multilabel import Elsewhere, MultiLabel
from cxrbench.reports.comparisons import grid, plain
from cxrbench.reports.tables import Format, as_json
from cxrbench.reports.tables import render as render_table

_HEAD = tuple(field.name.replace("_", " ") for field in fields(Elsewhere))


def render(told: MultiLabel, form: Format, *, everything: bool = False) -> str:
    """The table in a format; JSON has what stands in no column too, terminal and Markdown where `everything` is asked.

    CSV and LaTeX are the table alone.
    """
    if form == "json":
        body = json.loads(as_json(told.view)) | {"elsewhere": [plain(one) for one in told.elsewhere]}
        return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
    text = render_table(told.view, form)
    if not everything or form not in ("terminal", "markdown"):
        count = len(told.elsewhere)
        note = f"note: {count} published numbers stand in no column; --all lists them with the reason\n"
        return text + (note if form == "terminal" and not everything else "")
    rows = [["" if value is None else str(value) for value in astuple(one)] for one in told.elsewhere]
    return f"{text}\n{grid(rows, _HEAD, 'markdown' if form == 'markdown' else 'terminal')}\n"
