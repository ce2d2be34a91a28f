"""Records made by hand, for tests of everything that reads records."""

from collections.abc import Mapping
from typing import Any

from cxrbench.errors import SpecError
from cxrbench.records.record import Record
from cxrbench.specs import catalog
from cxrbench.specs.card_facts import applied, card_digest
from cxrbench.specs.recipe import Canvas
from cxrbench.specs.settings import checked_settings


def made_record(**changes: Any) -> Record:
    """A record of clip_cm, linear probe, K = 16 on rsna with two folds of 0.9 and 0.91; `changes` by dotted name."""
    variant = catalog.load_variant(changes.pop("variant", "paper-code"))
    fold = {"test_rows": 100, "test_digest": "d" * 64}
    body: dict[str, Any] = {
        "id": "0123456789abcdef",
        "variant": variant.name,
        "variant_version": variant.version,
        "variant_digest": variant.digest,
        "splits": dict(variant.splits),
        "settings": variant.settings.model_dump(mode="json"),
        "model": {
            "name": "clip_cm",
            "title": "CLIP",
            "adapter": "cxrbench.models.dlilp:DLILP",
            "code": "9" * 64,
            "weights_file": "clip_CM.pth",
            "weights_sha256": "a" * 64,
            "weights_tensors": "a" * 64,
            "card_digest": "",
            "text_encoder": None,
            "text_encoder_digest": None,
            "pretraining": "C+M",
            "synthetic": False,
        },
        "data": {
            "task": "rsna",
            "split": variant.splits["rsna"],
            "partition_digest": "e" * 64,
            "contents_digest": "b" * 64,
            "reference": "match",
            "group": "all",
            "labels": ["Normal", "Pneumonia"],
            "rows_per_label": {"test": {"Normal": 50, "Pneumonia": 50}},
            "missing": 0,
            "left_out": {},
            "synthetic": False,
        },
        "preprocessing": {"name": "reality-check", "digest": Canvas().digest, "recipe": Canvas().model_dump()},
        "protocol": {
            "protocol": "linear-probe",
            "tap": "pooled",
            "part": "test",
            "scores": "probabilities",
            "shots": 16,
        },
        "folds": [
            {"fold": number, "metrics": {"balanced_accuracy": value}, **fold}
            for number, value in enumerate((0.9, 0.91))
        ],
        "summary": {"balanced_accuracy": {"mean": 0.905, "std": 0.005, "folds": 2}},
        "predictions": "0123456789abcdef.parquet",
        "predictions_sha256": "f" * 64,
        "code": {"version": "0.1.0", "sources": "0" * 16},
        "runtime": {
            "started": "2026-01-01T00:00:00+00:00",
            "run_seconds": 1.0,
            "engines": [],
            "reader": "fast",
            "device": "cpu",
            "precision": "float32",
            "batch_size": 32,
            "run_images_decoded": 0,
            "run_images_encoded": 0,
            "versions": {},
        },
    }
    for name, value in changes.items():
        place = body
        *path, last = name.split("__")
        for part in path:
            place = place[part]
        place[last] = value
    body["model"]["card_digest"] = body["model"]["card_digest"] or _card_digest(body)
    return Record.model_validate(body)


def _card_digest(body: Mapping[str, Any]) -> str:
    """Of the known card of that name, as a run of it would have it."""
    if body["model"]["name"] not in catalog.card_files():
        return "0" * 64
    card, how = catalog.load_card(body["model"]["name"]), body["protocol"]
    settings, name = checked_settings(body["settings"]), body["preprocessing"]["name"]
    recipe = applied(card.recipe(name), settings, "stored")
    try:
        return card_digest(
            card, settings, body["data"]["group"], how.get("shots"), recipe, worded=bool(body.get("prompts"))
        )
    except SpecError:  # a zero-shot cell of a model that has no such side
        return "0" * 64
