"""cxrbench: exact, repeatable comparison of chest X-ray encoders."""
