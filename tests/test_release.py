"""What a release consists of agrees with itself: versions, citation, and the recipes of the two images."""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parent.parent
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS = set(PROJECT["project"]["optional-dependencies"])


def text(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


def docker_steps() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile, continued lines joined and comments left out."""
    lines = [line for line in text("Dockerfile").splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def docker_copied() -> set[str]:
    """What the Dockerfile copies from the checkout."""
    return {word for step, rest in docker_steps() if step == "COPY" for word in shlex.split(rest)[:-1]}


def apptainer_section(name: str) -> list[str]:
    """The lines of a section of the Apptainer recipe."""
    found = re.search(rf"^%{name}\n((?:(?!%).*\n)*)", text("cxrbench.def"), re.MULTILINE)
    assert found is not None
    return [line.strip() for line in found[1].splitlines() if line.strip()]


def docker_arguments() -> dict[str, str]:
    pairs = (rest.partition("=") for step, rest in docker_steps() if step == "ARG")
    return {name: default for name, _, default in pairs}


def test_one_version_everywhere() -> None:
    version = PROJECT["project"]["version"]
    assert re.search(r"^## (\S+)", text("CHANGELOG.md"), re.MULTILINE)[1] == version  # type: ignore[index]
    assert yaml.safe_load(text("CITATION.cff"))["version"] == version


def test_the_citation_names_the_paper_whose_protocol_it_is() -> None:
    citation = yaml.safe_load(text("CITATION.cff"))
    assert (citation["cff-version"], citation["type"]) == ("1.2.0", "software")
    assert citation["license"] == PROJECT["project"]["license"]
    assert [author["name"] for author in citation["authors"]] == ["The cxrbench developers"]
    (paper,) = citation["references"]
    assert "Reality Check of Vision-Language Pre-training" in paper["title"] and paper["year"] == 2025
    assert [author["family-names"] for author in paper["authors"]] == ["Silva-Rodríguez", "Dolz", "Ben Ayed"]


def test_images_hold_all_that_the_package_is_built_from() -> None:
    """Every folder that setuptools maps into the package, the project file, and the texts that it names."""
    needed = {*PROJECT["tool"]["setuptools"]["package-dir"].values(), "pyproject.toml", "LICENSE"}
    needed.add(PROJECT["project"]["readme"])
    assert docker_copied() == needed
    pairs = dict(line.split() for line in apptainer_section("files"))
    assert pairs == {name: f"/src/{name}" for name in needed}
    assert all((CHECKOUT / name).exists() for name in needed)


def test_what_docker_copies_is_sent_to_it() -> None:
    """`.dockerignore` leaves out all but what it lists after `!`; the last line that fits a path counts."""
    sent = set[str]()
    for line in text(".dockerignore").splitlines():
        if line.startswith("!"):
            sent.add(line[1:])
        elif line.endswith("/*"):
            sent = {name for name in sent if name != line[:-2]}
    assert text(".dockerignore").splitlines()[0] == "*"
    assert sent == docker_copied()


@pytest.mark.parametrize("source", ["Dockerfile", "cxrbench.def"])
def test_arguments_of_images_name_what_there_is(source: str) -> None:
    lines = apptainer_section("arguments")
    arguments = docker_arguments() if source == "Dockerfile" else dict(line.split("=", 1) for line in lines)
    assert set(arguments) == {"BASE", "TORCH", "EXTRAS"}
    assert set(arguments["EXTRAS"].split(",")) <= EXTRAS
    minor = re.fullmatch(r"python:3\.(\d+)-slim", arguments["BASE"])
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["project"]["requires-python"])
    assert minor and least and int(minor[1]) >= int(least[1])
    assert arguments["TORCH"] == "cpu"
    used = set(re.findall(r"\{\{ (\w+) \}\}|\$\{(BASE|TORCH|EXTRAS)\}", text(source)))
    assert {one or other for one, other in used} == set(arguments)


def test_images_agree() -> None:
    assert docker_arguments() == dict(line.split("=", 1) for line in apptainer_section("arguments"))
    names = r"(CXRBENCH_\w+|HF_HOME|MPLCONFIGDIR)="
    assert set(re.findall(names, text("Dockerfile"))) == set(
        re.findall(names, "\n".join(apptainer_section("environment")))
    )


def test_the_image_of_docker_runs_the_program_as_nobody_in_particular() -> None:
    steps = docker_steps()
    assert ("ENTRYPOINT", '["cxrbench"]') in steps and ("VOLUME", '["/data", "/cache"]') in steps
    user = [rest for step, rest in steps if step == "USER"]
    assert len(user) == 1 and int(user[0]) > 0
    after = [step for step, _ in steps][[step for step, _ in steps].index("USER") :]
    assert not {"RUN", "COPY", "ADD"} & set(after)


def test_every_extra_that_is_named_to_users_exists() -> None:
    named = set[str]()
    for path in (*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), *(CHECKOUT / "cxrbench").rglob("*.py")):
        for found in re.findall(r"cxrbench\[([\w,-]+)\]", path.read_text(encoding="utf-8")):
            named |= set(found.split(","))
    for path in (CHECKOUT / ".ci" / "lowest", CHECKOUT / "Makefile"):
        for found in re.findall(r"'\.\[([\w,-]+)\]'", path.read_text(encoding="utf-8")):
            named |= set(found.split(","))
    assert {"dev", "figures"} <= named <= EXTRAS
