"""The routing file's bytes as its settings, and as a text that can be edited without touching another byte."""

import codecs
from typing import Final

from gateway.errors import SettingsError
from gateway.settings.load import parse
from gateway.settings.routing import RoutingSettings

MAX_BYTES: Final = 8 << 20  # a MiB takes control's thread half a second to read, three where it is nothing but patterns
_UTF_16: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def text_of(content: bytes, source: str) -> tuple[bytes, str]:
    """The byte order mark, empty as a rule, and the text after it, line ends as they are. Raises SettingsError."""
    if len(content) > MAX_BYTES:
        problem = f"is {len(content) >> 20} MiB long, and {MAX_BYTES >> 20} MiB is the most; is it the right file?"
        raise SettingsError(source, [problem])
    if content.startswith(_UTF_16):
        raise SettingsError(source, ["is in UTF-16; save it as UTF-8"])
    mark = codecs.BOM_UTF8 if content.startswith(codecs.BOM_UTF8) else b""
    try:
        return mark, content[len(mark) :].decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start + len(mark)) + 1
        raise SettingsError(
            source, [f"line {line}: cannot be read: no UTF-8 ({error.reason}); save it as UTF-8"]
        ) from None


def routing_of(content: bytes, source: str) -> RoutingSettings:
    """The releases that the file names; raises SettingsError."""
    return parse(text_of(content, source)[1], RoutingSettings, source)
