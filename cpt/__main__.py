"""Run the `cpt` command, also as `python -m cpt`.

Nothing but this module is imported before Ctrl-C is handled.
"""

import sys


def main() -> int:
    """Run the command and return its exit code."""
    try:
        from cpt.cli import main as command

        return command()
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
