"""The signature both companies put on what they send each other; its format is explained in `provider.py`."""

import hmac
import re
import time

HEADER = "X-Signature"

#: Seconds a signature stays good: clocks differ and networks are slow, yet a copy soon becomes useless.
TOLERANCE_SECONDS = 300

FORMAT = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})")


def sign(secret: bytes, body: bytes) -> str:
    """The header's value for this body, sent now."""
    now = int(time.time())
    return f"t={now},v1={_digest(secret, now, body)}"


def is_authentic(secret: bytes, body: bytes, header: str) -> bool:
    """Whether somebody who knows the secret signed exactly these bytes a moment ago."""
    parts = FORMAT.fullmatch(header)
    if parts is None:
        return False

    signed_at, digest = int(parts[1]), parts[2]
    is_fresh = abs(time.time() - signed_at) <= TOLERANCE_SECONDS
    return is_fresh and hmac.compare_digest(digest, _digest(secret, signed_at, body))


def _digest(secret: bytes, signed_at: int, body: bytes) -> str:
    return hmac.new(secret, f"{signed_at}.".encode() + body, "sha256").hexdigest()
