"""Decodes the routing file: to its settings, and to a text that can be edited without changing other bytes."""

import codecs
from typing import Final

from gateway.errors import SettingsError
from gateway.settings.load import parse
from gateway.settings.routing import RoutingSettings

MAX_BYTES: Final = 8 << 20  # parsing a MiB takes half a second in the control process, three if it is all patterns
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def routing_text(content: bytes, source: str) -> tuple[bytes, str]:
    """Return the byte order mark (usually empty) and the text after it, with line ends kept. Raises SettingsError."""
    if len(content) > MAX_BYTES:
        problem = f"is {len(content) >> 20} MiB long, and {MAX_BYTES >> 20} MiB is the limit; is it the right file?"
        raise SettingsError(source, [problem])
    if content.startswith(_UTF_16):
        raise SettingsError(source, ["is in UTF-16; save it as UTF-8"])
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    try:
        return mark, content[len(mark) :].decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start + len(mark)) + 1
        raise SettingsError(
            source, [f"line {line}: cannot be read: not UTF-8 ({error.reason}); save it as UTF-8"]
        ) from None


def parse_routing(content: bytes, source: str) -> RoutingSettings:
    """Parse the releases in the file; raises SettingsError."""
    return parse(routing_text(content, source)[1], RoutingSettings, source)
