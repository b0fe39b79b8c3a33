"""Settings made in a process of its own: in this one the check of types would speak first."""

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from probekit.settings import RunSettings

CODE = """
import importlib, json, sys
from probekit.errors import SettingsError
module, name = sys.argv[1:]
record = getattr(importlib.import_module(module), name)
for key, value in json.load(sys.stdin).items():
    try:
        print(getattr(record.from_mapping({key: value}), key))
    except SettingsError as error:
        print(error)
"""


def settings(record: type[RunSettings], values: Mapping[str, Any]) -> list[str]:
    """Return of each key the value that its field gets, or the message that refuses it."""
    command = [sys.executable, "-c", CODE, record.__module__, record.__name__]
    given = json.dumps(values)
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()
