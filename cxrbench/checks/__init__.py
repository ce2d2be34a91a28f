"""Is it right? Regression against a baseline, audit, and the examination of an installation."""
