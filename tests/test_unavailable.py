"""Models that are known and cannot be run: listed, explained, and refused with the reason."""

import pytest
from typer.testing import CliRunner

from cxrbench.cli.main import app
from cxrbench.errors import SpecError
from cxrbench.specs import catalog

ABSENT = catalog.unavailable_models()


def test_each_says_what_is_published_and_what_is_not() -> None:
    assert set(ABSENT) == {"prior", "sat"}
    assert not set(ABSENT) & set(catalog.card_files())
    assert "Not known where this was written: the mean and the std" in ABSENT["prior"].unavailable
    for words in ("Published: ", "Not found where this was written: ", "no row for it", "--objective sat"):
        assert words in ABSENT["sat"].unavailable


def test_it_is_listed_and_shown() -> None:
    listed = CliRunner().invoke(app, ["models"]).stdout.splitlines()
    assert [line.split()[0] for line in listed[-2:]] == ["prior", "sat"]
    assert "cannot be run" in listed[-1]
    assert "Not found where this was written" in CliRunner().invoke(app, ["info", "sat"]).stdout


@pytest.mark.parametrize("words", ["sat", "clip_cm,sat"])
def test_a_run_refuses_it_with_the_reason(words: str) -> None:
    found = CliRunner().invoke(app, ["run", "--model", words, "--task", "rsna", "--dry-run"])
    assert isinstance(found.exception, SpecError)
    assert "sat (SAT) cannot be run: Published: " in str(found.exception)


def test_loading_it_refuses_too_and_a_near_name_is_told() -> None:
    with pytest.raises(SpecError, match="cannot be run"):
        catalog.load_card("sat")
    with pytest.raises(SpecError, match="no model 'chexzer'; did you mean chexzero"):
        catalog.load_card("chexzer")
