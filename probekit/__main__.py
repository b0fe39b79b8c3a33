"""`python -m probekit` is `probekit`."""

from probekit.cli.main import main

main()
