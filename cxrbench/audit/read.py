"""Findings read back from the file that `cxrbench audit --report FILE.json` writes."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from cxrbench.audit.finding import Finding
from cxrbench.errors import DataError, SpecError
from cxrbench.schema import Facts, complaints


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
    """The findings of a file; raises DataError where it cannot be read, SpecError where it is another file."""
    try:
        told = _File.model_validate_json(path.read_bytes())
        return [TypeAdapter(Finding).validate_python(found.model_dump(exclude={"share"})) for found in told.findings]
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}; `cxrbench audit --report {path}` writes it"
        ) from error
    except ValidationError as error:
        raise SpecError(f"{path}: holds no findings of `cxrbench audit`: {complaints(error)}") from error
