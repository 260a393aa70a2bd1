"""Encrypts each text with the answer that it belongs to, so nobody can read it in a file.

    sealed = seal("right. Well done.", key="b")
    opened(sealed, "b"), opened(sealed, "a")        # ("right. Well done.", None)

A file contains a salted hash, and the text encrypted with the answer. You can find a letter or a
number by trying all of them, as with `check` itself, but each try takes some hundredths of a
second.
"""

import base64
import hashlib
import os

ROUNDS, SALT, TAG = 20_000, 16, 16  # iterations of the key derivation; bytes; bytes


def seal(text: str, key: str) -> str:
    """The text, encrypted with this key."""
    salt, message = os.urandom(SALT), text.encode()
    stream = _stream(key, salt, TAG + len(message))
    secret = bytes(a ^ b for a, b in zip(message, stream[TAG:], strict=True))
    return base64.b64encode(salt + stream[:TAG] + secret).decode()


def opened(sealed: str, key: str) -> str | None:
    """The text that was encrypted with this key; None for another key."""
    data = base64.b64decode(sealed)
    salt, tag, secret = data[:SALT], data[SALT : SALT + TAG], data[SALT + TAG :]
    stream = _stream(key, salt, TAG + len(secret))
    if stream[:TAG] != tag:
        return None
    return bytes(a ^ b for a, b in zip(secret, stream[TAG:], strict=True)).decode()


def _stream(key: str, salt: bytes, length: int) -> bytes:
    """`length` bytes, which look random to anyone who doesn't know the key."""
    stretched = hashlib.pbkdf2_hmac("sha256", key.encode(), salt, ROUNDS)
    return hashlib.shake_256(stretched).digest(length)
