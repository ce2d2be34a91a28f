"""Prompt sets: complete for the tasks, refused when malformed, with a digest of what decides a prompt."""

from pathlib import Path

import pytest

from cxrbench import catalog
from cxrbench.errors import SpecError
from cxrbench.prompts import read_prompts

CLASSES = sorted({label for name in catalog.task_files() for label in catalog.load_task(name).groups["all"]})


def test_covid_is_described_as_the_paper_prints_it() -> None:
    described = catalog.load_prompts("description").classes["COVID"]
    assert described == ("the presence of patchy or confluent band like ground glass opacity or consolidation",)


def test_every_class_of_every_task_has_a_description() -> None:
    prompts = catalog.load_prompts("description")
    assert [c for c in CLASSES if c not in prompts.classes and c not in prompts.aliases] == []
    assert set(prompts.aliases.values()) <= set(prompts.classes)


def test_title_and_source_do_not_enter_the_digest(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{i}.toml" for i in range(3))
    first.write_text('name = "mine"\n[classes]\nEdema = ["wet lungs"]\n')
    second.write_text('name = "mine"\ntitle = "a title"\nsource = "me"\n[classes]\nEdema = ["wet lungs"]\n')
    third.write_text('name = "mine"\n[classes]\nEdema = ["wet lung"]\n')
    assert read_prompts(first).digest == read_prompts(second).digest != read_prompts(third).digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\nclases = {}\n', "clases"),
        ('name = "x"\n[classes]\nEdema = []\n', "Edema"),
        ('name = "x"\nunlisted = "template"\n', "template"),
        ('name = "x"\nunlisted = "template"\ntemplate = "an image"\n', "class"),
        ("name = ", "no TOML"),
    ],
)
def test_malformed_set_is_refused_with_its_name_and_fault(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value)


def test_unknown_set_offers_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean ensemble"):
        catalog.load_prompts("ensembel")
