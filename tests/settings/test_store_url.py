"""The URLs of a fleet's store: what is understood, what is refused, and that no text tells the password."""

import pytest

from gateway.settings.store_url import StoreUrl, parse_store_url


@pytest.mark.parametrize(
    ("url", "parsed", "label"),
    [
        ("redis://h", StoreUrl("redis", (("h", 6379),)), "redis://h:6379"),
        ("redis://10.0.0.5:7000/3", StoreUrl("redis", (("10.0.0.5", 7000),), db=3), "redis://10.0.0.5:7000/3"),
        ("REDIS://h/", StoreUrl("redis", (("h", 6379),)), "redis://h:6379"),
        ("redis://:p%40ss@h", StoreUrl("redis", (("h", 6379),), password="p@ss"), "redis://h:6379"),
        ("redis://u:p:q@h", StoreUrl("redis", (("h", 6379),), username="u", password="p:q"), "redis://h:6379"),
        ("redis://[fd00::1]:7000", StoreUrl("redis", (("fd00::1", 7000),)), "redis://[fd00::1]:7000"),
        ("rediss://h?ca=/a.pem", StoreUrl("rediss", (("h", 6379),), options={"ca": "/a.pem"}), "rediss://h:6379"),
        ("unix:///run/r.sock?db=2", StoreUrl("unix", (), "/run/r.sock", db=2), "unix:///run/r.sock"),
        ("unix://u:p@/r%20s", StoreUrl("unix", (), "/r s", username="u", password="p"), "unix:///r s"),
        ("redis+sentinel://a,b:1/main/2", StoreUrl("redis+sentinel", (("a", 26379), ("b", 1)), "", "main", 2),
         "redis+sentinel://a:26379,b:1/main/2"),
        ("redis+sentinel://a/m?sentinel_password=s", StoreUrl("redis+sentinel", (("a", 26379),), "", "m",
         options={"sentinel_password": "s"}), "redis+sentinel://a:26379/m"),
        ("etcd://a,[::1]:1", StoreUrl("etcd", (("a", 2379), ("::1", 1))), "etcd://a:2379,[::1]:1"),
        ("etcds://u:p@a/?cert=c&key=k", StoreUrl("etcds", (("a", 2379),), "", "", 0, "u", "p",
         {"cert": "c", "key": "k"}), "etcds://a:2379"),
    ],
)  # fmt: skip
def test_what_is_understood(url: str, parsed: StoreUrl, label: str) -> None:
    assert parse_store_url(url) == parsed
    assert parsed.label == label
    assert "p@ss" not in repr(parsed)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "redis://, rediss://, unix://, redis+sentinel://, etcd://, etcds://"),
        ("mysql://h", "must begin with one of"),
        ("redis:h", "must begin with one of"),
        ("h:6379", "must begin with one of"),
        ("redis://", "the host is missing"),
        ("redis:///0", "the host is missing"),
        ("redis://:secret@", "the host is missing"),
        ("etcd://a,,b", "the host is missing"),
        ("redis://h:0", "from 1 to 65535"),
        ("redis://h:65536", "from 1 to 65535"),
        ("redis://h:", "from 1 to 65535"),
        ("redis://h:\uff16", "from 1 to 65535"),
        ("redis://h:1:2", "from 1 to 65535"),
        ("redis://h:" + "9" * 5000, "from 1 to 65535"),
        ("redis://fd00::1", "from 1 to 65535"),
        ("redis://[fd00::1", "brackets"),
        ("redis://[secret]x", "brackets"),
        ("redis://h/x", "the database is a number"),
        ("redis://h/-1", "the database is a number"),
        ("redis://h/0/1", "more in the path"),
        ("redis://a,b", "takes one host"),
        ("redis://h?db=1", "takes nothing after the question mark"),
        ("redis://h?secret", "takes nothing after the question mark"),
        ("rediss://h?ca=a&ca=b", "only ca, cert, key"),
        ("rediss://h?ca=", "only ca, cert, key"),
        ("rediss://h?cert=a", "together"),
        ("etcd://h?password=secret", "takes nothing"),
        ("etcd://h/0", "takes no path"),
        ("redis+sentinel://h", "the primary's name is missing"),
        ("redis+sentinel://h//0", "the primary's name is missing"),
        ("unix://run/r.sock", "the path of the socket is missing"),
        ("unix://", "the path of the socket is missing"),
        ("redis://secret@h", "a user without a password"),
        ("redis://:zqx/zqx@h", "%2F"),
        ("redis://:zqx?zqx@h", "%2F"),
        ("redis://:zqx#zqx@h", "%23"),
        ("redis://:zqx zqx@h", "white space"),
        ("redis://h\0", "control character"),
    ],
)
def test_what_is_refused(url: str, told: str) -> None:
    with pytest.raises(ValueError) as error:
        parse_store_url(url)
    assert told in str(error.value) and "secret" not in str(error.value) and "zqx" not in str(error.value)
