"""One file for each protocol; `runner.protocol` says what a protocol is."""
