"""The command `python -m benchmarks`."""

import sys

from .threads import limit_threads

if __name__ == "__main__":
    limit_threads()
    from .command import main  # loads NumPy, which reads the limits

    sys.exit(main())
