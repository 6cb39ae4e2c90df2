"""Compiles a matcher of the YAML to a test of an attribute's value, and describes it in words."""

from collections.abc import Callable

import re2

from gateway.settings.matching import MatcherSettings

Test = Callable[[str | None], bool]


def compile_matcher(matcher: MatcherSettings) -> Test:
    """The test that all of the matcher's conditions hold. A missing value (None) passes only `not`."""
    tests = _tests(matcher)
    if len(tests) == 1:
        return tests[0]
    return lambda value: all(test(value) for test in tests)


def _tests(matcher: MatcherSettings) -> list[Test]:
    tests: list[Test] = []
    if matcher.exact is not None:
        tests.append(_equal(matcher.exact))
    if matcher.in_ is not None:
        tests.append(matcher.in_.__contains__)
    if matcher.prefix is not None:
        tests.append(_affix(str.startswith, matcher.prefix))
    if matcher.suffix is not None:
        tests.append(_affix(str.endswith, matcher.suffix))
    if matcher.regex is not None:
        tests.append(_whole(re2.compile(matcher.regex).fullmatch))
    if matcher.not_ is not None:
        tests.append(_negated(compile_matcher(matcher.not_)))
    return tests


def _equal(exact: str) -> Test:
    return lambda value: value == exact


def _affix(method: Callable[[str, str], bool], affix: str) -> Test:
    return lambda value: value is not None and method(value, affix)


def _whole(fullmatch: Callable[[str], object]) -> Test:
    return lambda value: value is not None and fullmatch(value) is not None


def _negated(test: Test) -> Test:
    return lambda value: not test(value)


def describe_matcher(matcher: MatcherSettings) -> str:
    """The matcher in words, such as `one of de, fr` or `'eu-…'` (a prefix)."""
    parts = []
    if matcher.exact is not None:
        parts.append(f"'{matcher.exact}'")
    if matcher.in_ is not None:
        listed = ", ".join(sorted(matcher.in_)) if len(matcher.in_) <= 5 else f"{len(matcher.in_):,} listed values"
        parts.append(f"one of {listed}")
    if matcher.prefix is not None:
        parts.append(f"'{matcher.prefix}…'")
    if matcher.suffix is not None:
        parts.append(f"'…{matcher.suffix}'")
    if matcher.regex is not None:
        parts.append(f"/{matcher.regex}/")
    if matcher.not_ is not None:
        parts.append(f"not {describe_matcher(matcher.not_)}")
    return " and ".join(parts)
