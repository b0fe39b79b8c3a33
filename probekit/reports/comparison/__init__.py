"""The page over several runs."""
