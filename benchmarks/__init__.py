"""What the harness costs: ratios of CPU time, measured in child processes that take turns. See README.md."""
