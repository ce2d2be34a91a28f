"""The four encoders of the demonstration, trained by `cxrbench.pretrain` as any other, on synthetic radiographs."""

import json
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from cxrbench.data import tables
from cxrbench.phantom.write import write_corpus
from cxrbench.pretrain.config import Config, Objective, configured, saved
from cxrbench.pretrain.corpus.build import CorpusRequest
from cxrbench.pretrain.corpus.overlap import EvaluationSet
from cxrbench.pretrain.corpus.sentences import TABLE
from cxrbench.pretrain.corpus.variants import SourceName, corpus_variant, label_spaces
from cxrbench.pretrain.export import CARD
from cxrbench.pretrain.job import CONFIG, Job, pretrain
from cxrbench.specs import catalog
from cxrbench.store.atomic import write_atomically
from cxrbench.system import cpu
from cxrbench.system.progress import Progress

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SIZES = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}  # training is short
POSITIONS = 64
_WORD = re.compile(r"[a-z]+|[0-9]|[^\w\s]")


def vocabulary(texts: Iterable[str]) -> tuple[str, ...]:
    """The words of the texts in lower case, and letters and digits, of which every other word can be spelled."""
    words = {word for text in texts for word in _WORD.findall(text.lower())}
    letters = string.ascii_lowercase + string.digits
    pieces = [*letters, *(f"##{letter}" for letter in letters)]
    return (*SPECIAL, *sorted(words - set(pieces)), *pieces)


def write_text_encoder(texts: Iterable[str], folder: Path) -> Path:
    """Write a folder that `text.folder` of a pre-training may name; its weights start at random. Returns the folder."""
    words = vocabulary(texts)
    config = {"model_type": "bert", "vocab_size": len(words), "max_position_embeddings": POSITIONS, **SIZES, **DROPOUT}
    tokenizer = {"tokenizer_class": "BertTokenizer", "do_lower_case": True}
    write_atomically(folder / "vocab.txt", "".join(f"{word}\n" for word in words).encode())
    write_atomically(folder / "config.json", json.dumps(config).encode())
    write_atomically(folder / "tokenizer_config.json", json.dumps(tokenizer).encode())
    return folder


Say = Callable[[str], None]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
VARIANT = "as-meant"
IMAGES: Mapping[SourceName, Mapping[str, int]] = {  # `pool`: of each finding alone; `other`: several, or none
    "CHEXPERT": {"pool": 50, "other": 240},
    "MIMIC": {"pool": 40, "other": 150},
    "PADCHEST": {"pool": 40, "other": 120, "odd": 6},
}
EPOCHS: Mapping[Objective, int] = {"clip": 12, "unicl": 12, "unimodal": 6, "dlilp": 6}  # texts take longer than labels


@dataclass(frozen=True, slots=True)
class Folders:
    """Where things lie below the folder of the demonstration."""

    root: Path

    @property
    def evaluation(self) -> Path:
        """The data sets that the encoders are measured on."""
        return self.root / "data"

    @property
    def corpora(self) -> Path:
        """The data sets that they learn from."""
        return self.root / "pretraining"

    @property
    def text(self) -> Path:
        """Tokenizer and configuration of the text encoder."""
        return self.root / "text"

    @property
    def cache(self) -> Path:
        """Decoded images and embeddings."""
        return self.root / "cache"

    @property
    def results(self) -> Path:
        """Records and tables."""
        return self.root / "results"

    @property
    def report(self) -> Path:
        """Everything measured, as one HTML file."""
        return self.root / "report.html"

    def run(self, objective: Objective) -> Path:
        """The folder of one pre-training; its name is the model's."""
        return self.root / "runs" / f"demo_{objective}"


def encoders(folders: Folders, progress: Progress, say: Say) -> dict[Objective, Path]:
    """The folder of each objective's run, trained now unless it is whole; a killed one is gone on with.

    All phantoms must be there: the patients of the evaluation sets are looked for in the corpora.
    """
    corpus = corpora(folders)
    return {objective: _trained(objective, corpus, folders, progress, say) for objective in OBJECTIVES}


def corpora(folders: Folders) -> CorpusRequest:
    """The pre-training sets, drawn unless they are there, and a text encoder that knows their words."""
    roots: dict[SourceName, Path] = {
        source: write_corpus(source, folders.corpora, images_per_class=images).root for source, images in IMAGES.items()
    }
    write_text_encoder(words_read(roots["MIMIC"]), folders.text)
    variant = catalog.load_variant("phantom")
    held = [
        EvaluationSet(catalog.load_task(task), (split,), folders.evaluation) for task, split in variant.splits.items()
    ]
    return CorpusRequest(roots, corpus_variant(VARIANT), held, cache=folders.cache)


def recipe(objective: Objective, folders: Folders) -> Config:
    """The configuration of one run: recipe.toml over the released recipe."""
    epochs = str(EPOCHS[objective])
    choices = {"schedule.epochs": epochs, "schedule.cosine_epochs": epochs, "text.folder": str(folders.text)}
    return configured(Path(__file__).with_name("recipe.toml"), {"objective": objective, **choices})


def _trained(objective: Objective, corpus: CorpusRequest, folders: Folders, progress: Progress, say: Say) -> Path:
    out, config = folders.run(objective), recipe(objective, folders)
    if (out / CARD).is_file() and (out / CONFIG).read_text(encoding="utf-8") == saved(config):
        say(f"{objective}: trained already, {out / CARD}")
        return out
    pretrain(Job(config, corpus, out, folders.cache, cpu.cores(), resume=True), progress, say)
    return out


def words_read(mimic: Path) -> list[str]:
    """Every report sentence and category name that training may read, and every word of the prompts.

    So a word that training never reads is a token of its own, as in the vocabulary of a language, not a row of letters.
    """
    table = tables.named(mimic, TABLE)
    assert table is not None, f"{mimic}: drawn without {TABLE}"
    classes, _ = label_spaces(corpus_variant(VARIANT))
    told = configured(None, {}).text
    return [
        *tables.read_table(table, ("sentences",))["sentences"].tolist(),
        *(told.template.format(name) for name in (*classes, told.unlabelled)),
        *(phrase for name in catalog.prompt_files() for phrase in catalog.load_prompts(name).phrases),
    ]
