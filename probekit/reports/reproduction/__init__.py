"""The page of a repeated figure or table."""
