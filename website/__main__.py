"""`python -m website OUT`: the documentation site as a folder that opens without a server. Any warning is an error."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from website.reference import pages

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent / "docs"
SHIM = "iframe-worker.js"  # lets the search run in a page that no server sends
ELSEWHERE = "https://unpkg.com/iframe-worker/shim"  # where the builder would have it come from


def stage(folder: Path) -> None:
    """The pages of `docs/`, the generated ones and the configuration, in a folder of their own."""
    shutil.copytree(DOCS, folder / "docs")
    for name, body in pages():
        page = folder / "docs" / "reference" / name
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(body, encoding="utf-8")
    shutil.copyfile(HERE / "site.css", folder / "docs" / "site.css")
    shutil.copyfile(HERE / "zensical.toml", folder / "zensical.toml")


def build(out: Path) -> int:
    """Build the site into a folder, which is replaced; the exit code of the builder."""
    with tempfile.TemporaryDirectory() as staged:
        stage(Path(staged))
        program = Path(sys.executable).with_name("zensical")
        search = os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])
        built = subprocess.run(
            [str(program), "build", "--strict"], cwd=staged, env={**os.environ, "PYTHONPATH": search}, check=False
        )
        if built.returncode == 0:
            _bring_shim(Path(staged) / "site")
            shutil.rmtree(out, ignore_errors=True)
            shutil.copytree(Path(staged) / "site", out)
    return built.returncode


def _bring_shim(site: Path) -> None:
    """Every page takes the shim from the site, so that a site in a folder asks no network."""
    shutil.copyfile(HERE / SHIM, site / "assets" / SHIM)
    for page in site.rglob("*.html"):
        here = "../" * (len(page.relative_to(site).parts) - 1)
        body = page.read_text(encoding="utf-8")
        page.write_text(body.replace(ELSEWHERE, f"{here}assets/{SHIM}"), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("python -m website OUT: the folder for the site is missing")
    sys.exit(build(Path(sys.argv[1])))
