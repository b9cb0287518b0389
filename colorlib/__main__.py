"""`python -m colorlib` is the command `colorlib`."""

from colorlib.batch.cli import main

if __name__ == "__main__":
    main()
