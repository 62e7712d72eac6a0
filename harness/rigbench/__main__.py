"""`python -m rigbench` is `rigbench`."""

import sys

from rigbench.cli.main import main

sys.exit(main())
