"""Prompt sets as files: literal prompts, a template, or lists of terms to combine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from cxrbench import digest
from cxrbench.schema import Facts, read_toml


class Terms(Facts):
    """Lists of terms of one class, combined in nested order: the first list changes slowest."""

    names: tuple[str, ...]
    slots: tuple[tuple[str, ...], ...]


class Sample(Facts):
    """Classes with more than `above` combinations enter with `size` of them, drawn in the order of `order`."""

    above: int = Field(ge=1)
    size: int = Field(ge=1)
    order: tuple[str, ...]


class PromptSet(Facts):
    """One way of putting classes into words (`tasks/prompts/NAME.toml`, or a user's own file).

    A class is looked up in `classes`, then in `terms`; `unlisted` says what happens to the others: the `template` with
    `{class}` replaced, the bare name, or an error. `aliases` map a task's spelling to this set's.
    """

    name: str
    title: str = ""
    source: str = ""
    template: str | None = None
    unlisted: Literal["template", "name", "error"] = "error"
    classes: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    aliases: Mapping[str, str] = Field(default_factory=dict)
    terms: Mapping[str, Terms] = Field(default_factory=dict)
    sample: Sample | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "PromptSet":
        if (self.unlisted == "template") != (self.template is not None):
            raise ValueError("a template and unlisted = 'template' go together")
        if self.template is not None and "{class}" not in self.template:
            raise ValueError("the template must contain {class}")
        if empty := [name for name, prompts in self.classes.items() if not prompts]:
            raise ValueError(f"classes without a prompt: {', '.join(empty)}")
        return self

    @property
    def digest(self) -> str:
        """Hex SHA-256 over everything that decides a prompt; title and source do not enter."""
        return digest.of_json(self.model_dump(mode="json", exclude={"title", "source"}))


def read_prompts(path: Path) -> PromptSet:
    """A prompt set from a TOML file; raises SpecError that names the file and what is wrong in it."""
    return read_toml(path, PromptSet)
