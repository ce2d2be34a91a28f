"""The recipe: what ships, what may replace it, and what is refused."""

from pathlib import Path

import pytest

from cxrbench.errors import SpecError
from cxrbench.pretrain.config import configured, saved


def test_the_released_recipe_is_the_papers() -> None:
    told = configured(None, {}).model_dump()
    wanted = {
        "objective": "dlilp",
        "image": {"trunk": "resnet50", "size": 224, "antialias": False, "floor": "released"},
        "text": {
            "hub": "emilyalsentzer/Bio_ClinicalBERT",
            "initial": "pretrained",
            "max_tokens": 77,
            "padding": "released",
            "template": "A radiology image of {}",
            "unlabelled": "Other finding",
        },
        "head": {"dimension": 512, "temperature": 0.07, "highest_log_scale": 4.6052, "contrastive_weight": 0.1},
        "optimiser": {"learning_rate": 1e-4, "weight_decay": 1e-5, "clip_norm": 1.0},
        "schedule": {"epochs": 30, "warmup_epochs": 1, "cosine_epochs": 100, "patience": 6, "first_best": 100},
        "data": {
            "batch_size": 128,
            "validation": 0.1,
            "split_by": "image",
            "split_seed": 42,
            "train_limit": None,
            "validation_limit": None,
            "validation_draws": "released",
        },
        "augmentation": {
            "flip": 0.5,
            "affine": 0.25,
            "degrees": 5,
            "scale": (0.9, 1.0),
            "jitter": 0.25,
            "brightness": 0.2,
            "contrast": 0.2,
        },
        "engine": {"precision": "auto", "scaler_per_epoch": True},
        "saving": {"every_epochs": 5, "export": "best"},
    }
    for section, values in wanted.items():
        found = told[section]
        assert values == ({name: found[name] for name in values} if isinstance(values, dict) else found), section


def test_a_file_and_then_single_choices_replace_values(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('objective = "unicl"\n[optimiser]\nlearning_rate = 2e-4\nweight_decay = 0.1\n')
    told = configured(path, {"optimiser.learning_rate": "3e-4", "image.weights": "a/b.pth", "seed": "7"})
    assert (told.objective, told.seed, told.image.weights) == ("unicl", 7, Path("a/b.pth"))
    assert (told.optimiser.learning_rate, told.optimiser.weight_decay) == (3e-4, 0.1)
    assert told.data == configured(None, {}).data


def test_a_saved_configuration_reads_back(tmp_path: Path) -> None:
    told = configured(None, {"image.weights": "x.pth", "augmentation.scale": "[0.8, 1.1]", "data.train_limit": "200"})
    path = tmp_path / "config.toml"
    path.write_text(saved(told))
    assert configured(path, {}) == told
    assert configured(path, {}).digest == told.digest


def test_the_digest_follows_what_decides_values_and_nothing_else() -> None:
    base = configured(None, {})
    free = {"saving.every_steps": "9", "engine.devices": "4", "image.weights": "a.pth", "text.folder": "a"}
    assert configured(None, free).digest == base.digest
    assert configured(None, {"text.hub": "another/encoder"}).digest != base.digest
    assert configured(None, {"schedule.epochs": "31"}).digest != base.digest
    assert configured(None, {"schedule.epochs": "31"}).going_on == base.going_on
    assert configured(None, {"seed": "1"}).going_on != base.going_on


@pytest.mark.parametrize(
    ("choice", "value", "says"),
    [
        ("optimizer.learning_rate", "1", "optimizer: Extra inputs"),
        ("optimiser.lr", "1", r"optimiser\.lr: Extra inputs"),
        ("optimiser.learning_rate", "fast", r"optimiser\.learning_rate: .*number"),
        ("objective", "clap", "objective: "),
        ("image.trunk", "hf-hub:x/y", r"image\.trunk"),
        ("text.template", "an image of it", "template needs one"),
        ("schedule.epochs", "101", "epochs not above"),
        ("augmentation.scale", "[1.0, 0.9]", "the smaller first"),
    ],
)
def test_wrong_values_are_named(choice: str, value: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        configured(None, {choice: value})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml: cannot be read"):
        configured(tmp_path / "none.toml", {})
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(SpecError, match="is no TOML"):
        configured(tmp_path / "bad.toml", {})
