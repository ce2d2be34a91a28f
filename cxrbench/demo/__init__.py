"""The demonstration: phantom data sets, a small encoder trained on the spot, and the paper's tables over them."""
