"""`python -m cxrbench`: the program, where its script is not on the PATH."""

from cxrbench.cli.main import main

if __name__ == "__main__":
    main()
