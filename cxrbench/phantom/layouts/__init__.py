"""One module a data set: which images it has, and what its tables say of them."""
