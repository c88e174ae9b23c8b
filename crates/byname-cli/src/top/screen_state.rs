//! What the keys have changed in the live view: [`ScreenState`].

use std::cmp::Ordering;

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::function_figures::FunctionFigures;

/// What is shown of an overview, and in which order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ScreenState {
    pub(crate) sort: SortKey,
    /// From the least to the most.
    pub(crate) is_reversed: bool,
    /// Only functions whose name has this text are shown. Case does not count.
    pub(crate) filter: String,
    /// Whether keys are letters of the filter.
    pub(crate) is_filtering: bool,
    pub(crate) is_paused: bool,
    pub(crate) section: Section,
    pub(crate) shows_keys: bool,
    /// The rows above the first one that is shown.
    pub(crate) scroll: usize,
    /// The rows of a page, as they were drawn last.
    pub(crate) page: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum SortKey {
    #[default]
    Calls,
    Errors,
    P99,
    Name,
}

/// What fills the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Section {
    #[default]
    All,
    Functions,
    Servers,
    Clients,
    Errors,
}

/// What a key asks of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyEffect {
    Shown,
    Quit,
    /// To the shell, until it is continued.
    Suspend,
}

impl ScreenState {
    pub(crate) fn press(&mut self, key: KeyEvent) -> KeyEffect {
        if key.kind == KeyEventKind::Release {
            return KeyEffect::Shown;
        }
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return KeyEffect::Quit,
            KeyCode::Char('z') if key.modifiers.contains(KeyModifiers::CONTROL) => return KeyEffect::Suspend,
            code if self.is_filtering => self.edit_filter(code, key.modifiers),
            _ if self.shows_keys => self.shows_keys = false,
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Char('q') | KeyCode::Esc => return KeyEffect::Quit,
            code => self.command(code),
        }
        KeyEffect::Shown
    }

    /// The functions that are shown, in their order.
    pub(crate) fn arranged<'f>(&self, functions: &'f [FunctionFigures]) -> Vec<&'f FunctionFigures> {
        let filter = self.filter.to_lowercase();
        let mut shown: Vec<_> = functions.iter().filter(|of| of.name.to_lowercase().contains(&filter)).collect();
        shown.sort_by(|a, b| {
            let order = self.sort.order(a, b);
            let order = if self.is_reversed { order.reverse() } else { order };
            // Rows that are equal must not change places.
            order.then_with(|| a.name.cmp(&b.name))
        });
        shown
    }

    /// Notes how many rows there are and how many of them fit.
    pub(crate) fn fit(&mut self, rows: usize, page: usize) {
        self.page = page;
        self.scroll = self.scroll.min(rows.saturating_sub(page));
    }

    fn command(&mut self, code: KeyCode) {
        let page = self.page.max(1);
        match code {
            KeyCode::Char('s') => self.sort_by(self.sort.next()),
            KeyCode::Char('c') => self.sort_by(SortKey::Calls),
            KeyCode::Char('e') => self.sort_by(SortKey::Errors),
            KeyCode::Char('l') => self.sort_by(SortKey::P99),
            KeyCode::Char('n') => self.sort_by(SortKey::Name),
            KeyCode::Char('r') => self.is_reversed = !self.is_reversed,
            KeyCode::Char('/') => self.is_filtering = true,
            KeyCode::Char(' ' | 'p') => self.is_paused = !self.is_paused,
            KeyCode::Char('?' | 'h') => self.shows_keys = true,
            KeyCode::Tab => self.show(self.section.next()),
            KeyCode::BackTab => self.show(self.section.previous()),
            KeyCode::Up | KeyCode::Char('k') => self.scroll = self.scroll.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scroll = self.scroll.saturating_add(1),
            KeyCode::PageUp => self.scroll = self.scroll.saturating_sub(page),
            KeyCode::PageDown => self.scroll = self.scroll.saturating_add(page),
            KeyCode::Home | KeyCode::Char('g') => self.scroll = 0,
            KeyCode::End | KeyCode::Char('G') => self.scroll = usize::MAX,
            _ => {}
        }
    }

    fn edit_filter(&mut self, code: KeyCode, modifiers: KeyModifiers) {
        self.scroll = 0;
        match code {
            KeyCode::Enter => self.is_filtering = false,
            KeyCode::Esc => {
                self.is_filtering = false;
                self.filter.clear();
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char('u') if modifiers.contains(KeyModifiers::CONTROL) => self.filter.clear(),
            KeyCode::Char(letter) if !modifiers.intersects(KeyModifiers::CONTROL | KeyModifiers::ALT) => {
                self.filter.push(letter);
            }
            _ => {}
        }
    }

    fn sort_by(&mut self, sort: SortKey) {
        (self.sort, self.is_reversed, self.scroll) = (sort, false, 0);
    }

    fn show(&mut self, section: Section) {
        (self.section, self.scroll) = (section, 0);
    }
}

impl SortKey {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Calls => "calls",
            Self::Errors => "errors",
            Self::P99 => "p99",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        match self {
            Self::Calls => Self::Errors,
            Self::Errors => Self::P99,
            Self::P99 => Self::Name,
            Self::Name => Self::Calls,
        }
    }

    /// What a person looks for comes first: the most, and the first letter.
    fn order(self, a: &FunctionFigures, b: &FunctionFigures) -> Ordering {
        match self {
            Self::Calls => {
                let calls = |of: &FunctionFigures| of.calls_per_second().unwrap_or(0.0);
                // Without calls in the window, those before it count.
                calls(b).total_cmp(&calls(a)).then_with(|| b.total_calls.cmp(&a.total_calls))
            }
            Self::Errors => b.errors_per_second.total_cmp(&a.errors_per_second),
            Self::P99 => b.latency.percentile(0.99).cmp(&a.latency.percentile(0.99)),
            Self::Name => a.name.cmp(&b.name),
        }
    }
}

impl Section {
    const ALL: [Self; 5] = [Self::All, Self::Functions, Self::Servers, Self::Clients, Self::Errors];

    fn next(self) -> Self {
        self.moved(1)
    }

    fn previous(self) -> Self {
        self.moved(Self::ALL.len() - 1)
    }

    fn moved(self, by: usize) -> Self {
        let at = Self::ALL.iter().position(|&section| section == self).unwrap_or(0);
        Self::ALL[(at + by) % Self::ALL.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::top::stats_reply::FunctionCounters;

    fn press(state: &mut ScreenState, keys: &str) {
        for letter in keys.chars() {
            let code = match letter {
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                '\t' => KeyCode::Tab,
                '\u{8}' => KeyCode::Backspace,
                letter => KeyCode::Char(letter),
            };
            assert_eq!(state.press(KeyEvent::new(code, KeyModifiers::NONE)), KeyEffect::Shown, "{letter:?}");
        }
    }

    fn functions() -> Vec<FunctionFigures> {
        let function = |name: &str, calls, errors, slowest| {
            let later = FunctionCounters {
                name: name.to_owned(),
                calls,
                errors: [("internal".to_owned(), errors)].into(),
                latency: vec![(Some(slowest), calls)],
                ..FunctionCounters::default()
            };
            FunctionFigures::between(Some(&FunctionCounters::default()), &later, 1_000)
        };
        vec![
            function("b.slow", 1, 0, 90_000),
            function("a.often", 100, 1, 64),
            function("c.fails", 10, 9, 64),
            function("d.idle", 0, 0, 64),
        ]
    }

    fn names(state: &ScreenState) -> String {
        state.arranged(&functions()).iter().map(|of| &of.name[..1]).collect()
    }

    #[test]
    fn each_key_sorts() {
        let mut state = ScreenState::default();
        let mut orders = vec![names(&state)];
        for keys in ["s", "s", "s", "s", "e", "l", "n", "c", "r"] {
            press(&mut state, keys);
            orders.push(names(&state));
        }
        // Among equals the name counts.
        assert_eq!(orders, ["acbd", "cabd", "bacd", "abcd", "acbd", "cabd", "bacd", "abcd", "acbd", "dbca"]);
    }

    #[test]
    fn a_filter_is_typed_kept_and_cleared() {
        let mut state = ScreenState::default();
        press(&mut state, "/OFTX\u{8}");
        assert_eq!((names(&state), state.is_filtering), ("a".to_owned(), true));
        press(&mut state, "q\u{8}\n");
        assert_eq!((names(&state), state.is_filtering), ("a".to_owned(), false));
        press(&mut state, "\u{1b}");
        assert_eq!(names(&state).len(), 4);
        press(&mut state, "/zzz");
        assert_eq!(names(&state), "");
        press(&mut state, "\u{1b}");
        assert_eq!(names(&state).len(), 4);
    }

    #[test]
    fn keys_quit_also_while_a_filter_is_typed() {
        let key = |code, modifiers| KeyEvent::new(code, modifiers);
        let mut state = ScreenState::default();
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(state.press(key(code, KeyModifiers::NONE)), KeyEffect::Quit);
        }
        press(&mut state, "/");
        assert_eq!(state.press(key(KeyCode::Char('c'), KeyModifiers::CONTROL)), KeyEffect::Quit);
        assert_eq!(state.press(key(KeyCode::Char('z'), KeyModifiers::CONTROL)), KeyEffect::Suspend);
    }

    #[test]
    fn scrolling_stays_inside_the_rows() {
        let mut state = ScreenState::default();
        state.fit(10, 4);
        press(&mut state, "kjjj");
        state.fit(10, 4);
        assert_eq!(state.scroll, 3);
        press(&mut state, "Gj");
        state.fit(10, 4);
        assert_eq!(state.scroll, 6);
        state.fit(2, 4);
        assert_eq!(state.scroll, 0);
        state.fit(0, 0);
        press(&mut state, "Gjjg");
        assert_eq!(state.scroll, 0);
    }

    #[test]
    fn sections_take_turns() {
        let mut state = ScreenState::default();
        press(&mut state, "\t\t\t\t");
        assert_eq!(state.section, Section::Errors);
        state.press(KeyEvent::new(KeyCode::BackTab, KeyModifiers::SHIFT));
        assert_eq!(state.section, Section::Clients);
        press(&mut state, "\t\t");
        assert_eq!(state.section, Section::All);
    }

    #[test]
    fn any_key_closes_the_list_of_keys() {
        let mut state = ScreenState::default();
        press(&mut state, "?q");
        assert!(!state.shows_keys);
    }
}
