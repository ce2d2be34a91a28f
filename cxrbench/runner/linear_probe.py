"""The paper's linear probe as a protocol; the probe itself is `evaluate.logistic_regression`."""

from collections.abc import Mapping
from typing import Any

from cxrbench.evaluate.logistic_regression import STRENGTH, fit, probe_scores, solver_version
from cxrbench.runner.few_shot import FewShot, FewShotFold, Scored
from cxrbench.specs.settings import Settings

CLASS_WEIGHT = "balanced"


class LinearProbe(FewShot):
    """L2 logistic regression with balanced classes on K images per class."""

    name = "linear-probe"
    scores = "probabilities"

    def identity(self, settings: Settings) -> Mapping[str, Any]:
        """The version of a solver that another library brings."""
        return {"solver": solver_version(settings.solver)}

    def recorded(self, settings: Settings, version: str) -> Mapping[str, Any]:
        """Strength and solver."""
        return {"C": STRENGTH, "class_weight": CLASS_WEIGHT, "solver": settings.solver, "solver_version": version}

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Probabilities (m, C)."""
        probe = fit(fold.train, fold.labels, len(fold.classes), solver=settings.solver)
        return Scored(probe_scores(probe, fold.test), probe.iterations, probe.version)
