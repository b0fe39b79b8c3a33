"""`python -m probekit` is `probekit`."""

import sys


def main() -> None:
    """Run the command line; an interruption while it is imported is no traceback either."""
    try:
        from probekit.cli import main

        main.main()
    except KeyboardInterrupt:
        sys.stderr.write("probekit: interrupted\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
