"""Spoilt and odd tables in the generic source: each is read right, or refused with a word of its own."""

import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from made_own import own_task

from cxrbench.data.sources import csv as csv_source
from cxrbench.errors import DataError

PLAIN = "file,label\na,A\nb,B\nc,A\nd,B\n"
ONE = {"table": "t.csv", "image": "file", "label": "label"}
TARGET = {"table": "t.csv", "image": "patientId", "label": "Target"}
SIGNS = ["0", "1"]


def packed_zip(text: str, name: str = "t.csv") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, text)
    return out.getvalue()


def counts(tmp_path: Path, content: bytes, csv: Mapping[str, Any], name: str = "t.csv", **facts: Any) -> dict[str, int]:
    """Rows by class of all parts together."""
    (tmp_path / name).write_bytes(content)
    task = own_task(tmp_path, csv={**csv, "table": csv.get("table", name)}, **facts)
    parts = csv_source.read_parts(tmp_path, task, "own").parts.values()
    return {name: sum(part.counts[name] for part in parts) for name in task.classes}


@pytest.mark.parametrize(
    ("content", "csv", "facts", "expected"),
    [
        pytest.param(
            b"Path,label\ntrain\\p1\\a.jpg,A\ntrain\\p2\\b.jpg,B\n",
            {**ONE, "image": "Path"},
            {},
            (1, 1),
            id="back slashes",
        ),
        pytest.param(
            b"\xef\xbb\xbfImage Index,Labels\r\n1.png,A|B\r\n2.png,B\r\n",
            {"table": "t.csv", "image": "Image Index", "label": "Labels", "separator": "|"},
            {"kind": "multi-label"},
            (1, 2),
            id="mark and CRLF",
        ),
        pytest.param(
            b"Path,Sex,A,B\nx/1.jpg,Female,1.0,\nx/2.jpg,Female,,-1.0\nx/3.jpg,Unknown,,0.0\n",
            {"table": "t.csv", "image": "Path", "uncertain": "ones"},
            {"kind": "multi-label"},
            (1, 1),
            id="blank, -1, 0 and 1",
        ),
        pytest.param(
            b",Path,A,B\n0,x/1.png,1,0\n1,x/2.png,0,1\n",
            {"table": "t.csv", "image": "Path"},
            {},
            (1, 1),
            id="index column",
        ),
        pytest.param(
            b"Image Index,Labels,Size[Width,Height],\n1.png,A,2682,2749,\n2.png,B,2500,2048,\n",
            {"table": "t.csv", "image": "Image Index", "label": "Labels"},
            {},
            (1, 1),
            id="trailing comma, comma in a name",
        ),
        pytest.param(gzip.compress(PLAIN.encode(), mtime=0), ONE, {}, (2, 2), id="gzip named .csv"),
        pytest.param(packed_zip(PLAIN), ONE, {}, (2, 2), id="ZIP named .csv"),
        pytest.param(f"sep=,\r\n{PLAIN}".encode(), ONE, {}, (2, 2), id="Excel's sep= line"),
        pytest.param(PLAIN.encode("utf-16"), ONE, {}, (2, 2), id="UTF-16"),
        pytest.param(b"file, label\na, A\n b,B\n", ONE, {}, (1, 1), id="leading blanks"),
        pytest.param(
            b"patientId,x,Target\naaa,,0\nbbb,1.0,1\nbbb,5.0,1\nccc,,0\n",
            TARGET,
            {"labels": SIGNS},
            (2, 1),
            id="a row a box",
        ),
    ],
)  # fmt: skip
def test_odd_tables_are_read_right(
    content: bytes, csv: dict[str, Any], facts: dict[str, Any], expected: tuple[int, ...], tmp_path: Path
) -> None:
    assert tuple(counts(tmp_path, content, csv, **facts).values()) == expected


def test_plain_text_named_gz_is_read(tmp_path: Path) -> None:
    assert counts(tmp_path, PLAIN.encode(), {**ONE, "table": "t.csv.gz"}, "t.csv.gz") == {"A": 2, "B": 2}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"file,label\n", "has a header but no rows"),
        (b'file,label\n"a,A\nb,B\n', "Is a quote never closed"),
        (b"file,label\na,A\nb,B,extra,more\n", "data row 2 has 4 fields, the header 2"),
        (b"file,label\na,A\nb,yes\n", "data row 2: label is 'yes', and the labels are 'A', 'B'"),
        (b"file,label\na,A\nb,\n", "data row 2: A is blank"),
        (b"file,label\na,A\n,B\n", "data row 2 names no image"),
        ("file,label\na,A\nb,a\xf1o\n".encode("latin-1"), "is not UTF-8"),
        (b"file,class\na,A\n", "has no column 'label'; its columns are 'file', 'class'"),
        (PLAIN.replace(",", ";").encode(), "They are separated by semicolons"),
        (PLAIN.replace(",", "\t").encode(), "They are separated by tabs"),
        (b"file,label,label\na,A,B\n", "has two columns named 'label'"),
        (b"file,label\na,A\na,B\nb,B\n", "rows contradict each other: a has other labels in data row 2"),
        (b"file,label\n1.23E+07,A\nb,B\n", "a spreadsheet program made a number of it"),
        (gzip.compress(PLAIN.encode(), mtime=0)[:-9], "gzip stream is cut"),
        (packed_zip(PLAIN, "other.csv"), "is a ZIP with 0 tables t.csv; it holds other.csv"),
        (packed_zip("", "xl/workbook.xml"), "is an Excel workbook"),
        (b"<!DOCTYPE html><html><head><title>Sign in | Kaggle</title></head></html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "is a pointer of Git LFS"),
        (b'{"message": "not found"}', "is JSON"),
        (b"file,label\na,A\n\0\0\0,\0\n", "NUL bytes"),
        (b"PAR1 and no more of it", "is a Parquet file that is cut or damaged"),
    ],
)  # fmt: skip
def test_spoilt_tables_are_refused_by_cause(content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        counts(tmp_path, content, ONE)
    assert said in str(refused.value) and str(tmp_path / "t.csv") in str(refused.value)


@pytest.mark.parametrize("name", ["t (1).csv", "t.CSV", "t.csv.crdownload", "T.csv"])
def test_a_table_under_a_near_name_is_told(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(PLAIN)
    with pytest.raises(DataError, match=r"t.csv: there is no such table. There is '.*': is it the table\?"):
        csv_source.tables(tmp_path, own_task(tmp_path, csv=ONE), "own")


def test_shared_tables_are_read_or_refused_by_name(shared: Path) -> None:
    """The real files, of which the ones above are copies of the kinds."""
    folder = shared / "bad_images" / "csv"
    task = own_task(folder, labels=SIGNS, csv={**TARGET, "table": "rsna_duplicate_rows.csv"})
    parts = csv_source.read_parts(folder, task, "own").parts.values()
    assert sum(map(len, parts)) == 3
    for name in ("rsna_conflict", "semicolon", "missing_column", "empty", "header_only", "unclosed_quote", "ragged"):
        spoilt = own_task(folder, labels=SIGNS, csv={**TARGET, "table": f"{name}.csv"})
        with pytest.raises(DataError, match=name):
            csv_source.read_parts(folder, spoilt, "own")
