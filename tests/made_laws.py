"""Laws of which intervals are asked to hold the truth: those that every change is held to, and the rest."""

from collections.abc import Callable, Mapping

import numpy as np
from made_scores import Law, Wards, recalls, two_normals

from cxrbench.evaluate.statistics.counts import Metric

BALANCED, AREA = "balanced_accuracy", "macro_auroc"
UNEVEN = np.random.default_rng(5).uniform(0.1, 0.7, 19)

# Built when asked for: the truth of a law of patients is itself a simulation.
Laws = Mapping[str, tuple[Metric, Callable[[], Law]]]

HELD: Laws = {
    "balanced accuracy, 5 classes of 40": (BALANCED, lambda: recalls(40, np.array([0.5, 0.3, 0.6, 0.4, 0.7]))),
    "AUROC 0.90, 100 and 100": (AREA, lambda: two_normals(100, 100, 0.90)),
    "balanced accuracy, 150 patients": (BALANCED, lambda: Wards(150, 2).law(BALANCED)),
    "AUROC, 150 patients": (AREA, lambda: Wards(150, 2).law(AREA)),
}

FURTHER: Laws = {
    "balanced accuracy, 19 classes of 15": (BALANCED, lambda: recalls(15, UNEVEN)),
    "balanced accuracy 0.875, 2 classes of 30": (BALANCED, lambda: recalls(30, np.array([0.9, 0.85]))),
    "balanced accuracy 0.875, 2 classes of 100": (BALANCED, lambda: recalls(100, np.array([0.9, 0.85]))),
    "balanced accuracy 0.94, 2 classes of 1000": (BALANCED, lambda: recalls(1000, np.array([0.95, 0.93]))),
    "AUROC 0.85, 30 and 30": (AREA, lambda: two_normals(30, 30, 0.85)),
    "AUROC 0.97, 300 and 300": (AREA, lambda: two_normals(300, 300, 0.97)),
    "AUROC 0.80, 60 and 540": (AREA, lambda: two_normals(60, 540, 0.80)),
    "AUROC 0.90, 20 and 1000": (AREA, lambda: two_normals(20, 1000, 0.90)),
    "AUROC 0.80, 15 and 285": (AREA, lambda: two_normals(15, 285, 0.80)),
    "AUROC 0.95, 15 and 285": (AREA, lambda: two_normals(15, 285, 0.95)),
    "balanced accuracy, 100 patients, 5 classes": (BALANCED, lambda: Wards(100, 5).law(BALANCED)),
    "balanced accuracy, 300 patients, 5 classes": (BALANCED, lambda: Wards(300, 5).law(BALANCED)),
    "AUROC, 60 patients": (AREA, lambda: Wards(60, 2).law(AREA)),
    "AUROC, 150 patients, 5 classes": (AREA, lambda: Wards(150, 5).law(AREA)),
    "balanced accuracy, 200 patients, 5 folds of one test set": (
        BALANCED,
        lambda: Wards(200, 3, folds=5).law(BALANCED),
    ),
    "balanced accuracy, 200 patients, 5 overlapping folds": (
        BALANCED,
        lambda: Wards(200, 3, folds=5, share=0.3).law(BALANCED),
    ),
}
