"""Shared images and patients: on rows made by hand, and on the official label tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from official_tables import lay_out
from typer.testing import CliRunner

from cxrbench.analysis.against_paper import Finding
from cxrbench.checks.overlap import OverlapRows, Traced, between, overlap, same_collection, traced, within
from cxrbench.cli.main import app
from cxrbench.data.sources.base import LabelledParts
from cxrbench.data.sources.rsna import Mapped, mapping
from cxrbench.errors import DataError
from cxrbench.specs import catalog
from cxrbench.types import Partition, Table

DIGESTS = json.loads((Path(__file__).parent.parent / "fixtures" / "split_digests.json").read_text())
SPLITS = [
    (task, name.partition(".")[2])
    for task in ("rsna", "siim")
    for name, facts in DIGESTS[task].items()
    if "overlap_train_test" in facts or "nih_patient_leak_train_to_test" in facts
]


def test_rows_images_and_patients_are_counted_apart() -> None:
    found = overlap(
        OverlapRows(["a", "b", "b"], ["p", "q", "q"]), OverlapRows(["b", "b", "c", "d"], ["q", "q", "p", "r"])
    )
    assert (found.shared_images, found.shared_rows, found.rows, found.images) == (1, 2, 4, 3)
    assert (found.patients, found.patient_images) == (2, 2)


def test_unknown_patients_are_no_patients_in_common() -> None:
    found = overlap(OverlapRows(["a"], None), OverlapRows(["b"], ["p"]))
    assert (found.patients, found.patient_images) == (None, None)


ids = st.lists(st.integers(0, 20).map(str), max_size=30)


@given(ids, ids)
def test_an_overlap_is_at_most_a_side_and_nothing_with_an_empty_one(one: list[str], other: list[str]) -> None:
    rows = [OverlapRows(side, [image[:1] for image in side]) for side in (one, other)]
    found = overlap(*rows)
    assert found.shared_images <= min(len(set(one)), found.images) and found.shared_rows <= found.rows
    assert found.patient_images is not None and found.shared_images <= found.patient_images <= found.images
    assert overlap(OverlapRows([], []), rows[1]).patient_images == 0


def part(*rows: tuple[str, str]) -> Table:
    """Rows of (image, patient), all of one class."""
    labels = np.tile(np.array([1, 0], np.int8), (len(rows), 1))
    return Table(tuple(i for i, _ in rows), labels, ("Normal", "Pneumonia"), tuple(p for _, p in rows))


def patients_of(doubtful: frozenset[str]) -> Finding:
    task, settings = catalog.load_task("rsna"), catalog.load_variant("paper-code").settings
    parts = {
        "train": part(("a", "p"), ("b", "q"), ("c", "r")),
        "test": part(("d", "p"), ("e", "q"), ("f", "s"), ("g", "r")),
    }
    found = list(within(task, Partition("rsna", "gloria", parts, {}), settings, doubtful))
    (one,) = [finding for finding in found if finding.kind == "shared patients"]
    return one


def test_doubtful_patients_are_counted_and_told_without() -> None:
    """Of four test images three show a patient of the training part: one is a guess itself, one meets a guess there."""
    plain, some, elsewhere = (patients_of(frozenset(names)) for names in ((), ("d", "b", "elsewhere"), ("elsewhere",)))
    assert (plain.count, plain.total) == (some.count, some.total) == (3, 4)
    assert some.text == plain.text + "; 1 of 3 without the 2 images whose patient is doubtful"
    assert elsewhere.text == plain.text and "doubtful" not in plain.text


def mapping_table(folder: Path, *rows: str) -> Mapped:
    (folder / "rsna_to_nih.csv").write_text("\n".join(rows) + "\n")
    found = mapping(folder)
    assert found is not None
    return found


def test_a_match_is_doubtful_above_its_error_and_unless_a_number_says_otherwise(tmp_path: Path) -> None:
    head, rows = "patientId,nih_image_index,mse", ("a,00000001_000.png,10.0", "b,00000002_000.png,10.1")
    assert mapping_table(tmp_path, head, *rows, "c,00000003_000.png,nan").doubtful == {"b", "c"}
    assert mapping_table(tmp_path, "patientId,nih_image_index", "a,00000001_000.png").doubtful == frozenset()
    with pytest.raises(DataError, match="column mse holds what is no number"):
        mapping_table(tmp_path, head, "a,00000001_000.png,low")


def test_matches_between_data_sets_are_told_without_doubtful_ones() -> None:
    """Three pictures of one set that the other names: one by a guess, which drops out on both sides."""
    names = {"a": "00000001_000.png", "b": "00000002_000.png", "c": "00000003_001.png"}
    rsna = Traced("nih", names, {"test": tuple(names)}, set(names), frozenset({"a"}))
    lt = ("00000001_000.png", "00000002_000.png", "00000003_000.png")
    nih = Traced("nih", {name: name for name in lt}, {"test": lt}, set(lt))
    texts = [(found.count, found.total, found.text) for found in between({"rsna": rsna, "nih_lt": nih})]
    doubt = "without 1 images whose match is doubtful"
    assert texts == [
        (2, 3, f"2 of 3 images of rsna's part test are in nih_lt; 1 of 2 {doubt}"),
        (3, 3, f"3 of 3 images of rsna's part test are of patients who are in nih_lt; 2 of 2 {doubt}"),
        (2, 3, f"2 of 3 images of nih_lt's part test are in rsna; 1 of 3 {doubt}"),
        (3, 3, f"3 of 3 images of nih_lt's part test are of patients who are in rsna; 2 of 3 {doubt}"),
    ]


@pytest.mark.parametrize(
    ("one", "other", "names"),
    [
        ("nih14_official", "nih14_lineage", ("00000001_000.png", "00000001_001.png", "00000002_000.png")),
        ("nih14_official", "nih_lt", ("00000001_000.png", "00000001_001.png", "00000002_000.png")),
        ("mimic_test", "mimic5x200", ("a", "b", "c")),
    ],
)
def test_tasks_of_one_collection_are_compared_by_its_own_ids(one: str, other: str, names: tuple[str, str, str]) -> None:
    """The first task's one test image is the other's, whose second shows its patient too."""
    tasks = [catalog.load_task(name) for name in (one, other)]
    who = {names[0]: names[0][:8], names[1]: names[0][:8], names[2]: names[2][:8]}

    def part(*ids: str) -> Table:
        return Table(ids, np.ones((len(ids), 1), np.int8), ("Mass",), tuple(who[image] for image in ids))

    sides = ({"train": part(names[2]), "test": part(names[0])}, {"all": part(names[0], names[1])})
    found = {
        task.name: own
        for task, parts in zip(tasks, sides, strict=True)
        if (own := traced(task, Path(), LabelledParts(parts, ()))) is not None
    }
    told = {(f.count, f.total) for f in between(found) if f.scope == f"{one} and {other}"}
    back = [(f.count, f.total) for f in between(found) if f.scope == f"{other} and {one}"]
    assert told == {(1, 1)} and back == [(1, 2), (2, 2)]
    assert list(same_collection(tasks, found)) == []


@pytest.fixture(scope="module")
def findings(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What `cxrbench audit` finds in all splits of the official label tables."""
    root = lay_out(shared / "data_facts" / "labels", tmp_path_factory.mktemp("official"))
    places = [f"--data-root={task.name}={task}" for task in sorted(root.iterdir())]
    done = CliRunner().invoke(app, ["audit", "--split", "all", "-f", "json", "--out", str(root / "results"), *places])
    assert done.exit_code == 0, done.output
    return list(json.loads(done.stdout)["findings"])


def one(findings: list[dict[str, Any]], kind: str, scope: str, words: str) -> dict[str, Any]:
    found = [f for f in findings if f["kind"] == kind and f["scope"] == scope and words in f["text"]]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.slow
def test_glorias_rsna_split_shows_patients_of_its_training_part(findings: list[dict[str, Any]]) -> None:
    found = one(findings, "shared patients", "rsna, split gloria", "images of test show a patient who is in train")
    assert (found["count"], found["total"]) == (2749, 4003)
    assert round(100 * found["share"]) == 69
    assert found["text"].endswith("; 2738 of 3989 without the 82 images whose patient is doubtful")


@pytest.mark.slow
@pytest.mark.parametrize(("task", "split"), SPLITS)
def test_overlaps_are_those_in_the_published_facts(task: str, split: str, findings: list[dict[str, Any]]) -> None:
    facts, scope = DIGESTS[task][f"{task}.{split}"], f"{task}, split {split}"
    for other in ("test", "valid"):
        if told := facts.get(f"overlap_train_{other}"):
            found = one(findings, "shared images", scope, f"train and {other} share")
            assert found["count"] == told["shared_ids"]
            assert f"in {told['rows_of_second_affected']} of" in found["text"]
    if told := facts.get("nih_patient_leak_train_to_test"):
        found = one(findings, "shared patients", scope, "images of test show a patient who is in train")
        counts = told["images_of_second_with_nih_patient_in_first"], told["of_unique_images"]
        assert (found["count"], found["total"]) == counts


@pytest.mark.slow
def test_the_authors_covid_lists_share_no_image(findings: list[dict[str, Any]]) -> None:
    assert one(findings, "shared images", "covid, split dlilp-author-list", "train and test")["count"] == 0


@pytest.mark.slow
def test_folds_of_chexpert5x200_share_the_patients_of_the_published_facts(findings: list[dict[str, Any]]) -> None:
    parts = DIGESTS["chexpert5x200"]["chexpert5x200.dlilp-folds"]["parts"]
    for fold, told in parts.items():
        found = one(findings, "shared patients", f"chexpert5x200, split gloria, fold {fold} of 5, K = 16", "of test")
        assert f"({told['patients_in_both']} patients)" in found["text"]
    assert one(findings, "shared patients", "chexpert5x200, split gloria", "966 patients")["count"] == 34


@pytest.mark.slow
def test_chexperts_training_table_holds_the_tasks_patients(findings: list[dict[str, Any]]) -> None:
    facts = DIGESTS["chexpert5x200"]["chexpert5x200.gloria"]
    found = one(findings, "pre-training", "chexpert5x200", "frontal images")
    assert found["total"] - found["count"] == facts["frontal_train_without_these_patients"]


@pytest.mark.slow
def test_nih_lt_and_rsna_are_found_to_be_one_collection(findings: list[dict[str, Any]]) -> None:
    facts = DIGESTS["nih"]["nih_lt.dlilp-test"]
    found = one(findings, "data sets", "nih_lt and rsna", "images of nih_lt's part test are in rsna")
    assert found["count"] == facts["images_that_are_rsna_images"]
    found = one(findings, "data sets", "nih_lt and rsna", "patients who are in rsna")
    assert (found["count"], found["total"]) == (facts["images_of_patients_seen_in_rsna"], 300)
    assert found["text"].endswith("; 260 of 300 without 98 images whose match is doubtful")


@pytest.mark.slow
def test_what_ids_cannot_tell_is_said(findings: list[dict[str, Any]]) -> None:
    unknown = {f["scope"]: f["text"] for f in findings if f["kind"] == "not known"}
    assert "patients" in unknown["siim, split dlilp-rows"]
    assert "no folder was named" in unknown["mimic5x200, split dlilp"]
    assert "of siim do not say" in unknown["siim and rsna"]
