"""Hide what is secret in a text that is printed or given away."""

import os
import re

# What tells that a variable may be a secret, and what one looks like wherever it stands.
SECRET = re.compile(r"TOKEN|KEY|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
LOOKS_SECRET = re.compile(r"(?<=://)[^/\s@]+(?=@)|\bhf_\w{8,}|\bgh[a-z]_\w{8,}|\bsk-[\w-]{8,}")
SHORTEST_SECRET = 8
HIDDEN = "[hidden]"


def without_secrets(text: str) -> str:
    """Return a text without what is secret: values of such variables, tokens, passwords in URLs.

    >>> without_secrets("https://me:word@example.com hf_abcdefghij")
    'https://[hidden]@example.com [hidden]'
    """
    secrets = [value for name, value in os.environ.items() if SECRET.search(name)]
    for value in sorted(secrets, key=len, reverse=True):
        if len(value) >= SHORTEST_SECRET:
            text = text.replace(value, HIDDEN)
    return LOOKS_SECRET.sub(HIDDEN, text)
