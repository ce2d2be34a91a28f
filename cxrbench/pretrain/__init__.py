"""Pre-training: corpora, objectives, the loop, and a checkpoint that `run` takes like any other."""
