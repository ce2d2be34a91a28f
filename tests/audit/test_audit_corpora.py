"""What `cxrbench pretrain` wrote beside a checkpoint, as the audit tells it."""

import json
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from made_predictions import scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.checks import overlap
from cxrbench.cli.main import app
from cxrbench.errors import IntegrityError
from cxrbench.phantom.write import write, write_corpus
from cxrbench.pretrain import job
from cxrbench.pretrain.corpus.build import CorpusRequest, build
from cxrbench.pretrain.corpus.overlap import EvaluationSet
from cxrbench.pretrain.corpus.variants import corpus_variant
from cxrbench.specs import catalog

DIGEST = "7" * 64


def verdict(finding: str, task: str = "chexpert5x200", **changes: Any) -> dict[str, Any]:
    some = finding in ("remains", "removed")
    plain = {
        "task": task,
        "splits": ["gloria"],
        "source": "CHEXPERT",
        "finding": finding,
        "patients": 12 if some else 0 if finding == "none" else None,
        "images": 31 if some else 0 if finding == "none" else None,
        "rule": "the folder",
        "confirmed": "by patient ids: 966 patients",
        "why": "no table was named",
    }
    return {**plain, **changes}


def run_folder(place: Path, *verdicts: dict[str, Any], note: str = DIGEST, **changes: Any) -> Path:
    """A run's folder as `pretrain` leaves it, as far as the audit reads it; the path of its card."""
    card = catalog.load_card("unimodal_c").model_dump(mode="json", exclude_none=True)
    folder = place / "runs" / "mine"
    folder.mkdir(parents=True)
    told = {"name": "mine", "published": {}, "notes": [f"Corpus {note}, 100 images; seed 1."]}
    (folder / "card.toml").write_text(tomli_w.dumps({**card, **told}))
    corpus = {"digest": DIGEST, "images": 100, "synthetic": False, "counts": {"CHEXPERT": {"taken": 100}}}
    body = {**corpus, "overlap": list(verdicts), "notes": [], "unreadable": {}, **changes}
    (folder / "corpus.json").write_text(json.dumps(body))
    return folder / "card.toml"


def audit(place: Path, *words: str, task: str = "chexpert5x200") -> Result:
    return CliRunner().invoke(app, ["audit", "-t", task, "--out", str(place / "results"), "-f", "json", *words])


def findings(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, done.exception
    return [found for found in json.loads(done.stdout)["findings"] if "mine" in found["text"] + found["scope"]]


@pytest.mark.parametrize(
    ("finding", "kind", "count", "text"),
    [
        ("remains", "pre-training", 31, "31 images of 12 patients of the task were pre-trained on"),
        ("removed", "pre-training", 0, "31 images of 12 patients of the task were taken out before"),
        ("none", "pre-training", 0, "no patient of the task"),
        ("apart", "pre-training", 0, "other hospitals"),
        ("untold", "not known", None, "no table was named"),
        ("unchecked", "not known", None, "no table was named"),
    ],
)
def test_what_a_run_found_is_told(finding: str, kind: str, count: int | None, text: str, tmp_path: Path) -> None:
    card = run_folder(tmp_path, verdict(finding))
    found = findings(audit(tmp_path, "--model", str(card)))
    own = [one for one in found if "mine's CHEXPERT" in one["text"]]
    assert [(one["kind"], one["count"], one["scope"]) for one in own] == [(kind, count, "chexpert5x200")]
    assert text in own[0]["text"]
    assert any("(†): " in one["text"] for one in found)  # the letters of its card count as those of the zoo


def test_patients_that_remain_are_a_finding_for_strict_and_others_are_not(tmp_path: Path) -> None:
    card = run_folder(tmp_path, verdict("remains", task="vindr", splits=["dlilp"]))
    assert audit(tmp_path, "--model", str(card), "--strict", task="vindr").exit_code == 1
    (card.parent / "corpus.json").unlink()
    card.unlink()
    card.parent.rmdir()
    card = run_folder(tmp_path, verdict("removed", task="vindr", splits=["dlilp"]))
    assert audit(tmp_path, "--model", str(card), "--strict", task="vindr").exit_code == 0


def test_a_split_that_the_run_did_not_look_for_is_told(tmp_path: Path) -> None:
    card = run_folder(tmp_path, verdict("removed", splits=["mgca"]))
    texts = [one["text"] for one in findings(audit(tmp_path, "--model", str(card))) if one["kind"] == "not known"]
    assert any("the run looked for mgca, not for gloria" in text for text in texts)


def test_a_model_without_its_corpus_or_its_card_is_told(tmp_path: Path) -> None:
    card = run_folder(tmp_path, verdict("none"))
    (card.parent / "corpus.json").unlink()
    found = findings(audit(tmp_path, "--model", str(card)))
    assert any("there is no corpus.json beside its card" in one["text"] for one in found)
    written(tmp_path / "results", "mine", [scored_fold(1.5, 1)], data__task="rsna")
    assert not any("--model CARD" in one["text"] for one in findings(audit(tmp_path)))  # it has no record of this task
    texts = [one["text"] for one in findings(audit(tmp_path, task="rsna"))]
    assert texts == ["what mine was pre-trained on: no card here has that name; give it by --model CARD"]
    assert not any("no card here" in one["text"] for one in findings(audit(tmp_path, "-m", str(card), task="rsna")))


@pytest.mark.parametrize("how", ["another run", "another file", "an unknown finding"])
def test_files_that_do_not_belong_together_are_refused(how: str, tmp_path: Path) -> None:
    card = run_folder(tmp_path, verdict("maybe" if "unknown" in how else "none"), note="8" * 64)
    if how == "another file":
        (card.parent / "corpus.json").write_text("{}")
    done = audit(tmp_path, "--model", str(card))
    assert isinstance(done.exception, IntegrityError)


def test_what_a_corpus_tells_of_itself_is_read_whole(tmp_path: Path) -> None:
    """As `pretrain` writes it, of a drawn corpus and the drawn evaluation set of the same collection."""
    drawn = write_corpus("CHEXPERT", tmp_path / "corpus", images_per_class=3).root
    write("chexpert5x200", tmp_path / "data")
    sets = (EvaluationSet(catalog.load_task("chexpert5x200"), ("phantom",), tmp_path / "data"),)
    built = build(CorpusRequest({"CHEXPERT": drawn}, corpus_variant("as-published"), sets))
    path = tmp_path / "corpus.json"
    path.write_text(json.dumps(built.to_json() | {"unreadable": {"an image": "cut short"}}))
    found = overlap.read_corpus(path)
    assert (found.digest, found.images, found.overlap) == (
        built.corpus.digest,
        len(built.corpus),
        built.overlap.verdicts,
    )
    assert found.overlap[0].finding in ("none", "removed")


def test_the_file_has_the_name_that_a_run_gives_it() -> None:
    assert overlap.FILE == job.CORPUS
