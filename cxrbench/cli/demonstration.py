"""The demonstration, step by step: four encoders, trained and measured as on real data, on synthetic radiographs."""

import json
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from multiprocessing import get_context
from operator import call
from pathlib import Path

from cxrbench.analysis.cell import cell_interval
from cxrbench.analysis.frequency import frequency
from cxrbench.analysis.paper_tables import table_view
from cxrbench.data import tables
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.models.dlilp_layout import Vocabulary
from cxrbench.phantom.layouts.order import layout_facts
from cxrbench.phantom.write import Summary, corpus_facts, write, write_corpus
from cxrbench.pretrain.config import Config, Objective, build_config, config_toml
from cxrbench.pretrain.corpus.build import CorpusRequest
from cxrbench.pretrain.corpus.overlap import EvaluationSet
from cxrbench.pretrain.corpus.sentences import TABLE
from cxrbench.pretrain.corpus.variants import SourceName, corpus_variant, label_spaces
from cxrbench.pretrain.export import CARD
from cxrbench.pretrain.frequencies import read
from cxrbench.pretrain.job import CONFIG, FREQUENCIES, Job, pretrain
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.reports.comparisons import MADE, grid, interval_text, percent
from cxrbench.reports.html.chapters import ReportWork
from cxrbench.reports.html.page import report as html_report
from cxrbench.reports.html.render import write as write_html
from cxrbench.reports.sheets import frequency_sheet
from cxrbench.reports.sheets import render as render_sheets
from cxrbench.reports.tables import render
from cxrbench.runner.request import Engine, Places, Request
from cxrbench.runner.run import RunResult, run
from cxrbench.specs import catalog, paths
from cxrbench.specs.paper import MISSING, published_table
from cxrbench.specs.task import TaskSpec
from cxrbench.store.atomic import write_atomically
from cxrbench.store.schema import read_toml
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
OBJECTIVES: tuple[Objective, ...] = ("clip", "unicl", "unimodal", "dlilp")  # those of the paper
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


def encoders(folders: Folders, progress: Progress, say: Say, detail: Say) -> dict[Objective, Path]:
    """The folder of each objective's run, trained now unless it is whole; a killed one is gone on with.

    All phantoms must be there: the patients of the evaluation sets are looked for in the corpora.
    """
    corpus, runs = corpora(folders), dict[Objective, Path]()
    for number, objective in enumerate(OBJECTIVES, 1):
        say(f"training encoder {number} of {len(OBJECTIVES)}: {objective}")
        runs[objective] = _trained(objective, corpus, folders, progress, detail)
    return runs


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
    return build_config(Path(__file__).with_suffix(".toml"), {"objective": objective, **choices})


def _trained(objective: Objective, corpus: CorpusRequest, folders: Folders, progress: Progress, say: Say) -> Path:
    out, config = folders.run(objective), recipe(objective, folders)
    if (out / CARD).is_file() and (out / CONFIG).read_text(encoding="utf-8") == config_toml(config):
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
    told = build_config(None, {}).text
    return [
        *tables.read_table(table, ("sentences",))["sentences"].tolist(),
        *(told.template.format(name) for name in (*classes, told.unlabelled)),
        *(
            phrase
            for one in map(catalog.load_prompts, catalog.prompt_files())
            if one.kind is None
            for phrase in one.phrases
        ),
    ]


def draw(folders: Folders, say: Say) -> None:
    """The evaluation sets and the pre-training sets; those that are not there by a process for each core.

    A process draws whole data sets: starting two for each set took as long as drawing a third of the images.
    """
    corpora, tasks = corpus_facts(), layout_facts()
    jobs: dict[str, tuple[Path, Callable[[], Summary]]] = {
        f"pre-training phantom of {source}": (
            folders.corpora / corpora[source].folder,
            partial(write_corpus, source, folders.corpora, images_per_class=images),
        )
        for source, images in IMAGES.items()
    }
    jobs |= {
        f"phantom of {task}": (folders.evaluation / tasks[task].folder, partial(write, task, folders.evaluation))
        for task in catalog.PAPERS_TASKS
    }
    missing = {name: job for name, (root, job) in jobs.items() if not root.exists()}
    found = {name: job() for name, (_, job) in jobs.items() if name not in missing}
    for name, summary in chain(found.items(), _drawn(missing)):
        say(f"{name}: {summary.images} images in {summary.root}")


def _drawn(jobs: Mapping[str, Callable[[], Summary]]) -> Iterator[tuple[str, Summary]]:
    if not jobs:
        return
    # Not forked: the caller may have threads, torch's say. Nothing of this module is named, which would import torch.
    with ProcessPoolExecutor(min(cpu.cores(), len(jobs)), mp_context=get_context("spawn")) as pool:
        yield from zip(jobs, pool.map(call, jobs.values()), strict=True)


GROUPS = ("base", "new")
PROMPTS = "ensemble"
BY_CLASS = ("nih_lt", "all")  # the task and group with classes of both kinds


def seen_and_unseen(records: Sequence[Record], results: Path) -> str:
    """Zero-shot balanced accuracy of the groups base and new of each encoder with 95 % intervals, and that of chance.

    A dash: the encoder has no word for a class of the group, so nothing is scored.
    """
    tasks = [task for task in map(catalog.load_task, catalog.PAPERS_TASKS) if {*GROUPS} <= {*task.groups}]
    columns = [(task, group) for task in tasks for group in GROUPS]
    wanted = {(task.name, group) for task, group in columns}
    cells = {
        (record.model.name, record.data.task, record.data.group): interval_text(
            cell_interval(read_cell(results, record), BALANCED_ACCURACY)
        )
        for record in zero_shot(records)
        if (record.data.task, record.data.group) in wanted
    }
    names = sorted({name for name, _, _ in cells})
    rows = [[name, *(cells.get((name, task.name, group), MISSING) for task, group in columns)] for name in names]
    rows.append(["chance", *(percent(1 / len(task.groups[group])) for task, group in columns)])
    title = f"{MADE}zero-shot, balanced accuracy in percent: findings that pre-training saw (base) and never saw (new)"
    return f"{title}\n\n{grid(rows, ['', *(_head(task, group) for task, group in columns)], 'terminal')}"


def sheets(records: Sequence[Record], shares: Mapping[str, float | None]) -> str:
    """Recall of each class of NIH-LT beside its share of the pre-training images, of encoders that read all its names.

    `shares` are those of the corpus by finding.
    """
    words = read_toml(paths.folder("model_zoo") / "dlilp_vocabulary.toml", Vocabulary)
    same = {name: of[0] for name, of in words.aliases.items() if len(of) == 1}
    views = [
        frequency(record, shares, same)
        for record in zero_shot(records)
        if (record.data.task, record.data.group) == BY_CLASS
    ]
    return render_sheets(views, lambda: [frequency_sheet(view, synthetic=True) for view in views], "terminal")


def zero_shot(records: Sequence[Record]) -> list[Record]:
    """The zero-shot records of Table 2: by the ensemble of prompts, or by prototypes."""
    return [
        record
        for record in records
        if record.protocol.protocol == "zero-shot"
        and record.prompts is not None
        and (record.prompts.set == PROMPTS or record.prompts.source == "prototypes")
    ]


def _head(task: TaskSpec, group: str) -> str:
    return f"{task.title} {group} ({len(task.groups[group])})"


SETTINGS = "phantom"
CONTROLS = ("class_prior", "image_statistics", "shuffled_labels")  # the random ResNet-50 takes longer than all the rest
FEWER_SHOTS = (1, 4)  # on all classes, for curves


def demo(out: Path, progress: Progress, say: Say, detail: Say) -> RunResult:
    """Draw the phantoms, train the encoders, measure them on the paper's tasks, show what came out; all below `out`.

    `say` takes a line a phase, the tables and where the report lies, `detail` all else. What an earlier call finished
    is reused.
    """
    folders = Folders(out)
    say("drawing ten data sets")
    draw(folders, detail)
    runs = encoders(folders, progress, say, detail)
    say("measuring four encoders and three negative controls on seven tasks")
    report = _measured([str(run_ / CARD) for run_ in runs.values()], folders, progress, detail)
    found = read_results(folders.results, folders.cache)
    digest = catalog.load_variant(SETTINGS).digest
    records = [record for record in found.records if record.variant_digest == digest]
    write_tables(records, folders.results, say)
    say("\n" + seen_and_unseen(records, folders.results))
    shares = {name: one.share for name, one in read(runs["clip"] / FREQUENCIES).all.of_images.items()}
    say("\n" + sheets(records, shares))
    say(
        f"synthetic images and weights: these numbers say nothing of any real model. Records: {folders.results}/records"
    )
    size = write_html(folders.report, html_report(ReportWork(folders.results), found, None))
    say(f"report: {folders.report.resolve().as_uri()} ({size / 1e6:.1f} MB), opens without a network")
    return report


def _measured(encoders_: Sequence[str], folders: Folders, progress: Progress, say: Say) -> RunResult:
    """What all runs came to together."""
    total = RunResult()
    for request in _requests(encoders_, folders):
        done = run(request, progress, say)
        total.records += done.records
        total.skipped |= done.skipped
        total.problems += done.problems
        total.failed += done.failed
        total.cached, total.decoded = total.cached + done.cached, total.decoded + done.decoded
        total.encoded += done.encoded
        total.unreadable |= done.unreadable
        total.missing |= done.missing
    return total


def _requests(encoders_: Sequence[str], folders: Folders) -> Iterator[Request]:
    """Everything beside the negative controls, then probes with fewer shots."""
    places = Places(data={"": folders.evaluation}, out=folders.results, cache=folders.cache)
    engine = Engine(device="cpu")
    yield Request(
        models=(*encoders_, *CONTROLS),
        tasks=catalog.PAPERS_TASKS,
        variant=SETTINGS,
        groups=("*",),
        prompts=tuple(catalog.prompt_files()),
        places=places,
        engine=engine,
    )
    yield Request(
        models=tuple(encoders_),
        tasks=catalog.PAPERS_TASKS,
        protocols=("linear-probe",),
        shots=FEWER_SHOTS,
        variant=SETTINGS,
        places=places,
        engine=engine,
    )


def write_tables(records: Sequence[Record], results: Path, say: Say) -> None:
    """Tables 2 to 4 of the records, to the terminal and as Markdown below `results`/tables."""
    folder = results / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for number in (2, 3, 4):
        view = table_view(published_table(number), records, SETTINGS, synthetic=True)
        say("\n" + render(view, "terminal"))
        (folder / f"table{number}.md").write_text(render(view, "markdown"), encoding="utf-8")
