"""Measured beside published: the right record in the right cell, and nothing filled in that was not measured."""

from decimal import Decimal

import pytest
from made_records import made_record

from cxrbench.analysis.paper_tables import CONTROLS, TableCell, TableView, shown_value, table_view
from cxrbench.records.record import Record
from cxrbench.records.validity import flaws, pretrained_on, printed_flaws
from cxrbench.specs import catalog
from cxrbench.specs.paper import published_table


def folds(*values: float | None) -> list[dict[str, object]]:
    return [
        {"fold": i, "metrics": {"balanced_accuracy": v}, "test_rows": 1, "test_digest": "d" * 64}
        for i, v in enumerate(values)
    ]


def named(model: str) -> dict[str, str]:
    return {"model__name": model}


def titled(model: str, **changes: object) -> Record:
    """A record of a model whose title is its name."""
    return made_record(model__name=model, model__title=model, **changes)


def cell(view: TableView, row: str, column: str, section: str = "(b)") -> TableCell:
    (found,) = [r for r in view.rows if r.name == row and r.section.startswith(section)]
    return found.cells[column]


def test_released_rounding_rounds_every_fold_first() -> None:
    values = (0.90049, 0.90149, 0.90049, 0.90049, 0.90049)
    assert shown_value(made_record(folds=folds(*values))) == Decimal("90.02")
    unrounded = {**made_record().settings.model_dump(mode="json"), "metrics.rounding": "unrounded"}
    assert shown_value(made_record(folds=folds(*values), settings=unrounded)) == Decimal("90.07")


def test_fold_without_a_value_shows_nothing() -> None:
    assert shown_value(made_record(folds=folds(0.9, None))) is None


def test_record_fills_its_cell_and_no_other() -> None:
    view = table_view(published_table(2), [made_record()], "paper-code", synthetic=False)
    assert cell(view, "CLIP loss", "rsna") == TableCell("93.20", Decimal("90.50"), "0123456789abcdef")
    assert cell(view, "CLIP loss", "rsna").difference == Decimal("-2.70")
    measured = [(r.name, n) for r in view.rows for n, c in r.cells.items() if c.measured is not None]
    assert measured == [("CLIP loss", "rsna")]


def test_average_needs_every_cell() -> None:
    table = published_table(4)
    records = [made_record(**named("unimodal_cm"), data__task=c.task, data__group=c.group) for c in table.columns]
    complete = table_view(table, records, "paper-code", synthetic=False)
    assert cell(complete, "Unimodal (M+C)", "avg", "").measured == Decimal("90.50")
    short = table_view(table, records[1:], "paper-code", synthetic=False)
    assert cell(short, "Unimodal (M+C)", "avg", "").measured is None


def test_newest_record_wins_and_the_older_is_counted() -> None:
    old = made_record(folds=folds(0.5, 0.5))
    new = made_record(id="f" * 16, runtime__started="2026-02-01T00:00:00+00:00")
    view = table_view(published_table(2), [new, old], "paper-code", synthetic=False)
    assert cell(view, "CLIP loss", "rsna").record == "f" * 16
    assert any("1 older record " in note for note in view.notes)


@pytest.mark.parametrize("field", ["model__synthetic", "data__synthetic"])
def test_made_numbers_enter_only_the_marked_table(field: str) -> None:
    record = made_record(**{field: True})
    real = table_view(published_table(2), [record], "paper-code", synthetic=False)
    made = table_view(published_table(2), [record], "paper-code", synthetic=True)
    assert cell(real, "CLIP loss", "rsna").measured is None
    assert cell(made, "CLIP loss", "rsna").measured == Decimal("90.50")
    assert "PHANTOM" in made.title
    assert "PHANTOM" not in real.title


def test_own_model_gets_a_row_without_printed_cells() -> None:
    view = table_view(published_table(2), [titled("mine")], "paper-code", synthetic=False)
    assert cell(view, "mine", "rsna") == TableCell("–", Decimal("90.50"), "0123456789abcdef")
    assert cell(view, "mine", "rsna").difference is None
    assert [r.section for r in view.rows if r.name == "mine"] == ["(b) linear probing, K = 16"]


@pytest.mark.parametrize("control", [{"model__control": True}, {"protocol__labels": "shuffled"}])
@pytest.mark.parametrize("number", [2, 4])
def test_negative_controls_stand_in_a_block_of_their_own(number: int, control: dict[str, object]) -> None:
    records = [
        titled("aaa", id="a" * 16, **control),
        titled("mine"),
    ]
    view = table_view(published_table(number), records, "paper-code", synthetic=False)
    (row,) = [row for row in view.rows if row.control]
    section = next(r.section for r in view.rows if r.name == "mine")
    assert (row.name, row.section) == ("aaa", f"{section}: {CONTROLS}" if section else CONTROLS)
    assert row.cells["rsna"].measured == Decimal("90.50")
    assert [r.name for r in view.rows if r.section == section][-1] == "mine"
    assert view.rows[-1] is row


def test_a_control_that_bears_a_printed_name_does_not_fill_its_row() -> None:
    view = table_view(published_table(2), [made_record(protocol__labels="shuffled")], "paper-code", synthetic=False)
    assert cell(view, "CLIP loss", "rsna").measured is None
    (row,) = [row for row in view.rows if row.control]
    assert (row.name, row.model, row.cells["rsna"].measured) == ("CLIP", "clip_cm", Decimal("90.50"))


def test_an_average_bears_the_mark_of_its_tasks() -> None:
    cells = table_view(published_table(2), [], "paper-code", synthetic=False).rows[0].cells
    assert {name: found.seen for name, found in cells.items() if name.startswith("avg")} == {
        "avg_base": True,
        "avg_new": False,
        "avg": True,
    }


@pytest.mark.parametrize(
    "changes", [{"protocol__shots": 8}, {"data__group": "base"}, {"protocol__protocol": "zero-shot"}]
)
def test_other_cells_stay_out(changes: dict[str, object]) -> None:
    view = table_view(published_table(2), [made_record(**changes)], "paper-code", synthetic=False)
    assert all(c.measured is None for r in view.rows for c in r.cells.values())


def test_prompt_set_decides_the_column_of_table_3() -> None:
    told = {"set": "names", "digest": catalog.load_prompts("names").digest, "source": "prompts"}
    record = made_record(
        data__task="covid",
        data__group="2-class",
        protocol={"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits"},
        prompts=told,
    )
    view = table_view(published_table(3), [record], "paper-code", synthetic=False)
    assert cell(view, "CLIP loss", "two_name", "").measured == Decimal("90.50")
    assert cell(view, "CLIP loss", "two_description", "").measured is None


def described(*classes: str, digest: str = "0" * 64) -> Record:
    words = {name: catalog.load_prompts("description").classes[name] for name in classes}
    told = {"set": "description", "digest": digest, "source": "prompts", "drawn": [words]}
    how = {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits"}
    return made_record(data__task="covid", data__group="2-class", protocol=how, prompts=told)


def test_words_of_the_papers_code_are_sound_whoevers_file_they_are_in_and_others_are_not() -> None:
    own, reason = catalog.load_prompts("description").digest, "the words for COVID are not those of the paper's code"
    assert flaws(described("Mass", "Nodule")) == printed_flaws(described("Mass", "Nodule")) == ()
    assert flaws(described("COVID", digest=own)) == ()
    assert printed_flaws(described("COVID", "Mass", digest=own)) == (reason,)
    assert any("not the built-in one" in flaw for flaw in flaws(described("COVID", "Mass")))


def test_of_two_descriptions_the_released_one_fills_the_table() -> None:
    own = described("COVID", digest=catalog.load_prompts("description").digest)
    newer = own.model_copy(update={"runtime": own.runtime.model_copy(update={"started": "2030-01-01"})})
    released = described("Mass").model_copy(update={"id": "f" * 16})
    view = table_view(published_table(3), [released, newer], "paper-code", synthetic=False)
    assert cell(view, "CLIP loss", "two_description", "").record == "f" * 16
    alone = table_view(published_table(3), [newer], "paper-code", synthetic=False)
    assert cell(alone, "CLIP loss", "two_description", "").difference is None


FLAWED = [
    ({"data__missing": 3}, "3 images have no file"),
    ({"data__left_out": {"a": "cut"}}, "1 images could not be read"),
    ({"data__reference": "differs"}, "its digest differs"),
    ({"runtime__precision": "float16"}, "float16"),
    ({"model__card_digest": "0" * 64}, "not the built-in one"),
]


@pytest.mark.parametrize(("changes", "reason"), FLAWED)
def test_flawed_number_is_marked_compared_with_nothing_and_never_averaged(
    changes: dict[str, object], reason: str
) -> None:
    view = table_view(published_table(2), [made_record(**changes)], "paper-code", synthetic=False)
    found = cell(view, "CLIP loss", "rsna")
    assert found.measured == Decimal("90.50")
    assert found.difference is None
    assert any("RSNA B" in note and reason in note for note in view.notes)


def test_average_over_a_flawed_cell_is_empty() -> None:
    table = published_table(4)
    records = [
        made_record(**named("unimodal_cm"), data__task=c.task, data__group=c.group, data__missing=int(c.id == "rsna"))
        for c in table.columns
    ]
    view = table_view(table, records, "paper-code", synthetic=False)
    assert cell(view, "Unimodal (M+C)", "siim", "").measured == Decimal("90.50")
    assert cell(view, "Unimodal (M+C)", "avg", "").measured is None


def test_sound_record_is_preferred_to_a_newer_flawed_one() -> None:
    sound = made_record()
    flawed = made_record(id="f" * 16, data__missing=1, runtime__started="2026-02-01T00:00:00+00:00")
    view = table_view(published_table(2), [sound, flawed], "paper-code", synthetic=False)
    assert cell(view, "CLIP loss", "rsna").record == sound.id


def test_of_a_task_that_is_not_installed_no_collection_is_known() -> None:
    assert not pretrained_on("gloria", None, "my_task")
    assert not pretrained_on("gloria", made_record(), "my_task")
