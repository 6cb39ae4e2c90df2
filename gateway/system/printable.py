"""Texts from clients and file names as a terminal, a log or a page can show them."""


def printable(text: str) -> str:
    """The text with what cannot be printed escaped, as in "\\x1b[2J": it could steer a terminal."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()
