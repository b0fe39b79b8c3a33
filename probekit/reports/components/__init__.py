"""What pages share: figures, tables, numbers, templates."""
