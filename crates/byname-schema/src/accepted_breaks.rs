//! Breaks that a team has accepted: [`AcceptedBreaks`].

use crate::compatibility::{Break, Difference};
use crate::lock_file::without_mark;
use crate::service_schema::SchemaDocumentError;

/// Breaks that are accepted, each with its reason. In a file each has a line: `RULE FUNCTION PLACE: reason`.
///
/// ```
/// # use byname_schema::AcceptedBreaks;
/// let file = "
/// ## The mobile app of 2024 is switched off.
/// function-missing orders.old: not called since May
/// type-differs orders.place arguments.order.price: the caller is ours, and is deployed together
/// "
/// .replace("##", "#");
/// assert!(AcceptedBreaks::parse(&file).is_ok());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AcceptedBreaks {
    accepted: Vec<Accepted>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Accepted {
    line: String,
    rule: String,
    function: String,
    place: String,
    reason: String,
}

impl AcceptedBreaks {
    /// Reads a file. Empty lines and those that begin with `#` are ignored.
    ///
    /// # Errors
    ///
    /// A line is not of the form, or has no reason.
    pub fn parse(text: &str) -> Result<Self, SchemaDocumentError> {
        let mut accepted = Vec::new();
        for (at, line) in without_mark(text).lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = |why: &str| {
                let form = "expected `RULE FUNCTION PLACE: reason`, or without the place";
                SchemaDocumentError::new(format!("line {}: {why}; {form}", at + 1))
            };
            let (what, reason) = line.split_once(": ").ok_or_else(|| wrong("the reason is missing"))?;
            if reason.trim().is_empty() {
                return Err(wrong("the reason is missing"));
            }
            let mut words = what.split_whitespace().map(str::to_owned);
            let (Some(rule), Some(function), place, None) = (words.next(), words.next(), words.next(), words.next())
            else {
                return Err(wrong("it has too few words, or too many"));
            };
            let (place, reason) = (place.unwrap_or_default(), reason.trim().to_owned());
            accepted.push(Accepted { line: line.to_owned(), rule, function, place, reason });
        }
        Ok(Self { accepted })
    }

    /// Whether this break of this difference is accepted.
    pub fn accept(&self, difference: &Difference, of: &Break) -> bool {
        self.reason(difference, of).is_some()
    }

    /// Why this break of this difference is accepted. `None` if it is not.
    pub fn reason(&self, difference: &Difference, of: &Break) -> Option<&str> {
        let accepted = self.accepted.iter().find(|accepted| accepted.is(difference, of))?;
        Some(&accepted.reason)
    }

    /// The lines that accept none of these, and should be removed.
    pub fn unused(&self, differences: &[Difference]) -> Vec<&str> {
        let is_used = |accepted: &&Accepted| {
            differences.iter().any(|difference| {
                let breaks = [difference.breaks_old_clients(), difference.breaks_new_clients()];
                breaks.into_iter().flatten().any(|of| accepted.is(difference, of))
            })
        };
        self.accepted.iter().filter(|accepted| !is_used(accepted)).map(|accepted| accepted.line.as_str()).collect()
    }
}

impl Accepted {
    fn is(&self, difference: &Difference, of: &Break) -> bool {
        self.rule == of.rule && self.function == difference.function && self.place == difference.place
    }
}
