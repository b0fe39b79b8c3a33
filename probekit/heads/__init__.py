"""Multi-token-prediction heads: their kinds, how they start, how they are read and stored."""
