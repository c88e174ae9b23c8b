//! A file by which operators change the limits of a running server: [`LimitsFile`].

use std::time::Duration;

use crate::limits_and_timeouts::Limits;
use crate::name::NamePattern;
use crate::untrusted_text::quoted;

/// What was read of the file.
#[derive(Debug, Default)]
pub(super) struct LimitsFile {
    /// The last content that was looked at.
    last: Option<Vec<u8>>,
    /// Other content whose last line has no end. It may be half-written.
    unfinished: Option<Vec<u8>>,
}

/// What a file says.
#[derive(Debug)]
pub(super) struct LimitsOfFile {
    pub(super) limits: Limits,
    /// Functions that are closed, and when callers may come again.
    pub(super) closed: Vec<(NamePattern, Duration)>,
}

impl LimitsFile {
    /// What this content says, as against the limits of the start. `None` if it was read before, or may be half-written.
    pub(super) fn read(&mut self, content: Vec<u8>, start: &Limits) -> Result<Option<LimitsOfFile>, String> {
        if self.last.as_ref() == Some(&content) {
            self.unfinished = None;
            return Ok(None);
        }
        if !content.is_empty() && !content.ends_with(b"\n") && self.unfinished.as_ref() != Some(&content) {
            self.unfinished = Some(content);
            return Ok(None);
        }
        self.unfinished = None;
        let said = parse(&content, start);
        self.last = Some(content);
        said.map(Some)
    }
}

fn parse(content: &[u8], start: &Limits) -> Result<LimitsOfFile, String> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8".to_owned())?;
    let mut said = LimitsOfFile { limits: start.clone(), closed: Vec::new() };
    let mut names = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let name = line.split_once('=').map(|(name, _)| name.trim());
        if name.is_some_and(|name| names.contains(&name)) {
            return Err(format!(
                "line {}: {}: this limit is set on a line before; remove one",
                number + 1,
                quoted(line)
            ));
        }
        names.extend(name);
        if !line.is_empty() {
            said.take(line).map_err(|why| format!("line {}: {}: {why}", number + 1, quoted(line)))?;
        }
    }
    Ok(said)
}

impl LimitsOfFile {
    fn take(&mut self, line: &str) -> Result<(), String> {
        const EXPECTED: &str = "expected `in_flight = 500`, `queue_delay = 5ms`, `drain = 30s`, `drain_delay = 5s`, or `close reports.* 30s`";
        if let Some(rest) = line.strip_prefix("close ") {
            let mut words = rest.split_whitespace();
            let (Some(pattern), Some(time), None) = (words.next(), words.next(), words.next()) else {
                return Err(EXPECTED.to_owned());
            };
            self.closed.push((NamePattern::parse(pattern)?, duration(time)?));
            return Ok(());
        }
        let (name, value) = line.split_once('=').ok_or(EXPECTED)?;
        let (name, value) = (name.trim(), value.trim());
        match name {
            "in_flight" => {
                self.limits.in_flight = value.parse().map_err(|_| "expected a whole number of calls".to_owned())?;
            }
            "queue_delay" => self.limits.queue_delay = duration(value)?,
            "drain" => self.limits.drain = duration(value)?,
            "drain_delay" => self.limits.drain_delay = duration(value)?,
            _ => return Err(EXPECTED.to_owned()),
        }
        Ok(())
    }
}

/// A time such as `50ms`, `30s` or `2m`.
fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    let milliseconds = number.parse::<u64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    milliseconds.map(Duration::from_millis).ok_or_else(|| format!("{} is not a time, such as `30s`", quoted(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<LimitsOfFile, String> {
        parse(text.as_bytes(), &Limits::default())
    }

    #[test]
    fn a_file_says_limits_and_closed_functions() {
        let said =
            read("# ours\n\nin_flight = 500\ndrain=60s # longer\ndrain_delay = 250ms\nqueue_delay = 8ms\nclose reports.* 2m\n").unwrap();
        assert_eq!((said.limits.in_flight, said.limits.drain), (500, Duration::from_secs(60)));
        assert_eq!(said.limits.drain_delay, Duration::from_millis(250));
        assert_eq!(said.limits.queue_delay, Duration::from_millis(8));
        let closed: Vec<_> = said.closed.iter().map(|(pattern, time)| (pattern.to_string(), *time)).collect();
        assert_eq!(closed, [("reports.*".to_owned(), Duration::from_secs(120))]);
        assert_eq!(read("").unwrap().limits.in_flight, Limits::default().in_flight);
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for wrong in [
            "in_flight",
            "message = 5",
            "in_flight = -1",
            "drain = 5",
            "close reports.*",
            "close a..b 5s",
            "close a 5s b",
        ] {
            let why = read(&format!("\n{wrong}\n")).unwrap_err();
            assert!(why.starts_with(&format!("line 2: `{wrong}`: ")), "{why}");
        }
        let twice = read("drain = 5s\nin_flight = 1\nin_flight=2\n").unwrap_err();
        assert_eq!(twice, "line 3: `in_flight=2`: this limit is set on a line before; remove one");
    }

    #[test]
    fn content_is_used_once_and_when_it_is_whole() {
        let (mut file, start) = (LimitsFile::default(), Limits::default());
        let mut read =
            |text: &str| file.read(text.as_bytes().to_vec(), &start).map(|said| said.map(|said| said.limits.in_flight));
        assert_eq!(read("in_flight = 5\n"), Ok(Some(5)));
        assert_eq!(read("in_flight = 5\n"), Ok(None));
        assert_eq!(read("in_flight = 50"), Ok(None));
        assert_eq!(read("in_flight = 500"), Ok(None));
        assert_eq!(read("in_flight = 500"), Ok(Some(500)));
        assert!(read("in_flight = x\n").is_err());
        assert_eq!(read("in_flight = x\n"), Ok(None));
        assert_eq!(read(""), Ok(Some(Limits::default().in_flight)));
    }
}
