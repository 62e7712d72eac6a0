"""`python -m rigbench` is `rigbench`."""

import sys

from rigbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
