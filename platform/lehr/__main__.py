"""`python -m lehr` is `lehr`."""

from lehr.cli.app import main

if __name__ == "__main__":
    main()
