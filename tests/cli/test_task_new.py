"""From nothing to a number in two commands, on data that a user has: tables and folders, real and made images."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_images import dicom, saved, waves
from made_own import laid_out, table_text, two_classes, write_image, write_set

from cxrbench.cli import main
from cxrbench.records.integrity import read_results
from cxrbench.specs.task import read_task

CHECKOUT = Path(__file__).resolve().parents[2]
Typed = Callable[..., tuple[int, str, str]]
PROBE = ("--model", "image_statistics", "--protocol", "linear-probe", "--shots", "2", "--device", "cpu")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Typed:
    """The whole program in this process, in an empty folder: exit code, stdout, stderr."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cxrbench", *map(str, words)])
        code: object = 0
        try:
            main.main()
        except SystemExit as stop:
            code = stop.code or 0
        told = capsys.readouterr()
        assert isinstance(code, int)
        return code, told.out, told.err

    return run


def measured(out: Path = Path("results")) -> list[Any]:
    return list(read_results(out, out).records)


@pytest.mark.slow
def test_real_radiographs_with_a_table_need_two_commands(shared: Path, typed: Typed) -> None:
    code, out, err = typed("task", "new", "--csv", shared / "real_images" / "labels.csv")
    assert (code, err) == (0, "") and "image: column 'file'" in out and "patient: column 'patient_id'" in out
    assert len(Path("my_task.toml").read_text().splitlines()) <= 10
    code, out, err = typed("run", "--task", "my_task.toml", *PROBE)
    assert code == 0, err
    (record,) = measured()
    assert record.data.task == "my_task" and record.summary["balanced_accuracy"]["mean"] is not None
    assert record.data.rows_left_out == {"the label is none of the task's": 28}
    assert "my_task: left out: 28 rows: the label is none of the task's" in out


def test_a_folder_of_real_radiographs_needs_two_commands(shared: Path, tmp_path: Path, typed: Typed) -> None:
    """DICOM and PNG mixed, below names with accents and blanks."""
    for column, prefix in (("Grün é", "a_"), ("zweite Klasse", "b_")):
        (tmp_path / "set" / column).mkdir(parents=True)
        for source in sorted((shared / "real_images").glob(f"derived_*/{prefix}*"))[:12]:
            (tmp_path / "set" / column / f"{source.stem} é{source.suffix}").write_bytes(source.read_bytes())
    code, _, err = typed("task", "new", "--folder", tmp_path / "set", "--out", "klassen.toml")
    assert code == 0, err
    code, _, err = typed("run", "--task", "klassen.toml", *PROBE, "--max-unreadable", "1")
    assert code == 0 and len(measured()) == 1, err


def test_made_images_of_all_kinds_with_odd_names_and_more_columns(tmp_path: Path, typed: Typed) -> None:
    rows = []
    for n in range(24):
        name = f"Bilder ä/Schicht {n} é{['.png', '.dcm', ''][n % 3]}"
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        values = waves(40, 32, 255, n).astype(np.uint8) // (1 + n % 2)
        path.write_bytes(saved(values) if n % 3 == 0 else dicom(values))
        rows.append(
            {"no": n, "Datei": name.removesuffix(".dcm"), "Diagnose": ["krank", "gesund"][n % 2], "Größe": n * n}
        )
    (tmp_path / "set" / "Labels – Kopie.csv").write_text(table_text(rows), encoding="utf-8-sig")
    code, out, err = typed("task", "new", "--csv", tmp_path / "set" / "Labels – Kopie.csv", "--out", "klinik.toml")
    assert code == 0 and "not used: 'no', 'Größe'" in out, err
    code, out, err = typed("run", "--task", "klinik.toml", *PROBE)
    assert code == 0, err
    (record,) = measured()
    assert record.data.left_out == {} and record.data.missing == 0


def test_many_flags_come_as_far_as_the_partition(tmp_path: Path, typed: Typed) -> None:
    flags = {name: lambda n, bit=bit: n >> bit & 1 for bit, name in enumerate(("Edema", "Effusion", "Mass"))}
    rows = [{"file": f"{n}.png", **{name: value(n) for name, value in flags.items()}} for n in range(30)]
    rows[3]["Mass"] = -1
    write_set(tmp_path / "set", rows)
    code, _, err = typed("task", "new", "--csv", tmp_path / "set" / "labels.csv", "--out", "multi.toml")
    assert code == 0, err
    code, out, err = typed("data", "status", "--task", "multi.toml")
    assert code == 0 and re.search(r"valid: 3 rows, 3 images: Edema \d", out), err
    found = laid_out(read_task(Path("multi.toml")))
    assert sum(int((part.labels == -1).sum()) for part in found.parts.values()) == 1


def test_one_bad_task_does_not_end_the_others(tmp_path: Path, typed: Typed) -> None:
    write_set(tmp_path / "set", two_classes(24))
    assert typed("task", "new", "--csv", tmp_path / "set" / "labels.csv", "--out", "good.toml")[0] == 0
    text = Path("good.toml").read_text()
    changes = {
        "no_column": ('label = "finding"', 'label = "findings"', "has no column 'findings'"),
        "no_class": ('labels = ["A", "B"]', 'labels = ["A", "B", "C"]', "no image of class C (column 'finding'"),
        "no_table": ('"labels.csv"', '"label.csv"', "label.csv: there is no such table"),
        "no_images": ("csv = { table", 'csv = { images = "pictures", table', "pictures: there is no such folder"),
    }
    for name, (old, new, _) in changes.items():
        assert old in text
        Path(f"{name}.toml").write_text(text.replace(old, new).replace('"good"', f'"{name}"'))
    tasks = [word for name in ["good", *changes] for word in ("--task", f"{name}.toml")]
    code, _, err = typed("run", *tasks, *PROBE)
    assert code == 3 and [record.data.task for record in measured()] == ["good"]
    for name, (_, _, said) in changes.items():
        assert any(f"task {name}, split own" in line and said in line for line in err.splitlines()), (name, err)
    assert typed("data", "status", *tasks)[0] == 3


def test_too_few_images_for_the_shots_end_that_task_before_anything_is_read(tmp_path: Path, typed: Typed) -> None:
    many = two_classes(40)
    for name, rows in (("few", [row for n, row in enumerate(many) if n < 12 or n % 2]), ("many", many)):
        write_set(tmp_path / name, rows)
        assert typed("task", "new", "--csv", tmp_path / name / "labels.csv", "--out", f"{name}.toml")[0] == 0
    tasks = ["--task", "few.toml", "--task", "many.toml", *PROBE[:-4], "--shots", "8", "--set", "fewshot.short=refused"]
    code, _, err = typed("run", *tasks)
    assert code == 3 and "few, group all, K = 8: the training part has fewer images of A 4." in err
    assert [record.data.task for record in measured()] == ["many"]
    reads = re.search(r"reading (\d+) images", err)
    assert reads is not None and int(reads[1]) <= 40


def test_a_small_set_is_told_the_shots_that_it_has(tmp_path: Path, typed: Typed) -> None:
    write_set(tmp_path / "set", two_classes(24))
    _, out, _ = typed("task", "new", "--csv", tmp_path / "set" / "labels.csv")
    command = out.splitlines()[-1].split()
    assert command[-2:] == ["--shots", "8"]
    code, _, err = typed("run", "--task", "my_task.toml", *PROBE[:-4], "--shots", "16")
    assert code == 3 and "no class of the training part has more than" in err and "reading" not in err
    assert typed(*command[1:])[0] == 0 and len(measured()) == 1


def test_a_table_elsewhere_and_another_disk_need_no_other_file(tmp_path: Path, typed: Typed) -> None:
    write_set(tmp_path / "one", two_classes(24))
    assert typed("task", "new", "--csv", tmp_path / "one" / "labels.csv", "--out", "mine.toml")[0] == 0
    (tmp_path / "one").rename(tmp_path / "two")
    code, out, _ = typed("data", "status", "--task", "mine.toml")
    assert code == 3 and f"{tmp_path / 'one'}: there is no such folder" in out
    assert typed("data", "status", "--task", "mine.toml", "--data-root", f"mine={tmp_path / 'two'}")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--out", "Mine.toml"), "give a name of small letters"),
        (("--out", "mine.txt"), "ends in .toml"),
        (("--out", "rsna.toml"), "there is a task 'rsna'"),
        (("--out", "there.toml"), "is there already"),
        (("--folder", "x"), "name either a table by --csv, or a folder"),
        (("--csv", "nowhere.csv"), "nowhere.csv: there is no such table"),
    ],
)
def test_wrong_words_are_answered(words: tuple[str, ...], said: str, tmp_path: Path, typed: Typed) -> None:
    write_set(tmp_path / "set", two_classes())
    Path("there.toml").write_text("")
    table = () if "--csv" in words else ("--csv", tmp_path / "set" / "labels.csv")
    code, _, err = typed("task", "new", *table, *words)
    assert code in (2, 3) and said in err
    assert Path("there.toml").read_text() == ""


DOCUMENT = (CHECKOUT / "docs" / "own-data.md").read_text(encoding="utf-8")


def snippets(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("text", snippets("toml"), ids=lambda text: text.split('"')[1])
def test_each_file_of_the_document_is_a_task_that_lays_out(text: str, tmp_path: Path) -> None:
    """On a data set that has all that the document's files name."""
    home = tmp_path / "clinic"
    rows = [
        {
            "file": f"images/{n:03d}.png",
            "finding": ["Normal", "Pneumonia"][n % 2],
            "findings": ["Edema|Effusion", "Effusion", "none", "Edema"][n % 4],
            "Edema": n % 2,
            "Effusion": ["", 1, 0, -1][n % 4],
            "patient_id": n // 3,
            "split": ["train", "train", "val", "test"][n // 6 % 4],
            "fold": n // 6 % 5,
            "sex": "F",
            "age": 40 + n,
            "view": "PA",
        }
        for n in range(60)
    ]
    write_set(home, rows)
    write_set(home, [{**row, "file": f"later/{n}.png"} for n, row in enumerate(rows)], table="test.csv")
    for part in ("train", "test"):
        for name in ("Normal", "Pneumonia"):
            write_image(home / "sorted" / part / name / "1.png")
    name = re.search(r'name = "(\w+)"', text)
    assert name is not None
    path = home / f"{name[1]}.toml"
    path.write_text(text, encoding="utf-8")
    task = read_task(path)
    for split in task.splits:
        assert laid_out(task, split=split).parts["test"].ids


def test_the_commands_of_the_document_run_as_printed(tmp_path: Path, typed: Typed) -> None:
    write_set(Path("clinic"), two_classes(60))
    commands = [line.partition("#")[0].split() for line in snippets("sh")[0].splitlines() if line]
    assert [words[:2] for words in commands] == [["cxrbench", "task"], ["cxrbench", "run"]]
    for words in commands:
        code, _, err = typed(*words[1:])
        assert code == 0, err
    assert len(measured()) == 1
