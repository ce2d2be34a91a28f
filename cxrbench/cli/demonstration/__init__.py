"""The demonstration: phantom data sets, four small encoders pre-trained on the spot, the paper's tables over them."""
