"""The paper's linear probe as a protocol; the probe itself is `evaluate.logistic_regression`."""

from collections.abc import Mapping
from typing import Any

from cxrbench.evaluate.logistic_regression import (
    CONVERGED_VERSION,
    STRENGTH,
    fit,
    probe_scores,
    scores_of_findings,
    solver_version,
)
from cxrbench.runner.few_shot import FewShot, FewShotFold, Scored
from cxrbench.specs.settings import Settings

CLASS_WEIGHT = "balanced"


class LinearProbe(FewShot):
    """L2 logistic regression with balanced classes on K images per class.

    In a multi-label task each finding has a probe against the rest, always by the converged solver: there is no
    released call for it.
    """

    name = "linear-probe"
    source = "Silva-Rodríguez et al., IPMI 2025"
    scores = "probabilities"

    def identity(self, settings: Settings) -> Mapping[str, Any]:
        """The version of a solver that another library brings."""
        return {"solver": solver_version(settings.solver)}

    def recorded(self, settings: Settings, version: str) -> Mapping[str, Any]:
        """Strength and solver."""
        solver = "converged" if version == CONVERGED_VERSION else settings.solver
        return {"C": STRENGTH, "class_weight": CLASS_WEIGHT, "solver": solver, "solver_version": version}

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Probabilities (m, C)."""
        if fold.labels.ndim == 2:
            found = scores_of_findings(fold.train, fold.labels, fold.test)
            return Scored(found.probabilities, found.iterations, found.version)
        probe = fit(fold.train, fold.labels, len(fold.classes), solver=settings.solver)
        return Scored(probe_scores(probe, fold.test), probe.iterations, probe.version)
