"""Fact files of a user's own, written beside a test: cards, tasks, variants and prompt sets as TOML."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrbench.store.schema import Spec


def toml(value: Any) -> str:
    """A plain value as TOML: inline tables and arrays, strings quoted as in JSON."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(str(k))} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml(v) for v in value) + "]"
    return json.dumps(value, ensure_ascii=False)


def write_facts(path: Path, content: Spec | Mapping[str, Any]) -> Path:
    """The content as a TOML file, one key a line; keys without a value are left out."""
    plain = content.model_dump(mode="json", exclude_none=True) if isinstance(content, Spec) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{json.dumps(k)} = {toml(v)}\n" for k, v in plain.items()), encoding="utf-8")
    return path
