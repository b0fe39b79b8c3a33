"""`probekit analyze`: measure one model on one text."""
