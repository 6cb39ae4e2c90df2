"""The values of HTTP headers as text."""


def header_text(value: bytes | None) -> str | None:
    """A header's value as text, without spaces around it: as UTF-8 if it is valid, else as Latin-1, which always is."""
    if value is None:
        return None
    try:
        return value.strip(b" \t").decode()
    except UnicodeDecodeError:
        return value.strip(b" \t").decode("latin-1")
