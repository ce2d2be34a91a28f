"""Is it right? A baseline, an audit, and the examination of an installation."""
