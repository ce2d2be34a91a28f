"""Workflow, hooks and issue forms: files that only other programs read, so a slip in them would show late."""

import re
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
import yaml

CHECKOUT = Path(__file__).resolve().parent.parent
FORMS = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
INPUTS = {"input", "textarea", "dropdown", "checkboxes"}


def read(path: Path) -> dict[str, Any]:
    loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert isinstance(loaded, dict)
    return loaded


def ci_commands() -> list[list[str]]:
    """The commands of `.ci/run`, each as its words."""
    lines = (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line) for line in lines if line and not line.startswith(("#", "set ", "cd "))]


def systems(job: dict[str, Any]) -> list[str]:
    """Every system that a job runs on."""
    matrix: list[str] = job.get("strategy", {}).get("matrix", {}).get("os", [])
    return matrix if job["runs-on"] == "${{ matrix.os }}" else [job["runs-on"]]


def workflow_commands(system: str) -> list[list[str]]:
    """The commands that the workflow runs on a system."""
    jobs = read(CHECKOUT / ".github" / "workflows" / "check.yml")["jobs"].values()
    steps = [step for job in jobs if any(name.startswith(system) for name in systems(job)) for step in job["steps"]]
    return [shlex.split(line) for step in steps for line in step.get("run", "").splitlines()]


def test_ci_runs_what_the_documents_say() -> None:
    assert [" ".join(command) for command in ci_commands()] == [
        "make test",
        "make test-slow",
        "make check-phantom",
        "make lint",
    ]
    assert (CHECKOUT / ".ci" / "run").stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize("command", ci_commands(), ids=" ".join)
def test_the_workflow_runs_each_command_of_ci_on_linux(command: list[str]) -> None:
    assert command in [words[: len(command)] for words in workflow_commands("ubuntu")]


def test_the_fast_tests_run_on_macos_too() -> None:
    assert workflow_commands("macos") == [["make", "test"]]


def test_every_job_of_the_workflow_ends_and_none_may_write() -> None:
    workflow = read(CHECKOUT / ".github" / "workflows" / "check.yml")
    assert workflow["permissions"] == {"contents": "read"}
    assert all(isinstance(job["timeout-minutes"], int) for job in workflow["jobs"].values())


def test_hooks_run_the_commands_of_lint_and_download_nothing() -> None:
    repositories = read(CHECKOUT / ".pre-commit-config.yaml")["repos"]
    assert [one["repo"] for one in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", (CHECKOUT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe is not None
    assert [hook["entry"] for hook in hooks] == re.findall(r"\$\(BIN\)/(.*)", recipe[1])
    assert not any(hook["pass_filenames"] for hook in hooks)


def test_there_is_a_form_for_each_kind_of_issue() -> None:
    assert [path.stem for path in FORMS] == ["bug", "new-model-or-data-set", "wrong-number"]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_have_what_the_site_asks_for(path: Path) -> None:
    form = read(path)
    assert set(form) == {"name", "description", "labels", "body"}
    kinds = [part["type"] for part in form["body"]]
    assert set(kinds) <= {"markdown"} | INPUTS and set(kinds) & INPUTS
    asked = [part for part in form["body"] if part["type"] in INPUTS]
    for key in (lambda part: part["id"], lambda part: part["attributes"]["label"]):
        assert len({key(part) for part in asked}) == len(asked)
    assert all(re.fullmatch(r"[\w-]+", part["id"]) for part in asked)
    assert all(part["attributes"]["options"] for part in asked if part["type"] == "dropdown")
    assert all(part["attributes"]["value"].strip() for part in form["body"] if part["type"] == "markdown")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_forms_ask_for_no_licensed_file(path: Path) -> None:
    assert re.search(r"attach no (?:radiograph|files)", path.read_text(encoding="utf-8"))
