"""Texts that only the answer they belong to can open: nobody reads them off a file.

    sealed = seal("right. Well done.", key="b")
    opened(sealed, "b"), opened(sealed, "a")        # ("right. Well done.", None)

What is stored is a salted hash and a text encrypted with the answer. A letter or a number can be
found by trying them all, as with `check` itself; each try costs some hundredths of a second.
"""

import base64
import hashlib
import os

ROUNDS, SALT, TAG = 20_000, 16, 16  # of the key's derivation; bytes


def seal(text: str, key: str) -> str:
    """The text, encrypted with this key."""
    salt, message = os.urandom(SALT), text.encode()
    stream = _stream(key, salt, TAG + len(message))
    secret = bytes(a ^ b for a, b in zip(message, stream[TAG:], strict=True))
    return base64.b64encode(salt + stream[:TAG] + secret).decode()


def opened(sealed: str, key: str) -> str | None:
    """The text that was sealed with this key; None for another key."""
    data = base64.b64decode(sealed)
    salt, tag, secret = data[:SALT], data[SALT : SALT + TAG], data[SALT + TAG :]
    stream = _stream(key, salt, TAG + len(secret))
    if stream[:TAG] != tag:
        return None
    return bytes(a ^ b for a, b in zip(secret, stream[TAG:], strict=True)).decode()


def _stream(key: str, salt: bytes, length: int) -> bytes:
    """As many bytes as are asked for, which look random to whoever doesn't know the key."""
    stretched = hashlib.pbkdf2_hmac("sha256", key.encode(), salt, ROUNDS)
    return hashlib.shake_256(stretched).digest(length)
