"""Whether a difference means anything: intervals, paired tests, ranks and calibration, from arrays alone."""
