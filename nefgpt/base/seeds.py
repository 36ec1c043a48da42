"""Seeds that depend on names alone."""

import hashlib


def stable_seed(*parts: object) -> int:
    """A 63-bit seed that depends on the parts alone (not on the process's hash seed)."""
    text = "\0".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
