"""Label tables: what is read, and what is refused with a useful word."""

import errno
import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.data import tables
from cxrbench.data.sources import chexpert5x200, rsna, siim
from cxrbench.errors import DataError


def spoilt(shared: Path, name: str) -> Path:
    return shared / "bad_images" / "csv" / name


@pytest.mark.parametrize(
    ("name", "read", "images", "positive"),
    [
        ("siim_leading_space.csv", siim.masks, 3, 1),
        ("siim_no_space.csv", siim.masks, 2, 1),
        ("rsna_duplicate_rows.csv", rsna.targets, 3, 1),
    ],
)
def test_images_and_positives_of_odd_tables(
    shared: Path, name: str, read: Callable[[Path], rsna.RsnaRows], images: int, positive: int
) -> None:
    rows = read(spoilt(shared, name))
    assert len(set(rows.ids)) == images
    assert len({i for i, value in zip(rows.ids, rows.index, strict=True) if value}) == positive


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("rsna_conflict.csv", "aaa has Target 0 and, in data row 2, 1"),
        ("semicolon.csv", "no column 'patientId', 'Target'; its columns are 'patientId;Target'"),
        ("missing_column.csv", "no column 'Target'; its columns are 'patientId', 'class'"),
        ("empty.csv", "is empty"),
        ("header_only.csv", "no rows"),
        ("unclosed_quote.csv", "quote"),
        ("ragged.csv", "data row 2 has 4 fields, the header 2: bbb,1,extra,more"),
        ("text_in_label.csv", "data row 2: Target is 'yes'"),
        ("truncated.csv.gz", "gzip stream is cut"),
    ],
)
def test_spoilt_tables_are_refused_with_file_and_reason(shared: Path, name: str, said: str) -> None:
    with pytest.raises(DataError) as refused:
        rsna.targets(spoilt(shared, name))
    assert name in str(refused.value)
    assert said in str(refused.value)


@pytest.mark.parametrize("name", ["really_gzip.csv", "plain_named.csv.gz"])
def test_content_decides_what_is_gzip(shared: Path, name: str) -> None:
    assert rsna.targets(spoilt(shared, name)).ids[0] == "aaa"


def test_another_encoding_is_refused_by_file_name(shared: Path) -> None:
    with pytest.raises(DataError, match=r"latin1\.csv: is not UTF-8"):
        tables.read_table(spoilt(shared, "latin1.csv"), ("patientid", "notes"))


def test_an_unknown_class_is_refused_with_row_and_value(shared: Path) -> None:
    path = spoilt(shared, "unknown_class.csv")
    read = tables.read_table(path, ("Path", "label"))
    with pytest.raises(DataError, match="data row 2: label is 'Pnemonia'; known are 'Pneumonia'"):
        tables.one_of(path, read, "label", ("Pneumonia",))


def test_an_unknown_rsna_class_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "stage_2_detailed_class_info.csv"
    path.write_text("patientId,class\na,Normal\nb,Lung opacity\n")
    with pytest.raises(DataError, match="data row 2: class is 'Lung opacity'"):
        rsna.kinds(path)


def test_byte_order_mark_and_line_ends_do_not_reach_the_names(shared: Path) -> None:
    read = tables.read_table(spoilt(shared, "bom_crlf.csv"), ("Image Index", "Finding Labels"))
    assert read["Finding Labels"].tolist() == ["Cardiomegaly|Emphysema"]


def test_a_trailing_comma_shifts_nothing(shared: Path) -> None:
    read = tables.read_table(
        spoilt(shared, "nih_2017_trailing_comma.csv"), ("Image Index", "Patient ID", "Patient Age")
    )
    assert read["Image Index"].tolist() == ["00000001_000.png", "00000002_000.png"]
    assert read["Patient Age"].tolist() == ["058Y", "411Y"]


def test_a_trailing_comma_without_a_header_for_it_shifts_nothing(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,label\na,1,\nb,0,\n")
    assert tables.read_table(path, ("id",))["id"].tolist() == ["a", "b"]


def test_an_index_column_is_no_column(shared: Path) -> None:
    path = spoilt(shared, "index_column.csv")
    read = tables.read_table(path, ("Path", "COVID", "Normal"))
    assert read["Path"].tolist() == ["COVID/images/COVID-1.png", "Normal/images/Normal-1.png"]
    assert tables.labels(path, read, "COVID").tolist() == [1, 0]


def test_chexpert_values_keep_blank_and_uncertain_apart(shared: Path) -> None:
    path = spoilt(shared, "chexpert_values.csv")
    read = tables.read_table(path, ("Path", "Edema", "AP/PA", "Sex"))
    np.testing.assert_array_equal(tables.numbers(path, read, "Edema", (0.0, 1.0, -1.0)), [np.nan, -1.0, 0.0])
    assert read["AP/PA"].tolist()[2] == ""
    assert read["Sex"].tolist()[2] == "Unknown"


def test_windows_separators_name_the_same_image(shared: Path) -> None:
    read = tables.read_table(spoilt(shared, "backslashes.csv"), ("Path", "label"))
    image = chexpert5x200.image_id(read["Path"][0])
    assert image == "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg"
    assert chexpert5x200.patient_of(image) == "patient00001"


@pytest.mark.parametrize("prefix", ["CheXpert-v1.0/", "CheXpert-v1.0-small/", "", "a/b/CheXpert-v1.0/"])
def test_every_prefix_names_the_same_image(prefix: str) -> None:
    assert chexpert5x200.image_id(f"{prefix}train/patient1/study2/view1_frontal.jpg") == (
        "CheXpert-v1.0/train/patient1/study2/view1_frontal.jpg"
    )


def test_every_listed_table_is_covered(shared: Path) -> None:
    named = Path(__file__).read_text(encoding="utf-8")
    expected = (shared / "bad_images" / "expect.csv").read_text(encoding="utf-8").splitlines()
    listed = [line.split(",")[0].removeprefix("csv/") for line in expected if line.startswith("csv/")]
    assert len(listed) == 21
    assert [name for name in listed if name not in named] == []


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,label,label\na,1,0\n")
    with pytest.raises(DataError, match="two columns named 'label'"):
        tables.read_table(path, ("id", "label"))


def test_a_short_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,label\na,1\nb\n")
    with pytest.raises(DataError, match="data row 2 has 1 fields, the header 2"):
        tables.read_table(path, ("id",))


def test_a_blank_label_is_refused_where_none_is_allowed(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("id,label\na,1\nb,\n")
    with pytest.raises(DataError, match="data row 2: label is blank"):
        tables.labels(path, tables.read_table(path, ("id", "label")), "label")


def test_a_table_without_negatives_is_not_siim(tmp_path: Path) -> None:
    path = tmp_path / "train-rle.csv"
    path.write_text("ImageId, EncodedPixels\na, 1 2\nb, 3 4\n")
    with pytest.raises(DataError, match="no image is negative"):
        siim.masks(path)


def test_an_image_with_and_without_a_mask_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "train-rle.csv"
    path.write_text("ImageId, EncodedPixels\na, 1 2\nb,-1\na, -1\n")
    with pytest.raises(DataError, match="contradict"):
        siim.masks(path)


def test_a_missing_table_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no a\.csv\[\.gz\|\.zip\] or b\.csv\[\.gz\|\.zip\]"):
        tables.required(tmp_path, "a", "b")


CELL = st.text(st.characters(codec="utf-8", exclude_characters='\r\n",\0', exclude_categories=["Cs"]), max_size=8)


@given(rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=20), packed=st.booleans())
def test_values_come_back_stripped(
    rows: list[tuple[str, str]], packed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    data = ("id,value\n" + "".join(f"x{a},{b}\n" for a, b in rows)).encode()
    path.write_bytes(gzip.compress(data, mtime=0) if packed else data)
    read = tables.read_table(path, ("id", "value"))
    assert read["id"].tolist() == [f"x{a}".strip() for a, _ in rows]
    assert read["value"].tolist() == [b.strip() for _, b in rows]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_header_is_read_without_the_rows(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    rows = np.random.default_rng(0).bytes(1 << 20)  # neither text nor rows
    path.write_bytes(pack(b'\xef\xbb\xbfPath, "Frontal/Lateral" ,Sex\r\n'.replace(b'"', b"") + rows)[: 1 << 19])
    assert tables.header(path) == ("Path", "Frontal/Lateral", "Sex")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        ("größe,b\n1,2\n".encode("latin-1"), "is not UTF-8"),
        (gzip.compress(b"a,b\n", mtime=0)[:12], "gzip stream is cut"),
        (b"\x1f\x8bnonsense", "gzip stream is cut or damaged"),
        (b'"a,b\n1,2\n', "quote"),
    ],
)
def test_a_spoilt_header_is_refused(data: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path}: .*{said}"):
        tables.header(path)


def test_a_header_ends_at_any_line_end(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for end in ("\n", "\r\n", "\r"):
        path.write_bytes(f"a,b{end}1,2{end}".encode())
        assert tables.header(path) == ("a", "b")


def test_a_table_that_may_not_be_looked_at_is_not_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.stat

    def refusing(path: Path, **options: Any) -> os.stat_result:
        if str(path).endswith("labels.csv"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(os, "stat", refusing)
    with pytest.raises(DataError, match=r"labels\.csv: cannot be looked at: Permission denied"):
        tables.named(tmp_path, "labels")
