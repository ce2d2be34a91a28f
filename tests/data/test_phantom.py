import csv
import errno
import gzip
import io
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from cxrbench.data import phantom_mark
from cxrbench.errors import DataError, SpecError
from cxrbench.phantom.develop import run_lengths
from cxrbench.phantom.draw import draw, signs, sketch
from cxrbench.phantom.layouts.order import layout_facts, order
from cxrbench.phantom.reports import phrases, report
from cxrbench.phantom.scene import patient
from cxrbench.phantom.signs import RESHAPES
from cxrbench.phantom.write import LAYOUTS, Summary, tasks, write
from cxrbench.store import digest

FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
NORMAL = {"normal", "no finding"}
Written = Callable[[str], Summary]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """The phantom of a task with four images per class, 96 pixels wide, drawn once for the module."""
    out = tmp_path_factory.mktemp("phantom")
    return lambda task: write(task, out, images_per_class=4, size=(96, 96), seed=5)


def rows(path: Path) -> list[dict[str, str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return list(csv.DictReader(io.StringIO(text)))


def tree_digest(root: Path) -> str:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return digest.of_lines(f"{path.relative_to(root)} {digest.of_file(path)}" for path in files)


def picture(findings: tuple[str, ...], seed: int, size: int, child: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return draw(findings, patient(rng, child), (size, size), rng)


@pytest.mark.parametrize("size", [(256, 256), (97, 140), (700, 560)])
def test_a_radiograph_has_the_size_and_range_asked_for(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = draw(["Pneumonia"], patient(rng), size, rng)
    assert image.shape == size
    assert image.dtype == np.float32
    assert image.min() >= 0
    assert image.max() <= 1
    assert image.std() > 0.1


def test_the_same_generator_draws_the_same_picture() -> None:
    assert np.array_equal(picture(("Edema",), 3, 128), picture(("Edema",), 3, 128))
    assert not np.array_equal(picture(("Edema",), 3, 128), picture(("Edema",), 4, 128))


def test_air_is_dark_lungs_are_grey_and_bone_is_bright() -> None:
    rng = np.random.default_rng(1)
    drawn = sketch([], patient(rng), (256, 256), rng)
    lung, corner, middle = (
        drawn.image[drawn.lungs > 0.9].mean(),
        drawn.image[:20, :20].mean(),
        drawn.image[150:, 120:136].mean(),
    )
    assert corner < 0.15 < lung < middle - 0.15


@pytest.mark.parametrize("finding", [name for name, drawn in signs().items() if drawn])
def test_every_finding_shows_beside_the_same_patient_without_it(finding: str) -> None:
    changed = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        person = patient(rng)
        with_it, without = (draw(f, person, (128, 128), np.random.default_rng(seed)) for f in ([finding], []))
        blocks = (with_it - without).reshape(16, 8, 16, 8).mean((1, 3))
        changed.append(np.abs(blocks).max())
    # a changed shape also moves the vessels, which alone changes a block by about 0.07; a block's noise is below 0.01
    reshaped = any(sign in RESHAPES for sign in signs()[finding])
    assert np.median(changed) > (0.13 if reshaped else 0.04)


def test_an_unknown_finding_is_refused_by_name() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(SpecError, match=r"'Scurvy'.*Atelectasis"):
        draw(["Scurvy"], patient(rng), (64, 64), rng)


def test_every_class_of_every_task_has_its_own_signs() -> None:
    for task, facts in layout_facts().items():
        known = [signs()[name] for name in facts.classes if name in signs()]
        assert len(set(known)) == len(known), task
        assert all(name in signs() for findings in facts.others for name in findings)


def features(image: np.ndarray) -> np.ndarray:
    """Five coarse maps (5, 16, 16) of brightness, contrast and edges, each free of exposure."""
    side = image.shape[0] // 16
    edges = np.abs(np.diff(image, axis=0, prepend=0))
    blocks, steps = (a.reshape(16, side, 16, side) for a in (image, edges))
    maps = [blocks.mean((1, 3)), blocks.std((1, 3)), blocks.min((1, 3)), blocks.max((1, 3)), steps.mean((1, 3))]
    return np.stack([(m - m.mean()) / m.std() for m in maps])


SIGNAL = [
    ("5x200", FIVE, 16),
    ("rsna", ("Normal", "Pneumonia"), 24),
    ("siim", ("Normal", "Pneumothorax"), 24),
    ("covid", ("COVID", "Lung_Opacity", "Normal", "Viral Pneumonia"), 16),
    ("vindr", layout_facts()["vindr"].classes, 16),
    pytest.param("nih_lt", layout_facts()["nih_lt"].classes, 16, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("task", "classes", "count"), SIGNAL)
def test_findings_can_be_learnt_but_not_from_exposure(task: str, classes: tuple[str, ...], count: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    seeds = [(k, n) for k in range(len(classes)) for n in range(2 * count)]
    images = [picture((classes[k],), 1000 * k + n, 128, child=task == "vindr") for k, n in seeds]
    label, train = np.array([k for k, _ in seeds]), np.array([n < count for _, n in seeds])
    maps = np.stack([features(image) for image in images])
    plain, mirrored = (m.reshape(len(images), -1) for m in (maps, maps[..., ::-1]))
    model = LogisticRegression(C=0.01, max_iter=500)
    model.fit(np.concatenate([plain[train], mirrored[train]]), np.tile(label[train], 2))
    chance, hits = 1 / len(classes), model.predict(plain[~train]) == label[~train]
    assert hits.mean() > chance + 2 * np.sqrt(chance * (1 - chance) / hits.size)
    brightness = np.array([image.mean() for image in images])
    for normal in [k for k, name in enumerate(classes) if name.lower() in NORMAL]:
        for other in set(range(len(classes))) - {normal}:
            pair = (label == normal) | (label == other)
            assert 0.2 < roc_auc_score(label[pair] == other, brightness[pair]) < 0.8


@pytest.mark.parametrize("task", tasks())
def test_every_data_set_says_that_it_is_made(task: str, written: Written) -> None:
    summary = written(task)
    told = json.loads((summary.root / phantom_mark.NAME).read_text())
    assert "nobody" in told["note"]
    assert told["request"]["seed"] == 5
    assert told["images"] == summary.images > 0
    assert not list(summary.root.parent.glob("*.unfinished"))


@pytest.mark.parametrize("task", ["siim", "vindr", "mimic5x200"])
def test_the_same_seed_gives_the_same_bytes(task: str, written: Written, tmp_path: Path) -> None:
    again = write(task, tmp_path, images_per_class=4, size=(96, 96), seed=5)
    assert tree_digest(again.root) == tree_digest(written(task).root)
    other = write(task, tmp_path / "other", images_per_class=4, size=(96, 96), seed=6)
    assert tree_digest(other.root) != tree_digest(again.root)


@pytest.mark.slow
def test_several_processes_give_the_same_bytes(written: Written, tmp_path: Path) -> None:
    shared_out = write("rsna", tmp_path, images_per_class=4, size=(96, 96), seed=5, workers=2)
    assert tree_digest(shared_out.root) == tree_digest(written("rsna").root)


def test_a_phantom_that_is_there_is_kept_and_nothing_else_is_overwritten(tmp_path: Path) -> None:
    first = write("covid", tmp_path, images_per_class=1, size=(64, 64))
    stamp = (first.root / phantom_mark.NAME).stat().st_mtime_ns
    assert write("covid", tmp_path, images_per_class=1, size=(64, 64)) == first
    assert (first.root / phantom_mark.NAME).stat().st_mtime_ns == stamp
    with pytest.raises(DataError, match="made otherwise"):
        write("covid", tmp_path, images_per_class=2, size=(64, 64))
    (tmp_path / "real" / "COVID-19_Radiography_Dataset").mkdir(parents=True)
    with pytest.raises(DataError, match="may be a real data set"):
        write("covid", tmp_path / "real", images_per_class=1, size=(64, 64))


@pytest.mark.parametrize(("hours", "kept"), [(1, True), (30, False)])
def test_leftovers_go_but_nothing_that_somebody_may_be_filling(hours: int, kept: bool, tmp_path: Path) -> None:
    begun = tmp_path / ".COVID-19_Radiography_Dataset.0123.unfinished"
    half = begun / "COVID" / "images" / "COVID-999.png"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    then = time.time() - 100 * 3600
    for path in (begun, begun / "COVID", half.parent, half):
        os.utime(path, (then, then))
    os.utime(half, (time.time() - hours * 3600,) * 2)
    summary = write("covid", tmp_path, images_per_class=1, size=(64, 64))
    assert half.exists() == kept
    assert not list(summary.root.rglob("COVID-999.png"))


def drawing_meanwhile(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """Something happens while a COVID phantom is drawn: its pictures are there, its tables are not yet."""
    layout = LAYOUTS["covid"]

    def tables(*asked: Any) -> Mapping[str, bytes]:
        monkeypatch.setattr("cxrbench.phantom.write.LAYOUTS", LAYOUTS)
        meanwhile()
        return layout.tables(*asked)

    monkeypatch.setattr("cxrbench.phantom.write.LAYOUTS", {**LAYOUTS, "covid": replace(layout, tables=tables)})


def test_two_that_draw_the_same_at_once_both_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Summary] = []
    drawing_meanwhile(monkeypatch, lambda: made.append(write("covid", tmp_path, images_per_class=1, size=(64, 64))))
    made.append(write("covid", tmp_path, images_per_class=1, size=(64, 64)))
    assert made[0] == made[1]
    assert [path.name for path in tmp_path.iterdir()] == [made[0].root.name]
    alone = write("covid", tmp_path / "alone", images_per_class=1, size=(64, 64))
    assert tree_digest(alone.root) == tree_digest(made[0].root)


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tmp_path / "COVID-19_Radiography_Dataset" / "COVID"
    drawing_meanwhile(monkeypatch, lambda: real.mkdir(parents=True))
    with pytest.raises(DataError, match="may be a real data set"):
        write("covid", tmp_path, images_per_class=1, size=(64, 64))
    assert [path.name for path in tmp_path.iterdir()] == ["COVID-19_Radiography_Dataset"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"file.*Not a directory"):
        write("covid", tmp_path / "file" / "out", images_per_class=1, size=(64, 64))

    def full() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    drawing_meanwhile(monkeypatch, full)
    with pytest.raises(DataError, match=f"{tmp_path}.*No space left"):
        write("covid", tmp_path / "out", images_per_class=1, size=(64, 64))
    assert not list((tmp_path / "out").iterdir())


def test_quotas_follow_a_number_or_a_mapping_and_nothing_unknown() -> None:
    assert order("nih_lt", 10, "small", 0).quotas == {"train": 10, "balanced-val": 5, "balanced-test": 2, "test": 1}
    assert order("rsna", {"Normal": 7}, "true", 0).quotas["Normal"] == 7
    assert order("rsna", None, "true", 0).size == (1024, 1024)
    for wrong in ({"task": "mnist"}, {"quota": {"train": 3, "trian": 1}}, {"quota": {"train": -1}}, {"size": (8, 8)}):
        with pytest.raises(SpecError):
            order(str(wrong.get("task", "nih_lt")), wrong.get("quota"), wrong.get("size", "small"), 0)  # type: ignore[arg-type]


def test_chexpert_has_a_pool_for_every_class_and_rows_that_no_pool_takes(written: Written) -> None:
    summary = written("chexpert5x200")
    root = summary.root
    table, dense = rows(root / "train.csv"), rows(root / "train_visualCheXbert.csv")
    assert [r["Path"] for r in table] == [r["Path"] for r in dense]
    assert {(root.parent / r["Path"]).is_file() for r in table} == {True}
    assert len(table) == len(list(root.rglob("*.jpg"))) == summary.images
    asked = [*FIVE, *("Enlarged Cardiomediastinum", "Lung Lesion", "Lung Opacity", "Pneumonia", "Pneumothorax")]
    asked += ["Pleural Other", "Fracture", "Support Devices"]
    frontal = [r for r in table if r["Frontal/Lateral"] == "Frontal"]
    pools = Counter(n for r in frontal for n in FIVE if all(float(r[o] or 0) == (o == n) for o in asked))
    assert all(pools[name] >= 4 for name in FIVE)
    assert any(r["Frontal/Lateral"] == "Lateral" and r["AP/PA"] == "" for r in table)
    assert {r[n] for r in table for n in asked} == {"", "0.0", "1.0", "-1.0"}
    assert {r["No Finding"] for r in table} == {"", "1.0"}
    assert {r[n] for r in dense for n in asked} == {"0.0", "1.0"}


def test_mimic_tables_pictures_and_reports_tell_the_same(written: Written) -> None:
    root = written("mimic5x200").root
    split = rows(root / "mimic-cxr-2.0.0-split.csv.gz")
    meta = {r["dicom_id"]: r for r in rows(root / "mimic-cxr-2.0.0-metadata.csv.gz")}
    labels = {r["study_id"]: r for r in rows(root / "mimic-cxr-2.0.0-chexpert.csv.gz")}
    names = [*labels[split[0]["study_id"]]][2:]
    assert names == sorted(names)
    subjects: dict[str, set[str]] = {name: set() for name in FIVE}
    for r in split:
        folder = f"p{r['subject_id'][:2]}/p{r['subject_id']}/s{r['study_id']}"
        assert (root / "files" / folder / f"{r['dicom_id']}.jpg").is_file()
        text = (root / "mimic-cxr-reports" / "files" / f"{folder}.txt").read_text()
        assert "FINDINGS:" in text
        assert "IMPRESSION:" in text
        study = labels[r["study_id"]]
        only = [n for n in FIVE if study[n] == "1.0"]
        if meta[r["dicom_id"]]["ViewPosition"] in {"AP", "PA"} and len(only) == 1:
            subjects[only[0]].add(r["subject_id"])
            assert any(word in text.lower() for word in _words(only[0]))
    assert all(len(who) >= 4 for who in subjects.values())
    assert "LATERAL" in {m["ViewPosition"] for m in meta.values()}
    sentences = rows(root / "labels_individual_sentences.csv")
    assert {r["patient"][1:] for r in sentences} == set(labels)
    assert {"1.0", "0.0", ""} <= {r[n] for r in sentences for n in FIVE}


def _words(finding: str) -> set[str]:
    """Words of which every sentence on a finding has one."""
    return {"Cardiomegaly": {"heart", "cardi"}, "Pleural Effusion": {"effusion", "fluid"}}.get(
        finding, {finding.lower()[:11], "consolidated", "edema", "atelectasis"}
    )


def test_a_report_states_its_findings_and_denies_no_drawn_one() -> None:
    names = [*phrases().present]
    for seed in range(40):
        rng = np.random.default_rng(seed)
        drawn = [names[seed % len(names)]]
        made = report(drawn, {drawn[0]: "left"}, seed % 2 == 0, rng)
        assert made.labels[drawn[0]] == 1.0
        assert made.labels.get("No Finding") in ({None} if drawn != ["Support Devices"] else {None, 1.0})
        assert "{" not in made.text("s1")
    assert report(["No Finding"], {}, False, np.random.default_rng(0)).labels["No Finding"] == 1.0


def test_rsna_tables_run_parallel_with_one_row_a_box(written: Written) -> None:
    import pydicom

    root = written("rsna").root
    labels, classes = rows(root / "stage_2_train_labels.csv"), rows(root / "stage_2_detailed_class_info.csv")
    assert [r["patientId"] for r in labels] == [r["patientId"] for r in classes]
    for label, kind in zip(labels, classes, strict=True):
        positive = kind["class"] == "Lung Opacity"
        assert label["Target"] == str(int(positive))
        assert (label["x"] != "") == positive
        if positive:
            assert 0 <= float(label["x"]) < float(label["x"]) + float(label["width"]) <= 96
            assert 0 <= float(label["y"]) < float(label["y"]) + float(label["height"]) <= 96
    pictures = {r["patientId"]: r["class"] for r in classes}
    assert Counter(pictures.values()) == dict.fromkeys(layout_facts()["rsna"].classes, 4)
    assert {path.stem for path in (root / "stage_2_train_images").iterdir()} == set(pictures)
    one = pydicom.dcmread(root / "stage_2_train_images" / f"{next(iter(pictures))}.dcm")
    assert one.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50"
    assert (one.PhotometricInterpretation, one.Modality, one.BitsStored) == ("MONOCHROME2", "CR", 8)
    assert one.PatientID == next(iter(pictures))
    assert one.pixel_array.shape == (96, 96)
    assert one.pixel_array[:8, :8].mean() < 60 < one.pixel_array.max()


def test_siim_masks_lie_in_the_picture_and_some_have_several(tmp_path: Path) -> None:
    root = write("siim", tmp_path, images_per_class={"positive": 24, "negative": 6}, size=(96, 96), seed=5).root
    table = rows(root / "train-rle.csv")
    assert [*table[0]] == ["ImageId", " EncodedPixels"]
    code = [(r["ImageId"], r[" EncodedPixels"]) for r in table]
    positive = Counter(who for who, runs in code if runs != " -1")
    assert len(positive) == 24
    assert max(positive.values()) > 1
    assert sum(runs == " -1" for _, runs in code) == 6
    files = {path.stem: path for path in root.glob("dicom-images-train/*/*/*.dcm")}
    assert {who for who, _ in code} < set(files)  # a few files have no row
    for _, runs in code:
        assert runs[0] == " "
        if runs != " -1":
            assert 0 < sum(map(int, runs.split()[1::2])) < sum(map(int, runs.split())) <= 96 * 96
    study, series = files[code[0][0]].relative_to(root / "dicom-images-train").parts[:2]
    assert ".3.1.2." in study
    assert ".3.1.3." in series


@settings(max_examples=60, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_run_lengths_tell_the_mask_column_by_column(mask: np.ndarray) -> None:
    numbers = [int(n) for n in run_lengths(mask).split()]
    flat, end = np.zeros(mask.size, bool), 0
    for offset, length in zip(numbers[::2], numbers[1::2], strict=True):
        flat[end + offset : end + offset + length] = True
        end += offset + length
    assert np.array_equal(flat.reshape(mask.shape[::-1]).T, mask)


def test_covid_has_four_folders_with_masks_of_the_same_names(tmp_path: Path) -> None:
    root = write(
        "covid", tmp_path, images_per_class={"Viral Pneumonia": 7, "COVID": 2, "Normal": 2, "Lung_Opacity": 2}
    ).root
    for name in layout_facts()["covid"].classes:
        pictures, masks = (sorted(p.name for p in (root / name / kind).iterdir()) for kind in ("images", "masks"))
        assert pictures == masks
        assert f"{name}-1.png" in pictures
    modes = Counter(Image.open(path).mode for path in root.glob("*/images/*.png"))
    assert modes == {"L": 12, "RGB": 1}
    assert {Image.open(path).size for path in root.glob("*/images/*.png")} == {(299, 299)}
    mask = np.asarray(Image.open(root / "COVID" / "masks" / "COVID-1.png"))
    assert mask.shape == (256, 256)
    assert 0.05 < (mask > 0).mean() < 0.6


def test_nih_lt_parts_share_no_patient_and_agree_with_data_entry(written: Written) -> None:
    root = written("nih_lt").root
    classes = layout_facts()["nih_lt"].classes
    parts = {
        p: rows(root / "LongTailCXR" / f"nih-cxr-lt_single-label_{p}.csv") for p in ("train", "balanced-val", "test")
    }
    balanced = rows(root / "LongTailCXR" / "nih-cxr-lt_single-label_balanced-test.csv")
    assert {r["id"] for r in balanced} < {r["id"] for r in parts["test"]}
    patients = [{r["subject_id"] for r in part} for part in parts.values()]
    assert sum(map(len, patients)) == len(set.union(*patients))
    entry = {r["Image Index"]: r for r in rows(root / "Data_Entry_2017_v2020.csv")}
    assert {path.name for path in (root / "images").iterdir()} == set(entry)
    for r in [row for part in parts.values() for row in part]:
        shown = [name for name in classes if r[name] == "1"]
        assert len(shown) == 1
        assert entry[r["id"]]["Finding Labels"] in {shown[0], "No Finding"}
        assert int(r["id"][:8]) == int(entry[r["id"]]["Patient ID"]) == int(r["subject_id"])
    assert Counter(name for r in parts["train"] for name in classes if r[name] == "1") == dict.fromkeys(classes, 4)
    assert any("|" in r["Finding Labels"] for r in entry.values())
    assert max(Counter(r["Patient ID"] for r in entry.values()).values()) > 1


def test_vindr_stores_both_polarities_at_12_to_16_bits(written: Written) -> None:
    import pydicom

    root = written("vindr").root
    columns, five = layout_facts()["vindr"].columns, layout_facts()["vindr"].classes
    kinds, syntaxes = set(), set()
    for part in ("train", "test"):
        table = rows(root / f"image_labels_{part}.csv")
        assert tuple(table[0]) == ("image_id", "rad_ID", *columns)
        assert {p.stem for p in (root / part).iterdir()} == {r["image_id"] for r in table}
        assert {r["image_id"] for r in rows(root / f"annotations_{part}.csv")} == {r["image_id"] for r in table}
        single = Counter(n for r in table for n in five if sum(float(r[c]) for c in five) == 1 and r[n] == "1.0")
        assert all(single[name] >= 4 for name in five)
        for path in (root / part).iterdir():
            one = pydicom.dcmread(path)
            assert one.BitsStored in {12, 14, 16}
            assert "PatientID" not in one
            kinds.add(one.PhotometricInterpretation)
            syntaxes.add(str(one.file_meta.TransferSyntaxUID))
            corner = one.pixel_array[:6, :6].mean() / (1 << one.BitsStored)
            assert (corner > 0.7) == (one.PhotometricInterpretation == "MONOCHROME1")
    assert kinds == {"MONOCHROME1", "MONOCHROME2"}
    assert syntaxes == {"1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"}
