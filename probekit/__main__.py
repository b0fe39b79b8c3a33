"""`python -m probekit` is `probekit`."""

import sys

from probekit.cli.stopping import exit_code, listen


def main() -> None:
    """Run the command line; an interruption while it is imported is no traceback either."""
    listen()
    try:
        from probekit.cli import main

        main.main()
    except KeyboardInterrupt as stop:
        sys.stderr.write("probekit: interrupted\n")
        sys.exit(exit_code(stop))


if __name__ == "__main__":
    main()
