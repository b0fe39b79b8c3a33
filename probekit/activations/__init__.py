"""The residual stream: hooks that capture it, batch by batch, in memory, on disk or live."""
