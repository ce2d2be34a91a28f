"""A run over real radiographs and over broken files, in the layout of the COVID-19 Radiography Database."""

import csv
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from lab import Lab
from written_facts import write_facts

from cxrbench.runner.run import RunResult
from cxrbench.specs import catalog
from cxrbench.store.embeddings import Store, digest

LABELS = ("COVID", "Normal")
TRAIN = 20  # of each class, and as many shots: every file is needed


@dataclass(frozen=True)
class Collection:
    """Files under the names of a data set: the harness's image id to the file it is a link to, and what is expected."""

    root: Path
    sources: Mapping[str, Path]
    expected: Mapping[Path, str]  # ok, warn, reject, reject_or_ok


@pytest.fixture(scope="module")
def collection(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Collection:
    root = tmp_path_factory.mktemp("real") / "COVID-19_Radiography_Dataset"
    expected = _expected(shared)
    for label in (*LABELS, "Lung_Opacity"):
        (root / label / "images").mkdir(parents=True)
    sources = {}
    for number, path in enumerate(sorted(expected)):
        image = f"{LABELS[number % 2]}/images/{LABELS[number % 2]}-{number // 2 + 1}.png"
        (root / image).symlink_to(path)
        sources[image] = path
    return Collection(root, sources, expected)


def _expected(shared: Path) -> dict[Path, str]:
    """Every real radiograph must be read; of the broken files, what their table says. Folders are no files."""
    with (shared / "real_images" / "labels.csv").open(newline="", encoding="utf-8") as stream:
        found = {shared / "real_images" / row["file"]: "ok" for row in csv.DictReader(stream)}
    with (shared / "bad_images" / "expect.csv").open(newline="", encoding="utf-8") as stream:
        rows = [row for row in csv.DictReader(stream) if not row["file"].startswith("csv/")]
    found |= {shared / "bad_images" / row["file"]: row["expect"] for row in rows}
    return {path: expect for path, expect in found.items() if path.is_file()}


def measured(lab: Lab, collection: Collection, place: Path, decode: str) -> RunResult:
    """One model, zero-shot and probes, such that every file of the collection is needed."""
    task, counts = catalog.load_task("covid"), Counter(image.partition("/")[0] for image in collection.sources)
    test = {label: counts[label] - TRAIN for label in LABELS}
    params = {"order": LABELS, "quotas": {"test": test, "train": dict.fromkeys(LABELS, TRAIN)}}
    split = task.split("phantom").model_copy(update={"params": params, "title": "all files"})
    binary = task.model_copy(update={"groups": {"all": LABELS[::-1]}, "splits": {"phantom": split}})
    return lab.on("covid", collection.root).run(
        place,
        ["small_unimodal"],
        [],
        tasks=[str(write_facts(place / "covid.toml", binary))],
        shots=(TRAIN,),
        settings={"decode": decode},
        batch_size=16,
        max_unreadable=0.5,
    )


COLOUR_DICOM = {"rgb.dcm", "b_rgb8.dcm", "b_rgb8_planar1.dcm"}  # the released reader knows one sample a pixel


@pytest.mark.parametrize("decode", ["released", "radiograph"])
def test_every_readable_file_is_encoded_and_every_other_one_reported(
    decode: str, lab: Lab, collection: Collection, tmp_path: Path
) -> None:
    report = measured(lab, collection, tmp_path, decode)
    assert report.problems == [] and report.skipped == {} and len(report.records) == 2
    files = {collection.root / image: path for image, path in collection.sources.items()}
    refused = {files[path] for path in report.unreadable}
    lost = {path for path in refused if collection.expected[path] == "ok"}
    assert {path.name for path in lost} == (COLOUR_DICOM if decode == "released" else set())
    assert {path for path, expect in collection.expected.items() if expect == "reject"} <= refused
    assert all(path.name in reason for path, reason in report.unreadable.items())
    sound = {digest.of_file(path) for path in files.values() if path not in refused}
    ((key, _),) = Store(tmp_path / "cache").entries()
    known = Store(tmp_path / "cache").read(key)
    assert report.decoded == report.encoded == len(known) == len(sound)
    assert all(content in known for content in sound)


def test_records_count_what_was_left_out_and_tell_what_was_odd(
    lab: Lab, collection: Collection, tmp_path: Path
) -> None:
    report = measured(lab, collection, tmp_path, "radiograph")
    zero_shot, probe = sorted(report.records, key=lambda record: record.protocol.shots or 0)
    reasons = {path.relative_to(collection.root).as_posix(): why for path, why in report.unreadable.items()}
    assert probe.data.left_out.keys() == reasons.keys()
    assert all(reasons[image].endswith(why) for image, why in probe.data.left_out.items())
    assert zero_shot.data.left_out.items() <= probe.data.left_out.items()
    trained = {image for fold in probe.folds for image in fold.train}
    assert len(trained) + probe.folds[0].test_rows == len(collection.sources) - len(reasons)
    odd = {image for image, path in collection.sources.items() if collection.expected[path] == "warn"}
    assert odd <= set(probe.data.notes) | set(reasons)


def test_a_second_run_tells_the_same_and_encodes_nothing(lab: Lab, collection: Collection, tmp_path: Path) -> None:
    first = measured(lab, collection, tmp_path, "radiograph")
    second = measured(lab, collection, tmp_path, "radiograph")
    assert (second.decoded, second.encoded, second.cached) == (0, 0, 2)
    assert second.unreadable == first.unreadable
    assert second.records == first.records
