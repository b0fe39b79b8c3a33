"""`probekit heads`: train heads by several strategies and score them."""
