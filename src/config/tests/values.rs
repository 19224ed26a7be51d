//! Values, form by form.

use std::time::Duration;

use crate::config::values::{boolean, cpus, duration, integer, list, nanoseconds, unsigned, urls};
use crate::config::{Config, ListenUrl};
use crate::url::{Scheme, Url};

const PARSE_ERROR: &str = "parse error";

#[test]
fn booleans_are_gos() {
    for text in ["1", "t", "T", "true", "TRUE", "True"] {
        assert_eq!(boolean(text), Ok(true), "{text}");
    }
    for text in ["0", "f", "F", "false", "FALSE", "False"] {
        assert_eq!(boolean(text), Ok(false), "{text}");
    }
    for text in ["", "yes", "on", "tRUE", " true"] {
        assert_eq!(boolean(text).unwrap_err(), PARSE_ERROR, "{text}");
    }
}

#[test]
fn numbers_are_gos() {
    for (text, value) in [
        ("0", 0),
        ("18446744073709551615", u64::MAX),
        ("0x1F", 31),
        ("0b101", 5),
        ("0o17", 15),
        ("017", 15),
    ] {
        assert_eq!(unsigned(text), Ok(value), "{text}");
    }
    for text in ["", "-1", "+1", "1.0", "1e3", " 1", "0x", "08", "0b2", "x", "0x+1", "1k"] {
        assert_eq!(unsigned(text).unwrap_err(), PARSE_ERROR, "{text}");
    }
    for text in ["18446744073709551616", "0x10000000000000000"] {
        assert_eq!(unsigned(text).unwrap_err(), "value out of range", "{text}");
    }

    for (text, value) in [
        ("0", 0),
        ("-1", -1),
        ("+1", 1),
        ("-0x10", -16),
        ("9223372036854775807", i64::MAX),
        ("-9223372036854775808", i64::MIN),
    ] {
        assert_eq!(integer(text), Ok(value), "{text}");
    }
    for text in ["9223372036854775808", "-9223372036854775809"] {
        assert_eq!(integer(text).unwrap_err(), "value out of range", "{text}");
    }
    for text in ["", "-", "--1", "+-1", "one"] {
        assert_eq!(integer(text).unwrap_err(), PARSE_ERROR, "{text}");
    }
}

#[test]
fn durations_are_gos() {
    const SECOND: i64 = 1_000_000_000;
    for (text, value) in [
        ("0", 0),
        ("0s", 0),
        ("5s", 5 * SECOND),
        ("+5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("1h2m3s4ms5us6ns", 3_723 * SECOND + 4_005_006),
        ("1µs", 1_000),
        ("1.5s", SECOND * 3 / 2),
        (".5s", SECOND / 2),
        ("1.s", SECOND),
        ("0.1h", 360 * SECOND),
        ("0.3333333333333333333333h", 1_200 * SECOND - 1),
        ("2562047h", 2_562_047 * 3_600 * SECOND),
    ] {
        assert_eq!(nanoseconds(text), Ok(value), "{text}");
    }
    for text in ["", "5", "-", "s", ".s", "1d", "1 s", "1.2.3s", "5s5", "3000000h", "1e3s", "--1s"]
    {
        assert_eq!(nanoseconds(text).unwrap_err(), PARSE_ERROR, "{text}");
    }
    assert_eq!(duration("-1ns").unwrap_err(), "must not be negative");
}

#[test]
fn lists_hold_each_word_once() {
    assert_eq!(list(""), [""; 0]);
    assert_eq!(list("b, a,,b"), ["a", "b"]);
}

#[test]
fn cpu_lists_are_the_kernels() {
    for (text, expected) in [
        ("0", vec![0]),
        ("0-3,5", vec![0, 1, 2, 3, 5]),
        ("5,0-1,1", vec![0, 1, 5]),
        (" 2 , 4 - 5 ", vec![2, 4, 5]),
        ("8191", vec![8191]),
    ] {
        assert_eq!(cpus(text), Ok(expected), "{text}");
    }
    for (text, word) in [
        ("", ""),
        ("a", "a"),
        ("1,", ""),
        ("8192", "8192"),
        ("0-99999999", "99999999"),
        ("+1", "+1"),
    ] {
        let reason =
            format!("{word:?} is not a processor number below 8192; write a list like 0-3,5");
        assert_eq!(cpus(text), Err(reason), "{text}");
    }
    assert_eq!(cpus("3-1"), Err("the range 3-1 runs backwards".to_owned()));
}

#[test]
fn urls_are_read_into_their_parts() {
    for (text, scheme, host, port) in [
        ("http://localhost:2379", Scheme::Http, "localhost", 2379),
        (" https://a.example:1 ", Scheme::Https, "a.example", 1),
        ("HTTP://10.0.0.1:65535", Scheme::Http, "10.0.0.1", 65535),
        ("http://[::1]:0", Scheme::Http, "::1", 0),
        ("http://:5", Scheme::Http, "", 5),
        ("unix:///run/urd.sock", Scheme::Unix, "/run/urd.sock", 0),
        ("unixs://localhost:1", Scheme::Unixs, "localhost:1", 0),
    ] {
        let url = Url::parse(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
        assert_eq!((url.scheme(), url.host(), url.port()), (scheme, host, port), "{text}");
    }
    assert_eq!(Url::parse(" HTTP://a:1 ").unwrap().as_str(), "http://a:1");
}

#[test]
fn wrong_urls_are_named() {
    let scheme = "URL scheme must be http, https, unix, or unixs: ";
    let form = "URL address does not have the form \"host:port\": ";
    let path = "URL must not contain a path: ";
    let only = "URL must be only a scheme, a host and a port: ";
    let port = "URL port must be 0 to 65535: ";
    for (text, reason) in [
        ("", scheme),
        ("localhost:2379", scheme),
        ("ftp://a:1", scheme),
        ("http://a", form),
        ("http://", form),
        ("http://::1:2379", form),
        ("http://[::1]", form),
        ("http://[::1", form),
        ("http://a/b", form),
        ("http://a:1/", path),
        ("http://a:1/b?c", path),
        ("http://a:1?b", only),
        ("http://a:1#b", only),
        ("http://u@a:1", only),
        ("http://a:", port),
        ("http://a:65536", port),
        ("http://a:x", port),
    ] {
        assert_eq!(Url::parse(text), Err(format!("{reason}{text}")), "{text}");
    }
}

#[test]
fn url_lists_are_sorted_and_hold_each_once() {
    assert_eq!(urls(""), Ok(Vec::new()));
    let texts =
        |text| -> Vec<String> { urls(text).unwrap().iter().map(ToString::to_string).collect() };
    assert_eq!(texts("http://b:1, http://a:2,http://b:1"), ["http://a:2", "http://b:1"]);
    assert!(urls("http://a:1,").is_err());
}

#[test]
fn only_what_can_be_bound_is_listened_on() {
    let listen = |text: &str| ListenUrl::try_from(Url::parse(text).unwrap());
    for (text, address) in [
        ("http://localhost:1", "127.0.0.1:1"),
        ("http://0.0.0.0:2", "0.0.0.0:2"),
        ("http://[::]:3", "[::]:3"),
    ] {
        let url = listen(text).unwrap();
        assert_eq!(url.address().to_string(), address, "{text}");
        assert_eq!(url.to_string(), text);
    }
    for text in ["https://127.0.0.1:1", "unix://s", "unixs://s", "http://:1", "http://a.example:1"]
    {
        let reason = listen(text).unwrap_err();
        assert!(reason.contains(text), "{reason}");
    }
}

/// What etcd 3.4 grants for a TTL of 0 under the same flags.
#[test]
fn the_shortest_lease_follows_from_the_election_timeout() {
    for (heartbeat, election, seconds) in
        [(100, 1000, 2), (100, 2000, 3), (100, 700, 1), (100, 5000, 8), (300, 1600, 3)]
    {
        let config = Config {
            heartbeat_interval: Duration::from_millis(heartbeat),
            election_timeout: Duration::from_millis(election),
            ..Config::default()
        };
        assert_eq!(config.lease_ttl_min(), seconds, "{heartbeat} {election}");
    }
}
