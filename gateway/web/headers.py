"""The values of HTTP headers as text."""


def text_of(value: bytes | None) -> str | None:
    """A header's value as text, without spaces around it: UTF-8 where it is valid, else Latin-1, which takes any."""
    if value is None:
        return None
    try:
        return value.strip(b" \t").decode()
    except UnicodeDecodeError:
        return value.strip(b" \t").decode("latin-1")
