"""What a client sends cannot steer the terminal that shows it."""

import pytest

from gateway.system.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("résumé 客户", "résumé 客户"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\r\t", "a\\nb\\r\\t"),
        ("\x9b\u202e", "\\x9b\\u202e"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown and printable(text).isprintable()
