"""Files of JSON lines for tests."""

import json
from pathlib import Path


def jsonl(path: Path, *rows: object) -> str:
    """Write rows, a line each, and return where."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)
