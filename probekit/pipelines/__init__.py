"""What the commands do: the only place where the packages are put together."""
