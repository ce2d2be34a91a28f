"""Text encoders other than a BERT that lower-cases: trained, exported, and read back as they were."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_lessons import NAMES, made_text_encoder, small_choices
from made_training import made_loop

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import load_adapter
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.export import Trained, export
from cxrbench.pretrain.network import Network, Tokens, find_text_encoder
from cxrbench.specs.card import read_card

ROWS = 32
WORDS = ["There", "is", "in", "the", "lung", "Lung", ".", "A", "radiology", "image", "of", "Other", "finding", *NAMES]


def tokenizer_json(folder: Path) -> None:
    """Whole words, capitals kept, in the one file that every fast tokenizer of transformers can be read from."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = list(dict.fromkeys(["<pad>", "<unk>", *(word for text in WORDS for word in text.split())]))
    made = Tokenizer(models.WordLevel({name: n for n, name in enumerate(names)}, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))


def roberta(folder: Path) -> Path:
    folder.mkdir(parents=True)
    tokenizer_json(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
    told = {"model_type": "roberta", "vocab_size": 40, "max_position_embeddings": 80, "pad_token_id": 0, **sizes}
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def distilbert(folder: Path) -> Path:
    made_text_encoder(folder)
    words = len((folder / "vocab.txt").read_text().splitlines())
    sizes = {"dim": 20, "n_layers": 3, "n_heads": 5, "hidden_dim": 30, "max_position_embeddings": 80}
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert", "vocab_size": words, **sizes}))
    return folder


FILES = {
    "roberta": '["config.json", "tokenizer.json", "tokenizer_config.json"]',
    "distilbert": '["config.json", "vocab.txt"]',
}


@pytest.mark.parametrize(("make", "keeps_capitals"), [(roberta, True), (distilbert, False)])
def test_another_encoder_comes_back_as_it_was(
    make: Callable[[Path], Path], keeps_capitals: bool, tmp_path: Path
) -> None:
    kind = make.__name__
    folder = make(tmp_path / kind)
    choices = {"text.folder": str(folder), "text.files": FILES[kind], "schedule.epochs": "1", "objective": "clip"}
    config = build_config(None, small_choices(tmp_path / "text") | choices)
    run = made_loop(tmp_path / "run", config, ROWS)
    run.run()
    files, width = run.material.files, run.engine.network.vision_model.width
    export(Trained(config, run.head, run.material.corpus, files, width, True), tmp_path / "run")
    for path in folder.iterdir():
        path.unlink()  # the run's own folder is all that the model needs
    found = load_adapter(read_card(tmp_path / "run/card.toml"))
    texts = ["There is edema in the lung.", "A radiology image of Lung"]
    batch = found._text.tokens(texts)  # type: ignore[attr-defined]
    network = run.engine.network.eval()
    with torch.no_grad():
        wanted = network.text_model(Tokens(batch["input_ids"], batch["attention_mask"]))
    torch.testing.assert_close(found.encode_text(texts).joint, wanted, rtol=1e-4, atol=1e-5)
    both = found.encode_text(["Lung", "lung"]).joint
    assert torch.equal(both[0], both[1]) != keeps_capitals


@pytest.mark.parametrize("capitals", [True, False])
def test_sentences_keep_capitals_where_the_tokenizer_does(capitals: bool, tmp_path: Path) -> None:
    from cxrbench.pretrain.batches import BatchPlace, Feed

    folder = roberta(tmp_path / "cased") if capitals else made_text_encoder(tmp_path / "plain")
    files = FILES["roberta"] if capitals else FILES["distilbert"]
    config = build_config(None, small_choices(tmp_path / "text") | {"text.folder": str(folder), "text.files": files})
    run = made_loop(tmp_path / "run", config, ROWS)
    feed = Feed(run.material.corpus, run.material.pixels, config, BatchPlace(), find_text_encoder(config))
    reports = [row for row, told in enumerate(run.material.corpus.sentences) if told]
    told = [one.text for one in feed._told(run.parts.train[[r in reports for r in run.parts.train]], 0)]
    assert told and all(text.startswith("There is" if capitals else "there is") or "omparison" in text for text in told)


@pytest.mark.parametrize(
    ("told", "kind", "says"),
    [
        ({"model_type": "t5"}, SpecError, "an encoder with a decoder"),
        ({"model_type": "nobody"}, SpecError, "no model_type 'nobody'"),
        ({"model_type": "bert", "num_hidden_layers": 1}, SpecError, "at least 2 layers"),
        ({"model_type": "vit"}, SpecError, "no text encoder"),
        ({"model_type": "bert", "max_position_embeddings": 10}, SpecError, "has 10 positions"),
    ],
)
def test_what_is_no_text_encoder_is_refused(
    told: dict[str, object], kind: type[Exception], says: str, tmp_path: Path
) -> None:
    folder = made_text_encoder(tmp_path / "text")
    before = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**before, **told}))
    config = build_config(None, small_choices(folder))
    with pytest.raises(kind, match=says):
        Network(config, 5, find_text_encoder(config))


def test_a_tokenizer_of_more_tokens_than_embeddings_is_refused(tmp_path: Path) -> None:
    folder = made_text_encoder(tmp_path / "text")
    before = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**before, "vocab_size": 20}))
    with pytest.raises(IntegrityError, match="embeddings for 20"):
        made_loop(tmp_path / "run", build_config(None, small_choices(folder)), ROWS)


def test_files_that_the_recipe_names_must_be_there(tmp_path: Path) -> None:
    choices = small_choices(made_text_encoder(tmp_path / "text")) | {"text.files": '["config.json", "merges.txt"]'}
    with pytest.raises(DataError, match=r"merges\.txt is missing"):
        find_text_encoder(build_config(None, choices))
