//! `docs/reliability.md` names a test for each case. This test checks that each of them exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The names of all tests below a directory.
fn tests(directory: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).unwrap();
            let mut lines = source.lines().map(str::trim);
            let mut named = Vec::new();
            while let Some(line) = lines.next() {
                if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
                    let function = lines.find(|line| !line.starts_with('#')).unwrap_or_default();
                    named.extend(function.trim_start_matches("async ").strip_prefix("fn "));
                }
            }
            names.extend(named.into_iter().filter_map(|rest| rest.split_once('(')).map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn every_case_of_the_page_has_its_test() {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    tests(&package.join("tests"), &mut known);
    tests(&package.join("src"), &mut known);
    let page = fs::read_to_string(package.join("../../docs/reliability.md")).unwrap();
    let (cases, _) = page.split_once("\n## Fuzzing").expect("what fuzzing found comes last");
    let rows: Vec<_> = cases
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .filter(|row| !row.starts_with("case |") && !row.starts_with("buffer |") && !row.starts_with("---"))
        .collect();
    assert!(rows.len() > 60, "the page has lost its tables: {rows:?}");
    for row in rows {
        let cells: Vec<_> = row.split(" | ").collect();
        assert_eq!(cells.len(), 4, "{row}");
        let test = cells[3].trim_matches('`');
        assert!(known.contains(test), "there is no test `{test}`: {row}");
    }
}
