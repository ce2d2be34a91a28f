"""From files on disk to pixels: indices, splits, image readers, phantoms."""
