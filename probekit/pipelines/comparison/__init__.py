"""`probekit compare` and `sweep`: several runs on one page."""
