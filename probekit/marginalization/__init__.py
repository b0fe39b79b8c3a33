"""The model's own distribution of a later token, the tokens between summed out."""
