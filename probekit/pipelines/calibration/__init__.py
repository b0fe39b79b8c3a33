"""`probekit doctor --calibrate`: measure where the right answer is known."""
