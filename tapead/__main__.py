"""Run `python -m tapead`: the same program as the `tapead` command."""

import sys

from tapead.cli import main

if __name__ == "__main__":
    sys.exit(main())
