//! The terminal while the live view has it: [`TerminalSession`].

use std::io::{self, Stdout};
use std::panic;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

use crossterm::cursor::{Hide, Show};
use crossterm::execute;
use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode};
use ratatui::backend::CrosstermBackend;
use ratatui::{Frame, Terminal};

/// A screen of its own, which keys do not write on. At its end, also by a panic, the terminal is as before.
pub(crate) struct TerminalSession {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

/// Whether the terminal is changed. To leave a screen of its own twice would move the cursor over what was printed in between.
static IS_CHANGED: AtomicBool = AtomicBool::new(false);

impl TerminalSession {
    pub(crate) fn begin() -> io::Result<Self> {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let report = panic::take_hook();
            // The report would be lost with the screen that it is printed on.
            panic::set_hook(Box::new(move |why| {
                restore();
                report(why);
            }));
        });
        enter()?;
        let terminal = Terminal::new(CrosstermBackend::new(io::stdout())).inspect_err(|_| restore())?;
        Ok(Self { terminal })
    }

    pub(crate) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> io::Result<()> {
        self.terminal.draw(draw).map(drop)
    }

    /// Gives the terminal to the shell until the user continues this program.
    #[cfg(target_os = "linux")]
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        restore();
        rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TSTP)?;
        enter()?;
        self.terminal.clear()
    }

    #[cfg(not(target_os = "linux"))]
    pub(crate) fn suspend(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for TerminalSession {
    fn drop(&mut self) {
        restore();
    }
}

fn enter() -> io::Result<()> {
    IS_CHANGED.store(true, Ordering::SeqCst);
    let entered = enable_raw_mode().and_then(|()| execute!(io::stdout(), EnterAlternateScreen, Hide));
    entered.inspect_err(|_| restore())
}

/// The terminal may be gone. Then nothing can be done.
fn restore() {
    if IS_CHANGED.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = disable_raw_mode();
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Set in the process that panics.
    const PANICS: &str = "BYNAME_TEST_PANICS_WHILE_DRAWING";

    /// It runs itself again on a terminal, and panics there.
    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        if std::env::var_os(PANICS).is_some() {
            let mut session = TerminalSession::begin().unwrap();
            session.draw(|_| panic!("the figures are wrong")).unwrap();
        }
        let program = std::env::current_exe().unwrap();
        let test = "top::terminal_session::tests::a_panic_leaves_the_terminal_as_it_was";
        let run = format!("{PANICS}=1 '{}' --exact {test}", program.display());
        let shell = format!("stty rows 24 cols 80; stty -g; {run}; stty -g");
        // `script` gives it a terminal.
        let done = Command::new("script").args(["-qec", &shell, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines.first(), lines.last(), "{text}");
        let (left, said) = (text.find("\u{1b}[?1049l"), text.find("the figures are wrong"));
        assert!(left.is_some() && left < said, "{text}");
        assert_eq!(text.matches("\u{1b}[?1049l").count(), 1, "the cursor would go back over what was said: {text}");
        assert!(text.contains("\u{1b}[?25h"), "{text}");
    }
}
