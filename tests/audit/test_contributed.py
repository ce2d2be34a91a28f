"""`cxrbench validate`: what others contribute is refused or told, file by file, and one fault never hides another."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from made_predictions import restated
from made_results import scores, write_result
from typer.testing import CliRunner

from cxrbench.cli.main import app
from cxrbench.records.integrity import place_of
from cxrbench.records.record import Record, predictions_path, write_record
from cxrbench.store import digest

Spoil = Callable[[Path, Record], Any]


def told(out: Path) -> tuple[int, list[dict[str, str]]]:
    """The exit code and the remarks."""
    done = CliRunner().invoke(app, ["validate", str(out), "--format", "json"])
    body = json.loads(done.stdout)
    assert body["passed"] == (done.exit_code == 0)
    return done.exit_code, body["remarks"]


def written(out: Path, **changes: Any) -> Record:
    return write_result(out, scores(rows=40, errors=6), **{"protocol__scores": "other", **changes})


def retabled(out: Path, record: Record, change: Callable[[pa.Table], pa.Table]) -> None:
    """The record with other predictions, as somebody would write both who means to."""
    path = predictions_path(out, record)
    pq.write_table(change(pq.read_table(path)), path)
    write_record(out, record.model_copy(update={"predictions_sha256": digest.of_file(path)}))


def edited(out: Path, record: Record) -> None:
    path = out / place_of(record)
    path.write_text(path.read_text().replace('"errors"', '"error"').replace("0.85", "0.95"))


def renamed_images(out: Path, record: Record) -> None:
    """The images called by paths from the root, everything else made to agree."""
    path = predictions_path(out, record)
    table = pq.read_table(path)
    names = [f"/home/anna/mimic/{name.as_py()}.png" for name in table["image"]]
    table = table.set_column(table.column_names.index("image"), "image", pa.array(names))
    ids = [[n for n, f in zip(names, table["fold"], strict=True) if f.as_py() == fold.fold] for fold in record.folds]
    folds = tuple(
        fold.model_copy(update={"test_digest": digest.of_lines(own)})
        for fold, own in zip(record.folds, ids, strict=True)
    )
    pq.write_table(table, path)
    restated(out, record, folds=folds)


def linked(out: Path, record: Record) -> None:
    path = predictions_path(out, record)
    other = path.rename(out / "elsewhere.parquet")
    path.symlink_to(other)


def in_place_of(name: str, **changes: Any) -> Spoil:
    def spoil(out: Path, record: Record) -> None:
        part = getattr(record, name)
        restated(out, record, **{name: part.model_copy(update=changes)})

    return spoil


REFUSED: dict[str, tuple[Spoil, str]] = {
    "edited": (edited, "does not have its checksum"),
    "unknown field": (
        lambda out, record: (out / place_of(record)).write_text('{"format": 1, "name": "x"}'),
        "carries no checksum",
    ),
    "other format": (lambda out, record: (out / place_of(record)).write_text('{"format": 7}'), "is of format '7'"),
    "no predictions": (lambda out, record: predictions_path(out, record).unlink(), "there is no such file"),
    "stray file": (
        lambda out, record: (out / "records" / "rsna" / "labels.csv").write_text("a"),
        "neither a record",
    ),
    "linked": (linked, "is a link"),
    "another card": (in_place_of("model", card_digest="1" * 64), "the card clip_cm is not the built-in one"),
    "another split": (in_place_of("data", reference="differs"), "the split is not the known"),
    "other labels": (in_place_of("data", group="base"), "has no group 'base'"),
    "another variant": (
        lambda out, record: restated(out, record, variant_digest="2" * 64),
        "the variant paper-code is not the built-in one",
    ),
    "no probabilities": (in_place_of("protocol", scores="probabilities"), "rows must lie in 0..1"),
    "place in the record": (in_place_of("data", left_out={"C:\\Users\\anna\\a.dcm": "is cut"}), "somebody's disk"),
    "place in a reason": (in_place_of("data", left_out={"a": "not found: /data/anna/a.png"}), "somebody's disk"),
    "place in the images": (renamed_images, "the predictions names a place"),
    "a report": (
        lambda out, record: retabled(
            out, record, lambda table: table.append_column("report", pa.array(["No effusion."] * len(table)))
        ),
        "columns that cxrbench does not write: report",
    ),
    "a note": (
        lambda out, record: retabled(
            out, record, lambda table: table.replace_schema_metadata({**table.schema.metadata, b"from": b"anna"})
        ),
        "further metadata: from",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_must_not_enter_is_refused_and_the_rest_is_not(fault: str, tmp_path: Path) -> None:
    record, other = written(tmp_path), written(tmp_path, protocol__shots=4)
    assert told(tmp_path) == (0, [])
    spoil, text = REFUSED[fault]
    spoil(tmp_path, record)
    code, remarks = told(tmp_path)
    refused = [one for one in remarks if one["level"] == "refused"]
    assert code == 4 and len(refused) == 1, remarks
    assert text in refused[0]["text"]
    assert other.id not in refused[0]["file"]


def test_of_two_records_of_a_cell_the_older_is_refused(tmp_path: Path) -> None:
    old = written(tmp_path, code__version="0.0.9")
    new = written(tmp_path, runtime__started="2026-02-01T00:00:00+00:00")
    code, [remark] = told(tmp_path)
    assert code == 4 and remark["file"] == place_of(old) and place_of(new) in remark["text"]


def test_names_that_are_not_known_and_made_numbers_are_told_and_enter(tmp_path: Path) -> None:
    written(tmp_path, model__name="heron", data__task="herons", data__synthetic=True, data__missing=2)
    code, remarks = told(tmp_path)
    assert code == 0 and {one["level"] for one in remarks} == {"told"}
    text = "; ".join(one["text"] for one in remarks)
    assert "the card heron.toml, the task herons.toml" in text
    assert "is synthetic" in text and "2 images have no file" in text


def test_what_ends_the_check_of_one_record_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cxrbench.checks import contributed

    bad, _ = written(tmp_path), written(tmp_path, protocol__shots=4)
    whole = contributed.checked_cell

    def failing(out: Path, record: Record) -> Any:
        if record.id == bad.id:
            raise MemoryError
        return whole(out, record)

    monkeypatch.setattr(contributed, "checked_cell", failing)
    code, [remark] = told(tmp_path)
    assert code == 4 and bad.id in remark["file"]


def test_a_workflow_gets_a_table_whose_cells_are_no_markup(tmp_path: Path) -> None:
    written(tmp_path, data__left_out={"a": "not found: /data/<b>|x.png"})
    done = CliRunner().invoke(app, ["validate", str(tmp_path), "--format", "markdown"])
    assert done.exit_code == 4 and "records read: 1; files refused: 1" in done.stdout
    assert "| refused" in done.stdout and r"\<b\>\|x.png" in done.stdout


def test_the_workflow_of_the_docs_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "leaderboard.md").read_text(encoding="utf-8")
    workflow = yaml.safe_load(page.partition("```yaml\n")[2].partition("```")[0])
    assert workflow["permissions"] == {"contents": "read"}
    lines = [shlex.split(step.get("run", "")) for step in workflow["jobs"]["validate"]["steps"]]
    commands = [words[: words.index(">>")] if ">>" in words else words for words in lines if words[:1] == ["cxrbench"]]
    assert [words[1] for words in commands] == ["validate", "report"]
    monkeypatch.chdir(tmp_path)
    record = written(Path("results"))
    assert all(CliRunner().invoke(app, words[1:]).exit_code == 0 for words in commands)
    assert Path("public/index.html").is_file()
    predictions_path(Path("results"), record).unlink()
    assert CliRunner().invoke(app, commands[0][1:]).exit_code == 4


def test_an_empty_folder_is_no_contribution(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["validate", str(tmp_path)])
    assert getattr(done.exception, "exit_code", None) == 3
