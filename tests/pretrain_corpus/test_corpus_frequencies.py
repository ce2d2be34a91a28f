"""Finding frequencies against counts made by hand."""

from pathlib import Path

import pytest
from made_corpus import built, chexpert, chexpert_row, mimic_image, mimic_tables, sentence_table, touch

from cxrbench.errors import DataError
from cxrbench.pretrain.corpus.build import Built
from cxrbench.pretrain.frequencies import Frequencies, frequencies, read, write
from cxrbench.store.sealed import DamagedError, write_sealed


@pytest.fixture
def two(tmp_path: Path) -> Built:
    """Three CheXpert images, two with edema; one MIMIC study of two images with two sentences, one of edema."""
    rows = [chexpert_row(f"patient0000{n}/study1/view1_frontal.jpg", Edema=float(n < 2)) for n in range(3)]
    chexpert(tmp_path / "c", rows)
    touch(*(tmp_path / "c" / row["Path"].removeprefix("CheXpert-v1.0/") for row in rows))
    images = [("a", "50000001", "AP", "train"), ("b", "50000001", "PA", "train")]
    mimic_tables(tmp_path / "m", images)
    told = [("s50000001", "Edema.", {"Edema": 1.0}), ("s50000001", "Normal heart.", {"Cardiomegaly": 0.0})]
    sentence_table(tmp_path / "m" / "labels_individual_sentences.csv", told)
    touch(*(mimic_image(tmp_path / "m" / "files", dicom, study) for dicom, study, *_ in images))
    return built({"CHEXPERT": tmp_path / "c", "MIMIC": tmp_path / "m"})


def test_counts_equal_those_made_by_hand(two: Built) -> None:
    found = frequencies(two.corpus)
    assert found.corpus == two.corpus.digest
    assert (found.all.images, found.all.sentences) == (5, 4)
    edema = {name: counted.of_images["edema"] for name, counted in found.sources.items()}
    assert {name: (share.positive, share.of) for name, share in edema.items()} == {"CHEXPERT": (2, 3), "MIMIC": (2, 2)}
    assert found.all.of_images["edema"].share == pytest.approx(4 / 5)
    assert found.all.of_sentences["edema"].share == pytest.approx(2 / 4)
    assert found.sources["CHEXPERT"].of_sentences["edema"].share is None, "CheXpert has no sentence"
    assert found.all.of_images["cardiomegaly"].share == 0


def test_a_class_that_no_label_space_has_is_unknown_and_not_zero(two: Built) -> None:
    found = frequencies(two.corpus).all.of_images["hiatal hernia"]
    assert (found.positive, found.of, found.share) == (0, 0, None)


def test_the_file_gives_back_what_was_written(two: Built, tmp_path: Path) -> None:
    path = tmp_path / "frequencies.json"
    write(frequencies(two.corpus), path)
    assert read(path) == frequencies(two.corpus)
    assert isinstance(read(path), Frequencies)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read(tmp_path / "none.json")
    path = tmp_path / "other.json"
    for text in ('{"corpus": "x"}', "[" * 100_000, ""):
        path.write_text(text)
        with pytest.raises(DamagedError, match=r"other\.json: .*Get a fresh copy"):
            read(path)
    write_sealed(path, {"corpus": "x"})
    with pytest.raises(DataError, match="holds no finding frequencies"):
        read(path)


def test_an_edited_count_is_refused(two: Built, tmp_path: Path) -> None:
    path = tmp_path / "frequencies.json"
    write(frequencies(two.corpus), path)
    images = f'"images": {len(two.corpus)}'
    path.write_text(path.read_text().replace(images, images + "0", 1))
    with pytest.raises(DamagedError, match="does not have its checksum"):
        read(path)
