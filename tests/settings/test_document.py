"""Mistakes in the text of a YAML file are reported with line and column, and with the remedy."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import SettingsError
from gateway.settings.document import MAX_ALIASED, MAX_CHARACTERS, MAX_DEPTH, parse_yaml
from gateway.settings.load import load_routing

CONFIG = Path(__file__).parents[2] / "config"
SHIPPED = [(CONFIG / name).read_text() for name in ("routing.yaml", "gateway.yaml")]


def refusal(text: str) -> str:
    with pytest.raises(SettingsError) as error:
        parse_yaml(text, "file.yaml")
    assert str(error.value).startswith("file.yaml: ")
    return str(error.value).removeprefix("file.yaml: ")


TABS = [  # the text, and where the tab stands
    ("models:\n\tm: {stable: 1}", 2, 1),
    ("models:\n  m:\n  \tstable: 1", 3, 3),
    ("models:\n  m:\n\t\tstable: 1", 3, 1),
    ("a: 1\n\tb: 2", 2, 1),
    ("-\ta: 1\n \tb: 2", 1, 2),
    ("- \ta: 1", 1, 3),
    ("? a\n:\tb", 2, 2),
    ("a: |\n\tx", 2, 1),
    ("a: x\ty", 1, 5),
    ("a: [x,\ty\tz]", 1, 9),
    ("a: x\n \ty", 2, 2),
    ("a:\r\n  b: 1\r\n\tc: 2", 3, 1),
    ("a:\r  b: 1\r\tc: 2", 3, 1),
    ("\ta: 1", 1, 1),
    ("a: 1\n\t\n", 2, 1),
]


@pytest.mark.parametrize(("text", "line", "column"), TABS)
def test_misplaced_tab_is_refused_with_its_place(text: str, line: int, column: int) -> None:
    message = refusal(text)
    assert message.startswith(f"line {line}, column {column}: a tab; ")
    assert "spaces" in message


@pytest.mark.parametrize("text", ["a:\t1", "a: 1\t# one", "a\t: 1", "{a:\n\t1}", "a: '1'\t", "# a\tb\na: 1"])
def test_harmless_tab_is_accepted(text: str) -> None:
    assert parse_yaml(text, "") in ({"a": 1}, {"a": "1"})


@pytest.mark.parametrize("text", SHIPPED)
def test_tab_in_place_of_any_indentation_is_refused(text: str) -> None:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        indent = len(line) - len(line.lstrip(" "))
        for wrong in (f"\t{line.lstrip(' ')}", f"{line[:indent]}\t{line[indent:]}"):
            if indent and not line.lstrip().startswith("#"):
                message = refusal("\n".join([*lines[: number - 1], wrong, *lines[number:]]))
                assert message.startswith(f"line {number}, ")
                assert "a tab" in message


@given(st.sampled_from(SHIPPED), st.data())
def test_tab_anywhere_is_harmless_or_refused(text: str, data: Any) -> None:
    position = data.draw(st.integers(0, len(text)))
    try:
        assert parse_yaml(f"{text[:position]}\t{text[position:]}", "") == parse_yaml(text, "")
    except SettingsError as error:
        assert "a tab" in str(error)


MISTAKES = [
    ("a: \x00", "line 1, column 4: not valid YAML: U+0000"),
    ("a: 'x\x00'", "line 1, column 6: not valid YAML: U+0000"),
    ("a: 1\n# \x1b[31m", "line 2, column 3: not valid YAML: U+001B"),
    ("a: 1\x85b: 2", "line 1, column 5: not valid YAML: U+0085"),
    ("a: 1\u2028b: 2", "line 1, column 5: not valid YAML: U+2028 (line separator)"),
    ("a: 1\r\nb: \ufeff2", "line 2, column 4: not valid YAML: U+FEFF"),
    ("a: \ud800", "line 1, column 4: not valid YAML: U+D800"),
    ("a:\n\u00a0\u00a0b: 1", "line 2, column 1: U+00A0 (no-break space) only looks like a space"),
    ("a: b\u200b", "line 1, column 5: U+200B (zero width space) only looks like a space"),
    ("a: \u201cx\u201d", "line 1, column 4: U+201C (left double quotation mark) is not a quotation mark in YAML"),
    ("a: [x, \u2018y\u2019]", "line 1, column 8: U+2018 (left single quotation mark) is not a quotation mark"),
    ("\u201ca\u201d: x", "line 1, column 1: U+201C"),
    ("a: 1\na: 2", "line 2, column 1: key 'a' is given twice"),
    ("a: 1\n'a': 2", "line 2, column 1: key 'a' is given twice"),
    ("on: 1", "line 1, column 1: a key must be plain text: YAML reads this as true; put it in quotes"),
    ("{a: {null: 1}}", "line 1, column 6: a key must be plain text: YAML reads this as null"),
    ("2024-01-01: 1", "line 1, column 1: a key must be plain text: YAML reads 2024-01-01 as a date; put it in quotes"),
    ("[a]: 1", "line 1, column 1: a key must be plain text"),
    ("a: !b", "line 1, column 4: not valid YAML here: '!b' is read as a tag; put what begins with '!' in quotes"),
    ("a: !!int 010", "line 1, column 4: not valid YAML here: '!!int' is read as a tag"),
    ("a: !!python/object/apply:os.system [x]", "line 1, column 4: not valid YAML here: '!!python"),
    ("a: !!set {x}", "line 1, column 4: not valid YAML here: '!!set'"),
    ("a: @b", "'@' cannot begin a value; put the value in quotes"),
    ("a: `b", "'`' cannot begin a value; put the value in quotes"),
    ("a: *", "a value that begins with '*' needs quotes"),
    ("a: *b", "line 1, column 4: there is no anchor '&b' for '*b'; text that begins with '*' needs quotes"),
    ("a: &b [*b]", "line 1, column 8: '*b' is inside the value that it repeats"),
    ("a: &b {c: &b 1}", "line 1, column 11: the anchor '&b' is given twice"),
    ("a: b: c", "line 1, column 5: not valid YAML: mapping values are not allowed in this context: a value that"),
    ("a:\n  b 1\n\n  c: 2", "line 4, column 4: not valid YAML: mapping values are not allowed in this context: it"),
    ("a:\n  b 1\n\n  c: 2", "is read as more of line 2; give that one a ': ', or both the same indentation"),
    ("a:\n   b: 1\n    c: 2", "is read as more of line 2; give that one a ': ', or both the same indentation"),
    (
        "a:\n  b 1  # x\n  # y\n  c: 2",
        "line 4, column 3: not valid YAML: did not find expected key: line 2 has no ': '",
    ),
    ("a: 1\nb\nc: 2", "line 3, column 1: not valid YAML: could not find expected ':': line 2 has no ': '"),
    ("<<: 1", "line 1, column 1: '<<' merges a mapping"),
    ("<<: [1]", "line 1, column 1: '<<' merges a mapping"),
    ("a: 1\n---\nb: 2", "line 2, column 1: a second document begins here"),
    ("%YAML 2.0\n---\na: 1", "line 1, column 1: not valid YAML: found incompatible YAML document"),
    ("a: [1,\n", "line 2, column 1: not valid YAML"),
    ("a: 'x", "not valid YAML"),
]


@pytest.mark.parametrize(("text", "says"), MISTAKES)
def test_yaml_mistake_is_refused_with_its_place(text: str, says: str) -> None:
    assert says in refusal(text)


@pytest.mark.parametrize(
    ("text", "means"),
    [
        ("", None),
        ("# nothing", None),
        ("\ufeffa: 1", {"a": 1}),
        ("--- \na: 1\n...\n", {"a": 1}),
        ("%YAML 1.2\n---\na: 1", {"a": 1}),
        ("a: !!str 010", {"a": "010"}),
        ("a: ! 010", {"a": "010"}),
        ("a: '010'\nb: \"\\u00a0\"\nc: |\n  \u201cx\u201d\n", {"a": "010", "b": "\u00a0", "c": "\u201cx\u201d\n"}),
        ("a: l\u2019or\u00e9al", {"a": "l\u2019or\u00e9al"}),
        ("a: <<\nb: =\n=: c", {"a": "<<", "b": "=", "=": "c"}),
        ("x: &x {a: 1, b: 2}\ny: {<<: *x, b: 3}", {"x": {"a": 1, "b": 2}, "y": {"a": 1, "b": 3}}),
        ("- &x {a: 1}\n- &y {a: 2, b: 2}\n- <<: [*x, *y]", [{"a": 1}, {"a": 2, "b": 2}, {"a": 1, "b": 2}]),
        ("'<<': 1", {"<<": 1}),
        ("1: a\n01: b\n1.0: c\n0x1: d", {"1": "a", "01": "b", "1.0": "c", "0x1": "d"}),
        ("a:\r  b: 1\r  c: 2\r", {"a": {"b": 1, "c": 2}}),
        ("a: 1\n---", {"a": 1}),
    ],
)
def test_valid_yaml_is_read(text: str, means: Any) -> None:
    if text.endswith("---"):
        assert "second document" in refusal(text)
    else:
        assert parse_yaml(text, "") == means


@pytest.mark.parametrize(
    "text",
    [
        "[" * 50_000,
        "{" * 50_000,
        "- " * 50_000,
        "? " * 50_000,
        "{a: " * (MAX_DEPTH + 2),
        "[&a " * 50_000,
        "&" * 9,
        "'" * 9999,
    ],
    ids=lambda text: text[:4],
)
def test_very_deep_nesting_is_refused_without_a_crash(text: str) -> None:
    assert "line 1, column " in refusal(text)


def test_exponential_aliases_are_refused_before_expansion() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]
    assert f"aliases repeat more than {MAX_ALIASED:,} values" in refusal("\n".join(lines))
    assert len(parse_yaml("\n".join(lines[:5]), "")["a4"]) == 10


def test_too_large_file_is_refused() -> None:
    assert f"{MAX_CHARACTERS:,} is the limit" in refusal("#" * (MAX_CHARACTERS + 1))


def test_invalid_utf8_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "routing.yaml"
    for content, place in (
        (b"a: \xff", "line 1, column 4: cannot be read: the byte 0xff"),
        ("models:\n  m\u00fcller: 1".encode("latin-1"), "line 2, column 4: cannot be read: the byte 0xfc"),
        ("a: 1".encode("utf-16"), "line 1, column 1: cannot be read"),
    ):
        file.write_bytes(content)
        with pytest.raises(SettingsError, match=place):
            load_routing(file)


@given(st.text(alphabet="ab:-[]{},&*!|>'\"%@#?<= \n\t\r0123456789._~\u00a0\u201c\ufeff", max_size=40))
def test_any_text_is_read_or_refused_with_its_place(text: str) -> None:
    try:
        parse_yaml(text, "file.yaml")
    except SettingsError as error:
        assert "line " in str(error)


@settings(max_examples=30)
@given(
    st.recursive(
        st.text(max_size=12), lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner)
    )
)
def test_quoted_text_of_another_yaml_writer_is_read_unchanged(meant: Any) -> None:
    text = yaml.safe_dump(meant, default_style='"', allow_unicode=False)
    assert parse_yaml(text, "") == meant
