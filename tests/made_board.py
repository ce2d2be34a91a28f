"""A results folder of many models, tasks and settings, for everything that shows more than one cell."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, pstdev

from made_predictions import scored_fold, written

from cxrbench.records.record import Record
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard

METRICS = ("balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "kappa")


def write_board(
    out: Path,
    models: Sequence[str],
    tasks: Sequence[str],
    *,
    shots: Sequence[int] = (1, 4, 16),
    prompts: Sequence[str] = ("names", "description"),
    images: int = 20,
    folds: int = 1,
    best: float = 1.0,
    group: str = "all",
    **changes: object,
) -> list[Record]:
    """Records of every model on every task, probed with each number of shots and asked in each prompt set.

    The first models are better, the first of the skill `best` for the fewest shots, and more shots help; all models see
    the same of an image. `changes` by dotted name.
    """
    found = []
    for place, name in enumerate(models):
        for task in tasks:
            known = {**_identity(name, task, group), **changes}
            for k in shots:
                how = {"protocol__shots": k, "protocol__C": 0.316, "protocol__class_weight": "balanced"}
                skill = best + 0.35 * shots.index(k) - 0.04 * place
                found.append(_written(out, task, skill, (images, folds), {**known, **how}))
            for number, wording in enumerate(prompts):
                told = {"set": wording, "digest": catalog.load_prompts(wording).digest, "source": "prompts"}
                how = {"protocol__protocol": "zero-shot", "protocol__shots": None, "protocol__logit_scale": 1.0}
                single = {"single_prompts": [0.4 + 0.01 * ((place + 3 * n) % 11) for n in range(6)]} if number else {}
                skill = 0.8 * best + 0.2 * number - 0.03 * place
                found.append(_written(out, task, skill, (images, folds), {**known, **how, **single, "prompts": told}))
    return found


def _identity(model: str, task: str, group: str) -> dict[str, object]:
    spec, variant = catalog.load_task(task), catalog.load_variant("paper-code")
    card = catalog.load_card(model) if model in catalog.card_files() else None
    labels = spec.groups[group]
    return {
        "model__name": model,
        **({} if card is None else _of_card(card)),
        "data__task": task,
        "data__split": variant.splits[task],
        "data__group": group,
        "data__labels": labels,
        "data__rows_per_label": {"test": dict.fromkeys(labels, 1)},
    }


def _of_card(card: ModelCard) -> dict[str, object]:
    return {
        "model__title": card.title,
        "model__pretraining": "+".join(card.pretraining),
        "model__weights_file": card.weights.files[0] if card.weights.files else "none",
    }


def _written(out: Path, task: str, skill: float, size: tuple[int, int], changes: dict[str, object]) -> Record:
    images, folds = size
    name, labels = str(changes["model__name"]), changes["data__labels"]
    changes = {key: value for key, value in changes.items() if key != "model__name"}
    assert isinstance(labels, tuple)
    made = [
        scored_fold(skill, 10 + fold, number=fold, images=images, classes=len(labels), noise=sum(name.encode()))
        for fold in range(folds)
    ]
    from dataclasses import asdict

    from cxrbench.evaluate.metrics import fold_metrics

    told = [asdict(fold_metrics(fold.scores, fold.labels)) for fold in made]
    summary = {metric: _spread([float(m[metric]) for m in told]) for metric in METRICS}
    return written(out, name, made, **{**changes, "summary": summary})


def _spread(values: list[float]) -> dict[str, float | int]:
    return {"mean": fmean(values), "std": pstdev(values), "folds": len(values)}
