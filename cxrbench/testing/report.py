"""What a check found: findings by name, some judged and some only stated."""

from dataclasses import dataclass

from cxrbench.errors import IntegrityError


@dataclass(frozen=True, slots=True)
class Finding:
    """One promise of an adapter.

    `passed`: None where the finding is a fact that nobody judges. `figure`: what was measured, `limit` what it may be.
    """

    name: str
    passed: bool | None
    text: str
    figure: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """All findings about one model, in the order in which they were made."""

    model: str
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The promises that are broken."""
        return tuple(finding for finding in self.findings if finding.passed is False)

    @property
    def passed(self) -> bool:
        """Whether none is."""
        return not self.failed

    def require(self) -> None:
        """Raise IntegrityError that lists every broken promise, if there is one."""
        if self.failed:
            told = "\n".join(f"- {finding.name}: {finding.text}" for finding in self.failed)
            raise IntegrityError(f"{self.model}: the adapter breaks {len(self.failed)} promises:\n{told}")


def within(name: str, figure: float, limit: float, text: str) -> Finding:
    """A figure that must not be above its limit; NaN is."""
    return Finding(name, figure <= limit, f"{text}: {figure:.1e}, at most {limit:.0e}", figure, limit)


def held(name: str, holds: bool, text: str, otherwise: str) -> Finding:
    """A promise that is kept or not, and what to say in either case."""
    return Finding(name, holds, text if holds else otherwise)
