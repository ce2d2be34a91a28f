"""A wheel, made from the sdist and installed in an empty environment away from the checkout, knows its facts."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
OF_EXTRAS = ("imagehash", "lightning_fabric", "matplotlib", "playwright", "ray", "scikit_posthocs", "statsmodels")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the sdist of a copy of the files that git tracks, so that the checkout stays as it is."""
    copy, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(
        ["git", "-C", str(CHECKOUT), "ls-files", "--cached", "--others", "--exclude-standard"],
        check=True,
        capture_output=True,
        text=True,
    )
    for name in listed.stdout.splitlines():
        if (CHECKOUT / name).is_file() and not name.startswith("tests/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((CHECKOUT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(copy)],
        check=True,
        capture_output=True,
    )
    (sdist,), (made,) = out.glob("*.tar.gz"), out.glob("*.whl")
    assert sdist.stem.removesuffix(".tar") == made.name.removesuffix("-py3-none-any.whl")
    return made


@pytest.mark.slow
def test_wheel_holds_every_fact_and_pollutes_nothing(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, inside in (("model_zoo", "model_zoo"), ("tasks", "tasks"), ("results/published", "published")):
        for path in (CHECKOUT / folder).rglob("*.toml"):
            assert f"cxrbench/{inside}/{path.relative_to(CHECKOUT / folder).as_posix()}" in names
    certificates = CHECKOUT / "model_zoo" / "certificates"
    for path in certificates.rglob("*"):
        if path.is_file():
            assert f"cxrbench/model_zoo/certificates/{path.relative_to(certificates).as_posix()}" in names
    for path in (CHECKOUT / "cxrbench").rglob("*"):
        if path.suffix in {".py", ".toml", ".j2", ".css", ".js"}:
            assert path.relative_to(CHECKOUT).as_posix() in names
    assert {name.split("/")[0] for name in names} == {
        "cxrbench",
        next(n for n in names if ".dist-info" in n).split("/")[0],
    }


@pytest.mark.slow
def test_installed_wheel_lists_tasks_and_prints_table_4(wheel: Path, tmp_path: Path) -> None:
    """The environment sees this one's libraries through a path file, and cxrbench only through the wheel.

    The extras' libraries are no part of it: a line of the path file makes them ones that are not installed.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "env")], check=True)
    python = tmp_path / "env" / "bin" / "python"
    site = next((tmp_path / "env" / "lib").glob("python*/site-packages"))
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)], check=True
    )
    without = f"import sys; sys.modules.update(dict.fromkeys({OF_EXTRAS}))"
    (site / "libraries.pth").write_text("\n".join([*libraries, without]) + "\n")
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

    def told(*words: str, code: int = 0) -> str:
        program = "import cxrbench, sys; assert sys.argv[1] in cxrbench.__file__, cxrbench.__file__\n"
        program += "del sys.argv[1]\nfrom cxrbench.cli.main import main\nmain()"
        command = [str(python), "-P", "-c", program, str(site), *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=180)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    (tmp_path / "results").mkdir()
    assert all(name in told("tasks") for name in ("chexpert5x200", "vindr"))
    assert "92.12" in told("table", "4")
    assert "cxrbench-patient-v1" in told("info", "cxrbench-v1")
    assert "yes: this installation computes" in told("doctor", "unimodal_m", "--device", "cpu")
    assert "`pip install 'cxrbench[figures]'`" in told("figure", "3", code=2)


def test_every_folder_of_the_package_is_installed_and_no_other() -> None:
    listed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]["packages"]
    folders = {".".join(p.parent.relative_to(CHECKOUT).parts) for p in (CHECKOUT / "cxrbench").rglob("__init__.py")}
    facts = {name for name in listed if name.split(".")[1:2] in (["model_zoo"], ["tasks"], ["published"])}
    assert {*listed} - facts == folders
