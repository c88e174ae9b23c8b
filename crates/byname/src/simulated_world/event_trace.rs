//! What happened in a simulation, line by line: [`EventTrace`].

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::time::Duration;

/// One line for each event: the virtual time in seconds, the machine, and what happened.
#[derive(Debug)]
pub(super) struct EventTrace {
    lines: VecDeque<String>,
    /// The most lines that are kept, the last ones.
    kept: usize,
    /// Lines that are not kept any more.
    dropped: u64,
}

impl EventTrace {
    pub(super) fn new(kept: usize) -> Self {
        Self { lines: VecDeque::new(), kept, dropped: 0 }
    }

    pub(super) fn note(&mut self, now: Duration, machine: &str, event: fmt::Arguments<'_>) {
        // The memory of a line that is dropped is used again.
        let mut line = String::new();
        if self.lines.len() >= self.kept {
            line = self.lines.pop_front().unwrap_or_default();
            line.clear();
            self.dropped += 1;
        }
        // Writing to a string can't fail.
        let _ = write!(line, "{:>9.3} {machine:<10} {event}", now.as_secs_f64());
        self.lines.push_back(line);
    }
}

impl fmt::Display for EventTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "          ({} earlier events)", self.dropped)?;
        }
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_events_are_kept() {
        let mut trace = EventTrace::new(2);
        for (event, ms) in [("one", 0), ("two", 1500), ("three", 2003)] {
            trace.note(Duration::from_millis(ms), "orders-1", format_args!("{event}"));
        }
        let expected = "          (1 earlier events)\n    1.500 orders-1   two\n    2.003 orders-1   three\n";
        assert_eq!(trace.to_string(), expected);
    }
}
