"""Linear probes and other families, the logit lens, n-gram floors, controls."""
