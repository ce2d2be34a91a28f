"""Findings read back from the file that `cxrbench audit --report FILE.json` writes."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cxrbench.analysis.finding import Finding
from cxrbench.errors import DataError, SpecError
from cxrbench.store.schema import Facts, complaints
from cxrbench.store.sealed import json_value, read_regular, without_checksum


class _Told(Facts):
    """One finding as the file has it: with the share, which follows from the counts."""

    kind: str
    scope: str
    text: str
    count: int | None
    total: int | None
    source: str
    share: float | None


class _File(Facts):
    findings: tuple[_Told, ...]


def read_findings(path: Path) -> list[Finding]:
    """The findings of a file.

    Raises DataError where there is none, SpecError where it is another file, DamagedError where it was changed.
    """
    try:
        value = json_value(path, read_regular(path))
        if not isinstance(value, dict) or "findings" not in value:
            raise SpecError(f"{path}: holds no findings of `cxrbench audit`")
        told = _File.model_validate(without_checksum(path, value, f"`cxrbench audit --report {path}` writes it anew."))
        return [TypeAdapter(Finding).validate_python(found.model_dump(exclude={"share"})) for found in told.findings]
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; `cxrbench audit --report {path}` writes it") from error
    except ValidationError as error:
        raise SpecError(f"{path}: holds no findings of `cxrbench audit`: {complaints(error)}") from error
