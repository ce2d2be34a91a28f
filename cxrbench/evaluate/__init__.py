"""Arrays in, scores and metrics out: NumPy, SciPy and scikit-learn only."""
