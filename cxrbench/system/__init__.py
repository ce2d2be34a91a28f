"""What all may use of the machine and the program: cores, progress, contained faults, logs, digests of code."""
