"""Training heads, alone or jointly with the model."""
