"""Prompt sets as files: literal prompts, a template, or lists of terms to combine."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from cxrbench.store import digest
from cxrbench.store.schema import Spec, read_toml
from cxrbench.types import TaskKind

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Terms(Spec):
    """Lists of terms of one class, combined in nested order: the first list changes slowest."""

    names: tuple[str, ...]
    slots: tuple[tuple[str, ...], ...]


class Sample(Spec):
    """Classes with more than `above` combinations enter with `size` of them, drawn in the order of `order`."""

    above: int = Field(ge=1)
    size: int = Field(ge=1)
    order: tuple[str, ...]


class PromptSet(Spec):
    """One way of putting classes into words (`tasks/prompts/NAME.toml`, or a user's own file).

    A class is looked up in `classes`, then in `terms`; `unlisted` says what happens to the others: the `template` with
    `{class}` replaced, the bare name, or an error. `aliases` map a task's spelling to this set's.

    `negatives` and `negative_template` put prompts for a class's absence beside those for its presence: the score
    is then the logit of the one minus the logit of the other, each pooled as the card says. `spelling`: `released`
    joins terms, reduces blanks and lower-cases as the released evaluation code does; `kept` joins them by one blank
    and changes nothing. `queries`: the prompts are the model's own closed set of queries, asked whole; nothing is
    written here then. `kind`: of the tasks that it serves, any where none is named. `tasks`: those that the set's
    authors asked with it, which are then the only ones that it serves; none named, any task whose classes it can
    put into words. `released`: `digest.of_lines` of the prompts that the paper's released code has for a class, for
    sets whose words may be others.
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
    negatives: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    negative_template: str | None = None
    spelling: Literal["released", "kept"] = "released"
    queries: bool = False
    kind: TaskKind | None = None
    tasks: tuple[str, ...] = ()
    released: Mapping[str, Digest] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _consistent(self) -> "PromptSet":
        if (self.unlisted == "template") != (self.template is not None):
            raise ValueError("a template and unlisted = 'template' go together")
        if any("{class}" not in text for text in (self.template, self.negative_template) if text is not None):
            raise ValueError("a template must contain {class}")
        if empty := [n for side in (self.classes, self.negatives) for n, prompts in side.items() if not prompts]:
            raise ValueError(f"classes without a prompt: {', '.join(empty)}")
        if self.queries and (self.classes or self.terms or self.paired or self.unlisted != "error"):
            raise ValueError("a set of the model's own queries has no prompts of its own")
        if self.sample is not None and self.spelling == "kept":
            raise ValueError("the released draw knows the released spelling alone")
        return self

    @property
    def paired(self) -> bool:
        """Whether prompts for the absence of a class stand against those for its presence."""
        return bool(self.negatives) or self.negative_template is not None

    @property
    def phrases(self) -> tuple[str, ...]:
        """Every text that a prompt may be made of: names, prompts, terms to combine and templates."""
        combined = [part for term in self.terms.values() for slot in (term.names, *term.slots) for part in slot]
        listed = [text for side in (self.classes, self.negatives) for prompts in side.values() for text in prompts]
        named = [*self.classes, *self.aliases, *self.aliases.values(), *self.terms, *self.negatives]
        templates = [text for text in (self.template, self.negative_template) if text is not None]
        return (*named, *listed, *combined, *templates)

    @property
    def digest(self) -> str:
        """Hex SHA-256 over everything that decides a prompt; title, source, kind, tasks and `released` do not enter."""
        return digest.of_json(self.model_dump(mode="json", exclude={"title", "source", "kind", "tasks", "released"}))


def read_prompts(path: Path) -> PromptSet:
    """A prompt set from a TOML file; raises SpecError that names the file and what is wrong in it."""
    return read_toml(path, PromptSet)
