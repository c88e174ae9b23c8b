//! Text for terminals of a locale that has only ASCII: [`ascii`], [`is_unicode_locale`].

/// The text with a letter of ASCII for each other one.
pub(crate) fn ascii(text: &str) -> String {
    let letter = |letter: char| match letter {
        _ if letter.is_ascii() => letter,
        'µ' => 'u',
        '–' => '-',
        '…' => '~',
        '▏' => '_',
        '▁' => '_',
        '▂' => '.',
        '▃' => '-',
        '▄' => '=',
        '▅' => '+',
        '▆' => '*',
        '▇' => '%',
        '█' => '#',
        _ => '?',
    };
    text.chars().map(letter).collect()
}

/// Whether the locale has letters beyond ASCII. The variables are in the order of their precedence. Where none is set, as in most containers,
/// the terminal is usually one that has them.
pub(crate) fn is_unicode_locale(variables: [Option<String>; 3]) -> bool {
    let locale = variables.into_iter().flatten().find(|locale| !locale.is_empty());
    locale.is_none_or(|locale| {
        let locale = locale.to_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_has_one_of_ascii() {
        assert_eq!(ascii("85.3 µs – ▁▂▃▄▅▆▇█ 日…"), "85.3 us - _.-=+*%# ?~");
    }

    #[test]
    fn the_first_variable_that_is_set_counts() {
        let of = |all: [&str; 3]| is_unicode_locale(all.map(|locale| (!locale.is_empty()).then(|| locale.to_owned())));
        assert!(of(["", "", ""]) && of(["", "", "de_DE.UTF-8"]) && of(["C.utf8", "C", ""]));
        assert!(!of(["", "", "C"]) && !of(["POSIX", "en_US.UTF-8", ""]) && !of(["", "de_DE.ISO-8859-1", "C.UTF-8"]));
    }
}
