//! What is shown on stderr while the load runs: [`Progress`].

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::collector::LiveFigures;
use super::recorder::{Window, nanos};
use crate::figures;

/// A bar with live figures. It shows nothing if stderr is not a terminal.
pub(super) struct Progress {
    bar: ProgressBar,
    length: Length,
}

/// What the length of the bar stands for.
#[derive(Clone, Copy, Debug)]
enum Length {
    Time(Duration),
    Calls(u64),
}

impl Progress {
    /// `calls` is the number that ends the load, if there is one.
    pub(super) fn new(window: &Window, calls: Option<u64>) -> Self {
        let length = match calls {
            Some(calls) => Length::Calls(calls),
            None => Length::Time(window.until().saturating_sub(window.from())),
        };
        let bar_length = match length {
            Length::Time(time) => nanos(time),
            Length::Calls(calls) => calls,
        };
        let target = ProgressDrawTarget::stderr_with_hz(8);
        let bar = ProgressBar::with_draw_target(Some(bar_length), target);
        let style = ProgressStyle::with_template("{bar:20.cyan/dim} {msg}").expect("the template is valid");
        bar.set_style(style.progress_chars("━╸─"));
        Self { bar, length }
    }

    /// `elapsed` is the time since the start of the load.
    pub(super) fn show(&self, window: &Window, elapsed: Duration, live: LiveFigures) {
        let measured = elapsed.saturating_sub(window.from());
        self.bar.set_position(match self.length {
            Length::Time(time) => nanos(measured.min(time)),
            Length::Calls(calls) => live.calls.min(calls),
        });
        self.bar.set_message(message(window, elapsed, live));
    }

    pub(super) fn end(self) {
        self.bar.finish_and_clear();
    }
}

fn message(window: &Window, elapsed: Duration, live: LiveFigures) -> String {
    if elapsed < window.from() {
        return "warming up".to_owned();
    }
    let seconds = elapsed.saturating_sub(window.from()).as_secs();
    let rest = if elapsed >= window.until() { ", waiting for the last answers" } else { "" };
    let errors = if live.failed == 1 { "error" } else { "errors" };
    format!(
        "{seconds} s  {} calls/s  p50 {}  p99 {}  {} {errors}{rest}",
        figures::rate(live.calls_per_second),
        figures::time(live.p50_ns),
        figures::time(live.p99_ns),
        figures::count(live.failed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_what_is_going_on() {
        let window = Window::new(Duration::from_secs(1), Some(Duration::from_secs(10)));
        let live = LiveFigures { calls: 9, failed: 1, calls_per_second: 81_234.0, p50_ns: 380_000, p99_ns: 1_200_000 };
        let at = |seconds| message(&window, Duration::from_secs(seconds), live);
        assert_eq!(at(0), "warming up");
        assert_eq!(at(4), "3 s  81,234 calls/s  p50 380 µs  p99 1.20 ms  1 error");
        assert_eq!(at(11), "10 s  81,234 calls/s  p50 380 µs  p99 1.20 ms  1 error, waiting for the last answers");
    }
}
