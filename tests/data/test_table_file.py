"""Label tables as downloads, archives and spreadsheets leave them: read right, or refused by what they are."""

import csv
import gzip
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.data import tables
from cxrbench.data.search import has_table, located, near_names
from cxrbench.data.sources import rsna, siim
from cxrbench.errors import DataError

PLAIN = "id,label\na,1\nb,0\n"


def zipped(**members: str | bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name.replace("__", "/")), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def ids(path: Path) -> list[str]:
    return tables.read_table(path, ("id", "label"))["id"].tolist()


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", zipped(**{"t.csv": PLAIN})),
        ("t.csv.zip", zipped(**{"t.csv": PLAIN})),
        ("t.csv.zip", zipped(**{"folder__T.CSV": PLAIN, "folder__readme.txt": "", "__MACOSX__._t.csv": b"\0\5"})),
        ("t.csv", PLAIN.encode("utf-16")),
        ("t.csv", b"\xfe\xff" + PLAIN.encode("utf-16-be")),
        ("t.csv", PLAIN.encode("utf-32")),
        ("t.csv.gz", gzip.compress(PLAIN.encode("utf-16"), mtime=0)),
        ("t.csv", b"sep=,\r\n" + PLAIN.encode()),
        ("t.csv", b"sep=;\r\n" + PLAIN.replace(",", ";").encode()),
        ("t.csv", b"\xef\xbb\xbfsep=;\n" + PLAIN.replace(",", ";").encode()),
        ("t.csv", b'"sep=\t"\n' + PLAIN.replace(",", "\t").encode()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_a_table_is_packed_in_changes_nothing(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    assert tables.named(tmp_path, "t") == tmp_path / name
    assert ids(tmp_path / name) == ["a", "b"]
    assert tables.header(tmp_path / name) == ("id", "label")


XLSX = zipped(**{"[Content_Types].xml": "<Types/>", "xl__workbook.xml": "<workbook/>"})
DAMAGED = bytearray(zipped(**{"t.csv": PLAIN * 99}))
DAMAGED[45] ^= 0x10


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (XLSX, "is an Excel workbook. Save it as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "is an old Excel workbook"),
        (
            b"<!DOCTYPE html><html><head><title>Sign in | Kaggle</title>",
            r"is a web page .*\('Sign in | Kaggle'\).*login",
        ),
        (b"\n\n <html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code>', "another XML document"),
        (b'{"code":403,"message":"Forbidden"}', "is JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS.*git lfs pull"),
        (b"PAR1" + bytes(99), "is a Parquet file"),
        (b"BZh91AY&SY", "packed with bzip2"),
        (bytes(5000), "begins with NUL bytes"),
        (b"id,label\na,1\n" + bytes(5000), "line 3 holds NUL bytes"),
        (PLAIN.encode("utf-16-le"), "line 1 holds NUL bytes.*UTF-16"),
        (zipped(**{"other.csv": PLAIN}), r"is a ZIP with 0 tables t\.csv; it holds other\.csv"),
        (zipped(**{"a__t.csv": PLAIN, "b__t.csv": PLAIN}), r"is a ZIP with 2 tables t\.csv"),
        (zipped(), "cannot|ZIP|UTF-8|no column"),
        (bytes(DAMAGED), "the ZIP is cut or damaged"),
        (zipped(**{"t.csv": PLAIN * 99})[:-30], "the ZIP is cut or damaged"),
        (b"id,label\na,\xff\n", r"is not UTF-8 \(after line"),
        (PLAIN.encode("utf-16")[:-1], "is not UTF-16"),
        (PLAIN.replace(",", ";").encode(), "no column 'id', 'label'.*separated by semicolons.*sep=;"),
        (PLAIN.replace(",", "\t").encode(), "no column 'id', 'label'.*separated by tabs"),
        (b'"id";"label";"x,y"\n"a";"1";""\n', "no column 'id', 'label'.*separated by semicolons"),
        (b"id,label\n" + b"a" * (17 << 20) + b",1\n", "line 2: field larger than field limit"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_table_is_told_by_what_it_is(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(DataError, match=said) as refused:
        ids(path)
    assert str(refused.value).startswith(f"{path}: ")


def test_a_pipe_is_no_table(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "t.csv")
    with pytest.raises(DataError, match="is a pipe or device"):
        ids(tmp_path / "t.csv")


def test_a_folder_and_what_is_not_there_are_no_tables(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder, not a file"):
        ids(tmp_path)
    for gone in (tmp_path / "t.csv", tmp_path / "no" / "t.csv"):
        with pytest.raises(DataError, match=f"^{gone}: cannot be read: No such file"):
            ids(gone)


def test_a_plain_file_larger_than_any_table_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(PLAIN)
    os.truncate(path, 2 << 30)
    with pytest.raises(DataError, match="has 2,147,483,648 bytes, more than such a file ever has"):
        ids(path)


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), lambda data: zipped(**{"t.csv": data})])
def test_a_packed_table_that_swells_as_none_does_is_refused_before_it_is_read(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(pack(b"id,label\n" + (b"a" * 999 + b",1\n") * 100_000))
    assert path.stat().st_size < 400_000
    with tables.opened(path) as text, pytest.raises(DataError, match=r"packed bytes swell beyond .* unpack it"):
        taken = 0
        for line in text:
            taken += len(line)
    assert 1 << 22 < taken <= 40_000_000
    with pytest.raises(DataError, match="swell"):
        ids(path)


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data, mtime=0), lambda data: zipped(**{"t.csv": data})])
def test_a_small_table_may_shrink_to_next_to_nothing(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(pack(b"id,label\n" + (b"a" * 99 + b",1\n") * 20_000))
    assert path.stat().st_size * 100 < 20_000 * 102
    assert len(ids(path)) == 20_000


def test_long_fields_are_read_and_other_readers_keep_their_limit(tmp_path: Path) -> None:
    mask = " ".join(["1 2"] * 100_000)
    (tmp_path / "train-rle.csv").write_text(f"ImageId,EncodedPixels\na,{mask}\nb,-1\n")
    before = csv.field_size_limit()
    assert siim.masks(tmp_path / "train-rle.csv").index.tolist() == [1, 0]
    assert csv.field_size_limit() == before
    with pytest.raises(DataError):
        tables.read_table(tmp_path / "train-rle.csv", ("nothing",))
    assert csv.field_size_limit() == before


@pytest.mark.parametrize("number", ["1.23E+07", "1,23E+07", "-1.2E+11", "5E+15"])
def test_ids_that_a_spreadsheet_made_numbers_of_are_told_by_cause(tmp_path: Path, number: str) -> None:
    path = tmp_path / "stage_2_train_labels.csv"
    path.write_text(f'patientId,Target\na,1\n"{number}",0\n')
    with pytest.raises(DataError, match=f"data row 2: {re.escape(number)} is no id: a spreadsheet"):
        rsna.targets(path)
    with pytest.raises(DataError, match="is no id"):
        tables.distinct(path, tables.read_table(path, ("patientId",)), "patientId")


def test_ids_that_only_look_like_numbers_are_ids(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patientId,Target\n12345678901234e567890123456789012,1\n1.2.840.10008,0\n1e+05-a,0\n")
    assert len(rsna.targets(path).ids) == 3


def test_a_files_suffix_is_no_part_of_an_id(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patientId,Target\na.dcm,1\nb.DCM,0\n")
    rows = rsna.targets(path)
    assert rows.ids == ("a", "b")
    assert rows.notes == ("t.csv: patientId holds file names, such as a.dcm; taken without the suffix",)
    path.write_text("patientId,Target\na.dcm,1\nb,0\n")
    with pytest.raises(DataError, match=r"data row 1: patientId is 'a\.dcm', with a file's suffix"):
        rsna.targets(path)


NEAR = ["t (1).csv", "t.CSV", "T.csv", "t.csv.csv", "t - Copy.csv", "t.csv (2).gz", "t.csv.crdownload", "t.xlsx"]


@pytest.mark.parametrize("name", NEAR)
def test_a_table_under_a_near_name_is_told_with_both_names(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text(PLAIN)
    own = "t.csv.gz" if name.endswith(".gz") else "t.csv"
    if (tmp_path / "data/t.csv").exists():
        pytest.skip("this file system does not tell upper from lower case")
    with pytest.raises(DataError) as one:
        tables.required(tmp_path / "data", "t")
    with pytest.raises(DataError) as other:
        located(tmp_path, "some set", has_table("t"), wanted="t.csv", stems=("t",))
    for refused in (one, other):
        assert name in str(refused.value)
        assert f"Name it {own}." in str(refused.value)


def test_a_table_whose_name_has_another_unicode_form_is_a_near_one() -> None:
    assert near_names(["caf\u00e9"], ["Cafe\u0301 (1).csv"]) == {"Cafe\u0301 (1).csv": "caf\u00e9.csv"}


def test_other_tables_are_no_near_names(tmp_path: Path) -> None:
    for name in ("t_2.csv", "other.csv", "tt.csv", "t.png"):
        (tmp_path / name).write_text(PLAIN)
    with pytest.raises(DataError) as refused:
        tables.required(tmp_path, "t")
    assert "Name it" not in str(refused.value)


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=8)


@given(
    rows=st.lists(st.tuples(CELL, CELL), min_size=1, max_size=12),
    separator=st.sampled_from(",;\t|"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    pack=st.sampled_from([bytes, lambda data: gzip.compress(data, mtime=0), lambda data: zipped(**{"t.csv": data})]),
)
def test_a_written_table_is_read_back_whatever_wrote_it(
    rows: list[tuple[str, str]],
    separator: str,
    quoting: int,
    end: str,
    encoding: str,
    pack: Callable[[bytes], bytes],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    out = io.StringIO(newline="")
    out.write("" if separator == "," else f"sep={separator}{end}")
    writer = csv.writer(out, delimiter=separator, quoting=quoting, lineterminator=end)
    writer.writerows([("extra", "value", "id"), *((a, b, f"x{n}") for n, (a, b) in enumerate(rows))])
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(pack(out.getvalue().encode(encoding)))
    read = tables.read_table(path, ("id", "value"))
    assert read["id"].tolist() == [f"x{n}" for n in range(len(rows))]
    assert read["value"].tolist() == [b.strip() for _, b in rows]


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_table_or_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(data)
    for read in (lambda: tables.header(path), lambda: tables.read_table(path, ("a",))):
        try:
            read()
        except DataError as refused:
            assert str(path) in str(refused)


def test_a_path_that_is_no_utf8_is_read(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"fa\xe7ade")
    try:
        folder.mkdir()
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    (folder / "t.csv").write_text(PLAIN)
    assert ids(tables.required(folder, "t")) == ["a", "b"]


MEASURE = """
import sys
from pathlib import Path
from cxrbench.data import tables
columns = ("Path", *(f"c{n}" for n in range(14)))
def peak():  # getrusage would tell the parent's on Linux
    status = Path("/proc/self/status")
    return 1024 * int(status.read_text().split("VmHWM:")[1].split()[0]) if status.exists() else 0
print(len(tables.read_table(Path(sys.argv[1]), columns)), peak())
"""


@pytest.mark.slow
def test_two_hundred_megabytes_are_read_in_one_gigabyte(tmp_path: Path) -> None:
    path, rest = tmp_path / "t.csv", ",".join(["1.0", "", "-1.0", "0.0"] * 5)
    with path.open("w") as file:
        file.write(",".join(["Path", *(f"c{n}" for n in range(20))]) + "\n")
        for start in range(0, 1_500_000, 10_000):
            file.writelines(
                f"CheXpert-v1.0/train/patient{n:07d}/study1/view1.jpg,{rest}\n" for n in range(start, start + 10_000)
            )
    assert path.stat().st_size > 180e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, path], capture_output=True, text=True, check=True, timeout=300
    )
    rows, peak = map(int, done.stdout.split())
    assert rows == 1_500_000
    assert peak < 1e9
