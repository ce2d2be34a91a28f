import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from cxrbench.errors import DataError, SpecError
from cxrbench.models.base import adapter_class
from cxrbench.models.dlilp_layout import Vocabulary
from cxrbench.specs import paths
from cxrbench.specs.card import Weights, card_files, read_card
from cxrbench.specs.recipe import Canvas
from cxrbench.store.schema import read_toml

ZOO = {path.stem: read_card(path) for path in card_files(paths.folder("model_zoo"))}
PAPER = (
    "clip_cm",
    "dlilp_cm",
    "dlilp_cmp",
    "dlilp_m",
    "unicl_cm",
    "unimodal_c",
    "unimodal_cm",
    "unimodal_cmp",
    "unimodal_m",
)


@pytest.mark.parametrize("name", ZOO)
def test_every_card_is_read_and_its_adapter_takes_its_options(name: str) -> None:
    card = ZOO[name]
    assert card.name == name
    if card.adapter.startswith("cxrbench.models.hf:") and "config" not in card.options:
        with pytest.raises(DataError, match=r"hf download .* config\.json"):  # its configuration is the published file
            adapter_class(card).options_digest(card)
        return
    assert len(adapter_class(card).options_digest(card)) == 64


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_own_models_see_the_papers_own_pixels(name: str) -> None:
    card = ZOO[name]
    assert card.recipe("reality-check") == card.recipe("authors") == Canvas()
    assert card.weights.files[0].lower().removesuffix(".pth") == name
    assert card.taps["pooled"] == 2048


def test_the_cards_hold_the_rows_of_tables_2_to_4() -> None:
    rows = {
        table: sorted(card.published[table] for name, card in ZOO.items() if name in PAPER and table in card.published)
        for table in ("table2", "table3", "table4")
    }
    assert rows["table2"] == rows["table3"] == ["CLIP loss", "DLILP", "UniCL loss", "Unimodal"]
    assert rows["table4"] == [
        *("DLILP (M)", "DLILP (M+C)", "DLILP (M+C+P)"),
        *("Unimodal (C)", "Unimodal (M)", "Unimodal (M+C)", "Unimodal (M+C+P)"),
    ]


@pytest.mark.parametrize(
    ("name", "group", "head", "tap", "classes"),
    [
        ("clip_cm", "all", "released", "joint", "prompts"),
        ("unicl_cm", "new", "released", "joint", "prompts"),
        ("unimodal_cm", "base", "released", "joint", "prototypes"),
        ("unimodal_cm", "new", "released", "joint", "prototypes"),
        ("unimodal_cm", "all", "text", "joint", "prototypes"),
        ("dlilp_cm", "all", "released", "label", "prototypes"),
        ("dlilp_cm", "base", "released", "label", "prototypes"),
        ("dlilp_cm", "new", "released", "joint", "prompts"),
        ("dlilp_cm", "base", "text", "joint", "prompts"),
    ],
)
def test_views(name: str, group: str, head: str, tap: str, classes: str) -> None:
    view = ZOO[name].view(group, head)  # type: ignore[arg-type]
    assert (view.tap, view.classes) == (tap, classes)


@pytest.mark.parametrize(
    ("name", "features", "shots", "group", "tap"),
    [
        ("clip_cm", "released", 16, "all", "pooled"),
        ("unimodal_cm", "released", 16, "all", "pooled"),
        ("unicl_cm", "released", 16, "all", "joint"),
        ("unicl_cm", "released", 8, "all", "pooled"),
        ("dlilp_cm", "released", 16, "base", "label"),
        ("dlilp_cm", "released", 16, "new", "joint"),
        ("dlilp_cm", "released", 1, "all", "pooled"),
        ("dlilp_cmp", "released", 16, "all", "pooled"),
        ("dlilp_cm", "raw", 16, "all", "pooled"),
        ("unimodal_m", "projected", 1, "all", "joint"),
    ],
)
def test_probed_taps(name: str, features: str, shots: int, group: str, tap: str) -> None:
    assert ZOO[name].probe_tap(features, shots, group) == tap  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('tap = "label"', 'tap = "lable"', "view 'label' uses tap 'lable'"),
        ('default = "label"', 'default = "lable"', "no view 'lable'"),
        ("pooled = 2048", "pooled_ = 2048", "taps need `pooled`"),
        ("revision =", "revison =", "revison"),
        ('revision = "d5892b39a4adaed74b92212a44081509db72f87b"\n', "", "pin a revision"),
        ("[recipes.reality-check]", "[recipes.mine]", "recipes"),
        ('name = "dlilp_cm"', 'name = "DLILP CM"', "'DLILP CM' is no model's name: it has small letters, digits"),
        ("cxrbench.models.dlilp:DLILP", "cxrbench.models.dlilp", "adapter"),
        ('pretraining = ["C", "M"]', 'pretraining = ["CheXpert", "M"]', "write .C. for .CheXpert."),
    ],
)
def test_a_malformed_card_is_refused_by_key(old: str, new: str, says: str, tmp_path: Path) -> None:
    text = (paths.folder("model_zoo") / "dlilp_cm.toml").read_text(encoding="utf-8")
    assert old in text
    (tmp_path / "card.toml").write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(SpecError, match=says):
        read_card(tmp_path / "card.toml")


@pytest.mark.parametrize(("line", "told"), [("", ("not told",)), ("pretraining = []\n", ())])
def test_a_card_that_leaves_out_pretraining_does_not_say_that_there_was_none(
    line: str, told: tuple[str, ...], tmp_path: Path
) -> None:
    text = (paths.folder("model_zoo") / "dlilp_cm.toml").read_text(encoding="utf-8")
    (tmp_path / "card.toml").write_text(re.sub("(?m)^pretraining.*\\n", line, text), encoding="utf-8")
    assert read_card(tmp_path / "card.toml").pretraining == told


def test_every_card_of_the_zoo_says_what_it_was_trained_on() -> None:
    assert not [card.name for card in ZOO.values() if "not told" in card.pretraining]


def test_a_card_knows_its_folder(tmp_path: Path) -> None:
    source = paths.folder("model_zoo") / "dlilp_cm.toml"
    (tmp_path / "mine.toml").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    mine = read_card(tmp_path / "mine.toml")
    assert mine.home == tmp_path.resolve()


def test_a_recipe_that_the_card_does_not_have() -> None:
    card = ZOO["clip_cm"]
    with pytest.raises(SpecError, match="no recipe 'authors'; its card names reality-check"):
        card.model_copy(update={"recipes": {"reality-check": Canvas()}}).recipe("authors")


def test_reading_cards_needs_no_torch() -> None:
    code = (
        "import sys, cxrbench.specs.card; sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'transformers')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_vocabulary_is_whole() -> None:
    words = read_toml(paths.folder("model_zoo") / "dlilp_vocabulary.toml", Vocabulary)
    assert len(words.categories) == len(set(words.categories)) == 85
    assert all(category in words.categories for stands_for in words.aliases.values() for category in stands_for)


def test_only_counters_of_batch_norms_may_be_absent() -> None:
    weights = {"files": ["a.pth"], "where": "nowhere"}
    assert Weights.model_validate({**weights, "absent": {"*.num_batches_tracked": "old"}}).absent
    with pytest.raises(ValidationError, match=r"num_batches_tracked"):
        Weights.model_validate({**weights, "absent": {"fc.weight": "why not"}})
