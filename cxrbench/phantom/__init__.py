"""Procedural radiographs in the true on-disk layouts of the seven data sets."""
