"""One module a data set: from its official files to labelled tables."""
