"""What the functions of `cxrbench` return: it shows itself in a notebook, and becomes a data frame."""
