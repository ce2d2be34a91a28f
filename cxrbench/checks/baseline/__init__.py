"""Whether a number moved: records against a committed baseline, the paper's cells, and their own predictions."""
