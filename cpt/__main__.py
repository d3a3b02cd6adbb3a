"""`python -m cpt`: the same as the `cpt` command."""

import sys

from cpt.cli import main

if __name__ == "__main__":
    sys.exit(main())
