//! The names of spans, logs and metrics are in one table: no other file writes them, and the guide says what each is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The names of the table, with their values.
fn table() -> Vec<(String, String)> {
    let source = fs::read_to_string(root().join("src/telemetry_names.rs")).unwrap();
    let constants = source.lines().filter_map(|line| line.strip_prefix("pub(crate) const "));
    let named = constants.map(|line| {
        let (name, value) = line.split_once(": &str = ").unwrap_or_else(|| panic!("{line} does not define a name"));
        (name.to_owned(), value.trim_matches(['"', ';']).to_owned())
    });
    named.collect()
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("telemetry_names.rs") {
            found.push(path);
        }
    }
}

#[test]
fn each_name_is_in_the_table_once_and_is_written_nowhere_else() {
    let table = table();
    let values: BTreeSet<_> = table.iter().map(|(_, value)| value).collect();
    assert!(values.len() == table.len() && table.len() > 20, "{table:?}");
    let mut files = Vec::new();
    sources(&root().join("src"), &mut files);
    for path in files {
        let source = fs::read_to_string(&path).unwrap();
        for (name, value) in table.iter().filter(|(_, value)| value.contains('.')) {
            assert!(!source.contains(&format!("\"{value}\"")), "{}: write `{name}` for \"{value}\"", path.display());
        }
    }
}

#[test]
fn the_guide_says_what_each_name_is() {
    let guide = fs::read_to_string(root().join("../../docs/guide/observing.md")).unwrap();
    for (name, value) in table() {
        assert!(guide.contains(&format!("`{value}`")), "{name}: `{value}` is not in docs/guide/observing.md");
    }
}
