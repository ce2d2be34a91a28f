"""Heron for cxrbench."""
