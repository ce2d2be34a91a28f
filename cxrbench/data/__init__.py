"""From label tables to splits; one module a data set in `sources`."""
