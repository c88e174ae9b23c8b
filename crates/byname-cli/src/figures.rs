//! Figures as people read them: times in fitting units, counts in groups of three digits.

/// Such as `85.3 µs`: three digits.
pub(crate) fn time(nanos: u64) -> String {
    let nanos = nanos as f64;
    match nanos {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 999.5e3 => format!("{} µs", three_digits(n / 1e3)),
        n if n < 999.5e6 => format!("{} ms", three_digits(n / 1e6)),
        n => format!("{} s", three_digits(n / 1e9)),
    }
}

/// A long time, in its two greatest units: `3 h 12 min`.
pub(crate) fn long_time(millis: u64) -> String {
    let seconds = millis / 1_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A bound of a bucket, which is a round number: `120 µs`.
pub(crate) fn round_time(nanos: u64) -> String {
    match nanos {
        n if n < 1_000 => format!("{n} ns"),
        n if n < 1_000_000 => format!("{} µs", n as f64 / 1e3),
        n if n < 1_000_000_000 => format!("{} ms", n as f64 / 1e6),
        n => format!("{} s", n as f64 / 1e9),
    }
}

/// Such as `81,234`.
pub(crate) fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut grouped = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number of something a second: `81,234` or `3.25`.
pub(crate) fn rate(a_second: f64) -> String {
    if a_second >= 99.95 { count(a_second.round() as u64) } else { three_digits(a_second) }
}

/// The share of `part` in `whole`: `12.3 %`. A share that is not 0 is not shown as 0.
pub(crate) fn share(part: u64, whole: u64) -> String {
    let percent = part as f64 * 100.0 / whole.max(1) as f64;
    match percent {
        p if p > 0.0 && p < 0.01 => "<0.01 %".to_owned(),
        p if p > 0.0 && p < 0.095 => format!("{p:.2} %"),
        p => format!("{p:.1} %"),
    }
}

/// The same in at most this many characters, which are at least 5: `81,234` or `1.23M`.
pub(crate) fn narrow_rate(a_second: f64, width: usize) -> String {
    let whole = if a_second == 0.0 { "0".to_owned() } else { rate(a_second) };
    if whole.len() <= width {
        return whole;
    }
    shortened(a_second)
}

/// A count in at most this many characters, which are at least 5: `81,234` or `1.23M`.
pub(crate) fn narrow_count(n: u64, width: usize) -> String {
    let whole = count(n);
    if whole.len() <= width { whole } else { shortened(n as f64) }
}

/// In at most 5 characters.
fn shortened(mut n: f64) -> String {
    let mut unit = "";
    for next in ["k", "M", "G", "T", "P", "E"] {
        if n >= 999.5 {
            (n, unit) = (n / 1e3, next);
        }
    }
    format!("{}{unit}", three_digits(n.min(9_999.0)))
}

fn three_digits(n: f64) -> String {
    match n {
        n if n < 9.995 => format!("{n:.2}"),
        n if n < 99.95 => format!("{n:.1}"),
        n => format!("{n:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits_and_a_fitting_unit() {
        let times = [0, 999, 1_000, 9_996, 85_340, 999_499, 999_500, 12_345_678, 999_600_000, 61_000_000_000];
        assert_eq!(
            times.map(time),
            ["0 ns", "999 ns", "1.00 µs", "10.0 µs", "85.3 µs", "999 µs", "1.00 ms", "12.3 ms", "1.00 s", "61.0 s"]
        );
        assert_eq!([100, 1_200, 15_000_000, 2_500_000_000].map(round_time), ["100 ns", "1.2 µs", "15 ms", "2.5 s"]);
    }

    #[test]
    fn a_long_time_has_two_units() {
        let times = [0, 59_999, 60_000, 3_599_000, 11_520_000, 360_000_000, u64::MAX];
        assert_eq!(
            times.map(long_time),
            ["0 s", "59 s", "1 min 0 s", "59 min 59 s", "3 h 12 min", "4 d 4 h", "213503982334 d 14 h"]
        );
    }

    #[test]
    fn a_rate_fits_its_column() {
        assert_eq!(
            [0.0, 81_234.0, 999_400.0, 999_600.0, 1.234e9].map(|n| narrow_rate(n, 6)),
            ["0", "81,234", "999k", "1.00M", "1.23G"]
        );
        assert_eq!([1.2e12, 3.4e16, 1.8e19].map(|n| narrow_rate(n, 6)), ["1.20T", "34.0P", "18.0E"]);
        assert!(narrow_rate(f64::MAX, 6).len() <= 6);
    }

    #[test]
    fn a_count_fits_its_column() {
        assert_eq!(
            [0, 64, 9_999_999, 99_999_999, 1_000_000_000_000, u64::MAX].map(|n| narrow_count(n, 9)),
            ["0", "64", "9,999,999", "100M", "1.00T", "18.4E"]
        );
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 3.25, 99.94, 99.96, 81_234.4].map(rate), ["0.00", "3.25", "99.9", "100", "81,234"]);
    }

    #[test]
    fn a_small_share_is_not_zero() {
        assert_eq!(share(0, 0), "0.0 %");
        assert_eq!([share(1, 3), share(1, 2_000), share(1, 1_000_000)], ["33.3 %", "0.05 %", "<0.01 %"]);
    }
}
