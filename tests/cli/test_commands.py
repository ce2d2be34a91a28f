"""The commands that people type first: quick, helpful, and strict about words they do not know."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "transformers", "pandas", "sklearn", "scipy", "pydicom")


def cxrbench(*words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from cxrbench.cli.main import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["run", "--help"],
        ["models"],
        ["tasks"],
        ["table", "2"],
        ["table", "4", "-f", "json"],
        ["info", "rsna"],
    ],
)
def test_quick_commands_load_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    program = (
        "import sys\n"
        "from cxrbench.cli.main import main\n"
        f"sys.argv = ['cxrbench', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr


def test_every_verb_has_help() -> None:
    text = cxrbench("--help").stdout
    for verb in ("run", "models", "tasks", "protocols", "info", "data", "table", "demo", "cache"):
        assert verb in text
    for verb in (["data", "status"], ["data", "verify"], ["cache", "prune"], ["demo"]):
        assert cxrbench(*verb, "--help").returncode == 0


def test_protocols_are_listed_with_what_they_need_and_whose_they_are() -> None:
    rows = {line.split()[0]: line for line in cxrbench("protocols").stdout.splitlines()[1:]}
    assert {"zero-shot", "linear-probe", "knn-20", "clap", "ss-text-plus", "retrieval"} <= rows.keys()
    assert "texts, shots" in rows["clap"] and "CVPR 2024" in rows["clap"]
    assert "texts" not in rows["knn-20"] and "DINO" in rows["knn-20"]
    assert not [name for name, row in rows.items() if "of an installed package" in row or "cannot be loaded" in row]


def test_info_tells_the_constants_of_a_protocol() -> None:
    told = cxrbench("info", "knn-20").stdout
    assert "DINO" in told and "k 20, temperature 0.07" in told
    facts = json.loads(cxrbench("info", "tip-adapter", "--json").stdout)
    assert facts["constants"]["paper-code"]["factor"] == 100 and facts["kinds"] == ["single-label"]


def test_lists_name_every_card_and_task() -> None:
    models, tasks = cxrbench("models").stdout, cxrbench("tasks").stdout
    assert all(name in models for name in ("clip_cm", "unicl_cm", "unimodal_cmp", "dlilp_m"))
    assert all(name in tasks for name in ("chexpert5x200", "mimic5x200", "rsna", "siim", "covid", "nih_lt", "vindr"))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["run", "--model", "clipcm", "--task", "rsna"], "clip_cm"),
        (["run", "--model", "clip_cm", "--task", "rnsa", "--data-root", "."], "rsna"),
        (["run", "--model", "clip_cm", "--task", "rsna", "--variant", "paper"], "paper-code"),
        (["run", "--model", "clip_cm", "--task", "rsna", "--prompts", "names2"], "names"),
        (["run", "--model", "clip_cm", "--task", "nih_lt", "--group", "bse"], "base"),
        (["run", "--model", "clip_cm", "--task", "rsna", "--protocol", "zeroshot"], "zero-shot"),
        (["run", "--model", "clip_cm", "--task", "rsna", "--shots", "many"], "no number of training images"),
        (["run", "--model", "clip_cm", "--task", "rsna", "--set", "lp.solver"], "NAME=VALUE"),
        (["run", "--model", "clip_cm", "--task", "rsna", "--modle", "x"], "--model"),
        (["table", "7"], "No such command '7'"),
        (["info", "rsnaa"], "rsna"),
        (["tabel", "2"], "table"),
    ],
)
def test_unknown_words_exit_2_and_name_the_nearest(words: list[str], hint: str, tmp_path: Path) -> None:
    done = cxrbench(*words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


def test_missing_weights_and_data_exit_3_and_say_what_to_do(tmp_path: Path) -> None:
    done = cxrbench("run", "-m", "clip_cm", "-t", "rsna", "--data-root", str(tmp_path), "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 3
    assert "clip_CM.pth" in done.stderr
    assert "--data-root" in done.stderr
    assert not (tmp_path / "results").exists()


def test_table_without_records_shows_only_what_is_printed(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    done = cxrbench("table", "4", "--format", "json", cwd=tmp_path)
    cells = json.loads(done.stdout)["cells"]
    assert {cell["measured"] for cell in cells} == {None}
    assert next(c for c in cells if c["row"] == "KAD (M)" and c["column"] == "RSNA")["published"] == "92.12"


def test_table_1_without_data_gives_the_reasons(tmp_path: Path) -> None:
    text = cxrbench("table", "1", cwd=tmp_path).stdout
    assert "8,400 / 3,600 / 2" in text
    assert "191,026" in text
    assert "no --data-root" in text


@pytest.mark.parametrize(
    "name", ["clip_cm", "vindr", "paper-code", "cxrbench-v1", "ensemble", "kad_names", "lp.solver"]
)
def test_info_knows_every_kind_of_name(name: str) -> None:
    done = cxrbench("info", name)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 100


def test_info_of_a_variant_explains_every_choice() -> None:
    text = cxrbench("info", "paper-code").stdout
    assert "lp.solver = converged: the optimum" in text
    assert "rsna: dlilp-detailed-as-published" in text


def test_phantom_status_verify_and_cache_work_together(tmp_path: Path) -> None:
    env = {**os.environ, "CXRBENCH_CACHE": str(tmp_path / "cache")}
    root = ["--data-root", str(tmp_path / "data"), "--variant", "phantom", "-t", "vindr"]

    def told(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from cxrbench.cli.main import main; main()", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=200)

    made = told("data", "phantom", "-t", "vindr", "--out", str(tmp_path / "data"), "--size", "64x56")
    assert made.returncode == 0, made.stderr
    status = told("data", "status", *root)
    assert status.returncode == 0, status.stderr
    assert "test: 80 rows, 80 images" in status.stdout
    assert "PHANTOM" in status.stdout
    assert "wrote" in told("data", "verify", *root).stdout
    same = told("data", "verify", *root).stdout
    assert "equals" in same
    assert "bytes of 180 of 180 images, 0 of them read now" in same
    assert "180 of them read now" in told("data", "verify", *root, "--rehash").stdout
    one = min((tmp_path / "data").rglob("test/*.dicom"))
    whole, at = one.read_bytes(), one.stat()
    one.write_bytes(whole[:-9] + bytes(9))  # of equal size, and as old
    os.utime(one, ns=(at.st_atime_ns, at.st_mtime_ns))
    replaced = told("data", "verify", *root)
    assert (replaced.returncode, "1 of 180 images hold other bytes" in replaced.stdout) == (4, True), replaced.stdout
    assert (told("data", "prepare", *root).returncode) == 3
    one.unlink()
    gone = told("data", "prepare", *root)
    assert (gone.returncode, f"missing: 1, such as {one.stem}" in gone.stdout) == (3, True), gone.stdout
    one.write_bytes(whole)
    assert "equals" in told("data", "verify", *root).stdout
    (manifest,) = (tmp_path / "results" / "manifests").glob("vindr.*.json")
    manifest.write_text(manifest.read_text().replace(next(iter(told_ids(manifest))), "f" * 32, 1))
    changed = told("data", "verify", *root)
    assert changed.returncode == 4, changed.stdout + changed.stderr
    edited = told("data", "prepare", *root)
    assert (edited.returncode, "was changed after it was written" in edited.stdout) == (4, True)
    manifest.unlink()
    assert told("data", "prepare", *root).returncode == 0
    next((tmp_path / "data").rglob("test/*.dicom")).write_bytes(b"<html>")
    broken = told("data", "prepare", *root)
    assert broken.returncode == 3
    assert "web page" in broken.stdout or "HTML" in broken.stdout
    assert told("cache", "verify").returncode == 0
    assert "0 of 0 keys removed" in told("cache", "prune", "--all").stdout


def told_ids(manifest: Path) -> list[str]:
    return json.loads(manifest.read_text())["parts"]["test"]["ids"]
