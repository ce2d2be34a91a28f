"""Whether this installation, and the user's own file in it, compute what a model's authors do."""
