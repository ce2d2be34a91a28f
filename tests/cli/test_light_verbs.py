"""Verbs that work on what is recorded: no network library is loaded, and none of the heavy ones for their help."""

import subprocess
import sys
from pathlib import Path

import pytest


def loaded(words: list[str], cwd: Path) -> set[str]:
    """The heavy packages that a call of the program loads; it may leave with any exit code of ours."""
    program = (
        "import sys\n"
        "from cxrbench.cli.main import main\n"
        f"sys.argv = ['cxrbench', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code in (None, 0, 1, 3), stop.code\n"
        "print('loaded', *(n for n in ('torch', 'transformers', 'pandas', 'scipy', 'sklearn') if n in sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=cwd, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize("verb", ["check", "audit", "table", "figure", "subgroups", "prompts", "calibration", "export"])
def test_help_loads_nothing_heavy(verb: str, tmp_path: Path) -> None:
    assert loaded([verb, "--help"], tmp_path) == set()


@pytest.mark.parametrize("words", [["check"], ["audit", "-t", "covid"]])
def test_checks_load_no_network_library(words: list[str], tmp_path: Path) -> None:
    assert not {"torch", "transformers"} & loaded(words, tmp_path)
