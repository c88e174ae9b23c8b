//! Strings that are tried with types that refuse plain ones: [`SAMPLES`].

/// A string of a kind, and how JSON Schema calls that kind, if it has a name for it.
pub(crate) struct FormatSample {
    pub(crate) text: &'static str,
    pub(crate) format: Option<&'static str>,
}

const fn sample(text: &'static str, format: &'static str) -> FormatSample {
    FormatSample { text, format: Some(format) }
}

const fn unnamed(text: &'static str) -> FormatSample {
    FormatSample { text, format: None }
}

/// Strings that any type takes that takes strings.
pub(crate) const PLAIN: [&str; 4] = ["", "a", "Grüße, 世界", "no format has this: \u{7f}\n{\"0\"}"];

/// The most particular kinds come first: what takes an integer takes a decimal number more often than the reverse.
pub(crate) const SAMPLES: &[FormatSample] = &[
    sample("67e55044-10b1-426f-9247-bb680e5fe0c8", "uuid"),
    sample("2026-11-28T09:30:00Z", "date-time"),
    sample("2026-11-28", "date"),
    unnamed("2026-11-28T09:30:00"),
    unnamed("2026-11-28 09:30:00"),
    unnamed("09:30:00"),
    sample("09:30:00Z", "time"),
    sample("192.0.2.1", "ipv4"),
    sample("2001:db8::1", "ipv6"),
    unnamed("192.0.2.1:80"),
    unnamed("[2001:db8::1]:80"),
    unnamed("192.0.2.0/24"),
    sample("https://example.com/a?b=c", "uri"),
    sample("PT1H", "duration"),
    unnamed("1h 30m"),
    unnamed("1"),
    unnamed("1.5"),
    unnamed("-1"),
    sample("ada@example.com", "email"),
    unnamed("1.2.3"),
    unnamed("01ARZ3NDEKTSV4RRFFQ69G5FAV"),
    unnamed("a"),
    unnamed("A"),
    unnamed("abc"),
    unnamed("ABC"),
    unnamed("example.com"),
    unnamed("/a/b"),
    unnamed("en"),
    unnamed("en-GB"),
    unnamed("EUR"),
    unnamed("Europe/Berlin"),
    unnamed("+441632960961"),
    unnamed("#ff0000"),
    unnamed("00"),
    unnamed("deadbeef"),
    unnamed("YWJj"),
    unnamed("0123456789abcdef0123456789abcdef"),
    unnamed("0123456789abcdef0123456789abcdef01234567"),
    unnamed("true"),
    unnamed("00:00:5e:00:53:01"),
    unnamed("application/json"),
];
