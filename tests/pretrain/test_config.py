"""The recipe: what ships, what may replace it, and what is refused."""

from pathlib import Path

import pytest

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.pretrain.config import build_config, config_toml


def test_the_released_recipe_is_the_papers() -> None:
    told = build_config(None, {}).model_dump()
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
            "reads": "sentence",
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
    told = build_config(path, {"optimiser.learning_rate": "3e-4", "image.weights": "a/b.pth", "seed": "7"})
    assert (told.objective, told.seed, told.image.weights) == ("unicl", 7, Path("a/b.pth"))
    assert (told.optimiser.learning_rate, told.optimiser.weight_decay) == (3e-4, 0.1)
    assert told.data == build_config(None, {}).data


def test_a_saved_configuration_reads_back(tmp_path: Path) -> None:
    told = build_config(None, {"image.weights": "x.pth", "augmentation.scale": "[0.8, 1.1]", "data.train_limit": "200"})
    path = tmp_path / "config.toml"
    path.write_text(config_toml(told))
    assert build_config(path, {}) == told
    assert build_config(path, {}).digest == told.digest


def test_the_digest_follows_what_decides_values_and_nothing_else() -> None:
    base = build_config(None, {})
    free = {"saving.every_steps": "9", "engine.devices": "4", "image.weights": "a.pth", "text.folder": "a"}
    assert build_config(None, free).digest == base.digest
    assert build_config(None, {"text.hub": "another/encoder"}).digest != base.digest
    assert build_config(None, {"schedule.epochs": "31"}).digest != base.digest
    assert build_config(None, {"schedule.epochs": "31"}).going_on == base.going_on
    assert build_config(None, {"seed": "1"}).going_on != base.going_on


# What a run may change on its way: where and how fast it runs, what it writes, where files lie whose bytes its identity
# holds, the batch of one process (that of all is in the identity), and how long it trains.
FREE_ON_THE_WAY = {
    *(f"engine.{name}" for name in ("accelerator", "devices", "nodes", "precision")),
    *(f"saving.{name}" for name in ("every_epochs", "every_steps", "log_every", "export")),
    *(f"tracking.{name}" for name in ("tensorboard", "wandb")),
    "image.weights",
    "text.folder",
    "data.batch_size",
    "schedule.epochs",
    "schedule.patience",
}
OTHER = {
    "objective": "clip",
    "image.trunk": "resnet18",
    "image.weights": "a.pth",
    "image.floor": "exact",
    "text.hub": "another/encoder",
    "text.revision": "0" * 40,
    "text.folder": "a",
    "text.files": '["config.json"]',
    "text.initial": "random",
    "text.padding": "masked",
    "text.template": "An image of {}",
    "text.unlabelled": "Nothing",
    "text.reads": "report",
    "triage.positive": "0.99",
    "triage.factor": "plain",
    "schedule.warmup_epochs": "2.0",
    "data.split_by": "patient",
    "data.train_limit": "9",
    "data.validation_limit": "9",
    "data.validation_draws": "fixed",
    "augmentation.scale": "[0.8, 1.0]",
    "engine.accelerator": "cpu",
    "engine.precision": "32-true",
    "saving.export": "last",
    "tracking.wandb": "mine",
}


def fields() -> list[str]:
    """Every value of the recipe by its name."""
    told = build_config(None, {}).model_dump()
    leaves = [(name, value) for name, value in told.items() if not isinstance(value, dict)]
    leaves += [
        (f"{section}.{name}", 0) for section, values in told.items() if isinstance(values, dict) for name in values
    ]
    return [name for name, _ in leaves]


def another(name: str) -> str:
    """Another value of a field than the released one, as `--set` takes it."""
    if name in OTHER:
        return OTHER[name]
    section, _, key = name.rpartition(".")
    told = build_config(None, {}).model_dump()
    value = (told[section] if section else told)[key]
    if isinstance(value, bool):
        return str(not value).lower()
    return str(value + 1 if isinstance(value, int) else value / 2)


@pytest.mark.parametrize("name", fields())
def test_a_run_goes_on_under_another_value_exactly_where_that_decides_nothing(name: str) -> None:
    base, other = build_config(None, {}), build_config(None, {name: another(name)})
    assert other != base, "the test must try another value"
    assert (other.going_on == base.going_on) == (name in FREE_ON_THE_WAY)


def test_a_file_that_sets_nothing_or_that_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    told = config_toml(build_config(None, {"seed": "7"}))
    for nothing in ("", told[:20]):
        path.write_text(nothing)
        with pytest.raises(SpecError, match=r"config\.toml: sets nothing"):
            build_config(path, {})
    path.write_text(told.replace("seed = 7", "seed = 8"))
    with pytest.raises(IntegrityError, match=r"config\.toml: .*if you edited it, remove that line"):
        build_config(path, {})
    path.write_text(told.replace("seed = 7", "seed = 8").partition("\n")[2])
    assert build_config(path, {}).seed == 8
    path.write_text(told.replace("\n", "\r\n"))
    assert build_config(path, {}).seed == 7
    path.write_text("a = " + "[" * 100_000)
    with pytest.raises(SpecError, match=r"config\.toml: is no TOML"):
        build_config(path, {})


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
        build_config(None, {choice: value})


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"none\.toml: cannot be read"):
        build_config(tmp_path / "none.toml", {})
    (tmp_path / "bad.toml").write_text("a = ")
    with pytest.raises(SpecError, match="is no TOML"):
        build_config(tmp_path / "bad.toml", {})
