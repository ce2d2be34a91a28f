"""Tables 2 to 4 filled with made predictions: always the same, so that their renderings can be golden files."""

from pathlib import Path

from made_predictions import scored_fold, written

from cxrbench.analysis.paper_tables import TableView, table_view, with_intervals
from cxrbench.records.integrity import read_results
from cxrbench.records.record import Record
from cxrbench.specs import catalog
from cxrbench.specs.paper import published_table

MODELS = {"clip_cm": 0.3, "unicl_cm": 1.4, "dlilp_cm": 1.5}


def made_table(out: Path, number: int) -> TableView:
    """The table with three models measured on all its columns but one cell."""
    table = published_table(number)
    protocol = {row.protocol for row in table.rows if row.model in MODELS}
    for model in MODELS:
        for place, column in enumerate(table.columns):
            for how in sorted(protocol):
                if (model, place) != ("unicl_cm", 1):
                    _written(out, model, place, how, column.task, column.group, column.prompts or "ensemble")
    records = [r for r in read_results(out, out).records if r.variant == "paper-code"]
    view = table_view(table, records, "paper-code", synthetic=False)
    return with_intervals(view, table, records, out)


def _written(out: Path, model: str, place: int, how: str, task: str, group: str, prompts: str) -> Record:
    card, noise = catalog.load_card(model), 50 * list(MODELS).index(model)
    folds = [scored_fold(MODELS[model], place, number=k, noise=noise + k, images=30) for k in range(2)]
    protocol = {
        "protocol": how,
        "tap": "pooled",
        "part": "test",
        "scores": "probabilities" if how == "linear-probe" else "logits",
        "shots": 16 if how == "linear-probe" else None,
    }
    worded = {"set": prompts, "digest": catalog.load_prompts(prompts).digest, "source": "prompts"}
    identity = {"model__pretraining": "+".join(card.pretraining)}
    told = {"data__task": task, "data__group": group, "protocol": protocol, **identity}
    return written(out, model, folds, prompts=worded if how == "zero-shot" else None, **told)
