"""`python -m leandnn` is the command line."""

from leandnn.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
