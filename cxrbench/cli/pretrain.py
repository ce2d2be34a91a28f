"""`cxrbench pretrain run|plot|labels|phantom`: encoders trained here, which `cxrbench run --model` then measures."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import Cache, DataRoot, data_places, pairs, words
from cxrbench.errors import SpecError

if TYPE_CHECKING:
    from cxrbench.pretrain.corpus.overlap import EvaluationSet
    from cxrbench.pretrain.corpus.variants import SourceName

app = typer.Typer(help="Train CLIP, UniCL, unimodal, DLILP and SAT encoders.", no_args_is_help=True)


@app.command()
def run(
    corpus: Annotated[
        list[str], typer.Option("--corpus", "-c", help="Sources: chexpert, mimic, padchest; repeatable or by comma.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder of this run; its name becomes the model's.")],
    objective: Annotated[
        Literal["clip", "unicl", "unimodal", "dlilp", "sat"] | None,
        typer.Option("--objective", "-o", help="Default: what the configuration says, dlilp as shipped."),
    ] = None,
    data_root: DataRoot = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML with values that differ from the released recipe.")
    ] = None,
    choice: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Replace one value of the recipe; repeatable."),
    ] = None,
    corpus_variant: Annotated[
        str, typer.Option("--corpus-variant", help="Label lists and filters: as-published, as-meant, or a TOML file.")
    ] = "as-published",
    evaluation: Annotated[
        list[str] | None,
        typer.Option("--evaluation", help="Bundles whose test patients are taken out; default paper-code."),
    ] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Keep them, and train even where they could not be looked for.")
    ] = False,
    sentences: Annotated[
        Path | None, typer.Option("--sentences", help="labels_individual_sentences.csv of MIMIC-CXR, or its like.")
    ] = None,
    reports: Annotated[Path | None, typer.Option("--reports", help="Folder of raw MIMIC-CXR reports.")] = None,
    labeller: Annotated[
        str, typer.Option("--labeller", help="For raw reports: rules, rules-mentioned, a table, or module:function.")
    ] = "",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many images a source.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Decoding processes; 0: one a core.")] = 0,
    cache: Cache = None,
) -> None:
    """Train an encoder.

    Every image is decoded once into the cache; then OUT/card.toml is a model like any other. `cxrbench run` takes it.

    Several processes: `torchrun --nproc-per-node N "$(command -v cxrbench)" pretrain run ...`, or on SLURM
    `srun --ntasks-per-node N cxrbench pretrain run ...`; data.batch_size is that of one process.
    """
    from cxrbench.specs import catalog
    from cxrbench.system import cpu

    cpu.prepare()
    choices = pairs(choice, "--set") | ({"objective": objective} if objective else {})
    roots = data_places(data_root, [*catalog.task_files(), *_SOURCES])
    sources = _roots(words(corpus), roots)
    from cxrbench.pretrain.config import build_config
    from cxrbench.pretrain.corpus.build import CorpusRequest
    from cxrbench.pretrain.corpus.mimic import Reports
    from cxrbench.pretrain.corpus.variants import corpus_variant as variant_named
    from cxrbench.pretrain.job import Job, pretrain
    from cxrbench.specs.paths import default_cache
    from cxrbench.system.progress import progress_for

    place = cache or default_cache()
    request = CorpusRequest(
        roots=sources,
        variant=variant_named(corpus_variant),
        evaluation=_evaluation(words(evaluation) or ("paper-code",), roots),
        reports=Reports(sentences, reports, labeller, place),
        keep_overlap=allow_overlap,
        limit=limit,
        cache=place,
    )
    job = Job(build_config(config, choices), request, out, place, workers or cpu.cores(), resume, allow_overlap)
    pretrain(job, progress_for(sys.stderr), echo)


@app.command()
def plot(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, finished or not.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="SVG, PNG or PDF file; default curves.svg in the run's folder.")
    ] = None,
) -> None:
    """Draw loss, temperature and learning rate of a run."""
    from cxrbench.pretrain.plot import plot as draw

    echo(draw(folder, out))


@app.command()
def labels(
    table: Annotated[
        Path, typer.Argument(metavar="TABLE", help="Labels of reports: CheXbert's, the CheXpert labeller's, MIMIC's.")
    ],
    reports: Annotated[
        Path | None, typer.Option("--reports", help="Folder of raw MIMIC-CXR reports, for a table without text.")
    ] = None,
    sections: Annotated[
        Literal["impression-or-findings", "impression", "findings", "findings-and-impression", "whole"],
        typer.Option("--sections", help="Which sections of a raw report are read."),
    ] = "impression-or-findings",
    out: Annotated[Path | None, typer.Option("--out", help="Write all figures to this JSON file, too.")] = None,
    cache: Cache = None,
) -> None:
    """Hold the rule labeller against a table of labels.

    For each finding kappa over present, absent, uncertain and not mentioned; F1 of mention, negation, uncertainty and
    positive; and the confusion table. The table has its text in a column (sentences, text, Reports, Report Impression),
    or study_id and subject_id with --reports.
    """
    from cxrbench.pretrain.corpus.label_tables import RawText, compare
    from cxrbench.pretrain.corpus.variants import corpus_variant as variant_named
    from cxrbench.reports.agreements import agreement_text
    from cxrbench.specs.paths import default_cache
    from cxrbench.store.atomic import write_atomically
    from cxrbench.system.progress import announced

    headings = variant_named("as-published").mimic.headings
    raw = None if reports is None else RawText(reports, sections, headings, cache or default_cache())
    with announced("labelling reports", sys.stderr):
        found = compare(table, raw)
    echo(agreement_text(found))
    if out is not None:
        write_atomically(out, (json.dumps(found.to_json(), indent=1) + "\n").encode())


@app.command()
def phantom(
    out: Annotated[Path, typer.Option("--out", help="Folder in which the data sets' own folders are made.")],
    images_per_class: Annotated[
        int | None, typer.Option("--images-per-class", min=1, help="Default: some 1,800 images in all.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Another seed: other patients.")] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Drawing processes.")] = 1,
) -> None:
    """Draw CheXpert, MIMIC-CXR-JPG and PadChest.

    Procedural radiographs with labels and reports, in the true layouts, of other patients than the evaluation sets that
    `cxrbench data phantom` draws (their folders have the same names: take another --out). OUT/text is an untrained text
    encoder that knows the words of the reports.
    """
    from cxrbench.cli.demonstration import words_read, write_text_encoder
    from cxrbench.phantom.write import write_corpus

    roots = {}
    for name, source in _SOURCES.items():
        summary = write_corpus(source, out, images_per_class=images_per_class, seed=seed, workers=workers)
        roots[name] = summary.root
        echo(f"{name}: {summary.images} synthetic images in {summary.root}")
    echo(f"text encoder: {write_text_encoder(words_read(roots['mimic']), out / 'text')}")


_SOURCES: Mapping[str, "SourceName"] = {"chexpert": "CHEXPERT", "mimic": "MIMIC", "padchest": "PADCHEST"}


def _roots(names: Sequence[str], roots: Mapping[str, Path]) -> dict["SourceName", Path]:
    """The folder of each source; raises SpecError for one without."""
    from cxrbench.specs.catalog import unknown

    found: dict[SourceName, Path] = {}
    for name in names:
        if name.lower() not in _SOURCES:
            raise unknown("source", name, _SOURCES)
        root = roots.get(name.lower()) or roots.get("")
        if root is None:
            raise SpecError(f"{name}: no folder with its images; name it by --data-root, or set CXRBENCH_DATA")
        found[_SOURCES[name.lower()]] = root
    return found


def _evaluation(bundles: Sequence[str], roots: Mapping[str, Path]) -> list["EvaluationSet"]:
    """The splits that the bundles score, task by task."""
    from cxrbench.pretrain.corpus.overlap import EvaluationSet
    from cxrbench.specs import catalog

    splits: dict[str, dict[str, None]] = {}
    for bundle in bundles:
        for task, split in catalog.load_variant(bundle).splits.items():
            splits.setdefault(task, {})[split] = None
    return [
        EvaluationSet(catalog.load_task(task), tuple(names), roots.get(task) or roots.get(""))
        for task, names in splits.items()
    ]
