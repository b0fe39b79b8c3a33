"""`probekit reproduce`: the paper's figures and table 1, measured again."""
