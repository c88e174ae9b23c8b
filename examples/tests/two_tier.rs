//! Runs the example `two_tier` as a user would, and reads what it prints.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Cargo puts examples beside the folder that tests run from, and builds them for `cargo test`.
fn example() -> Command {
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let example: PathBuf = [profile, "examples".as_ref(), format!("two_tier{}", std::env::consts::EXE_SUFFIX).as_ref()]
        .into_iter()
        .collect();
    assert!(
        example.exists(),
        "{example:?} is not there: `cargo build --example two_tier`, in the same profile, makes it"
    );
    let mut command = Command::new(example);
    command.arg("--quick");
    command
}

/// A row of the table: connections, then opened and TIME_WAIT of either side.
fn row(line: &str) -> Option<(u64, [Option<u64>; 4])> {
    let cells: Vec<_> = line.split('│').collect();
    let [_, connections, kept, fresh, _] = cells.as_slice() else {
        return None;
    };
    let number = |word: &str| word.replace(',', "").parse::<u64>().ok();
    let last_two = |side: &str| {
        let words: Vec<_> = side.split_whitespace().rev().take(2).map(number).collect();
        [words[1], words[0]]
    };
    let ([opened, left], [opened_fresh, left_fresh]) = (last_two(kept), last_two(fresh));
    Some((number(connections.trim_matches(['►', ' ']))?, [opened, left, opened_fresh, left_fresh]))
}

#[test]
fn three_processes_answer_and_few_connections_serve_many_calls() {
    // It ends only when nobody holds its pipes any more, and its tiers hold one of them.
    let ran = example().output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    let complained = String::from_utf8(ran.stderr).unwrap();
    assert!(ran.status.success(), "{}\n{said}\n{complained}", ran.status);
    assert_eq!(complained, "");
    assert!(!said.contains('\x1b'), "no colours where there is no terminal:\n{said}");

    // Where lines are broken does not matter here.
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "data tier",
        "business tier",
        "rows in 4 tables",
        "pieces in 2 orders",
        "teapot at",
        "the customer has 3 now",
        "OutOfStock: 100 pieces",
        "did you mean `order_summary`?",
        "Of 1,200 calls none failed.",
    ] {
        assert!(words.contains(part), "{part:?} is missing in:\n{said}");
    }

    let rows: Vec<_> = said.lines().filter_map(row).collect();
    assert_eq!(rows.iter().map(|(connections, _)| *connections).collect::<Vec<_>>(), [1, 8], "{said}");
    for (connections, [opened, left, opened_fresh, left_fresh]) in rows {
        let opened = opened.expect("the data tier counts them");
        assert!((1..=connections).contains(&opened), "{said}");
        // A port that came up twice counts once.
        assert!((190..=200).contains(&opened_fresh.unwrap()), "{said}");
        if cfg!(target_os = "linux") {
            assert_eq!(left, Some(0), "{said}");
            assert!(left_fresh > Some(150), "{said}");
        }
    }
}

#[test]
fn no_tier_outlives_a_caller_that_is_killed() {
    let mut caller = example().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(caller.stdout.take().unwrap()).lines();
    let started = said.any(|line| line.unwrap().contains("business tier"));
    assert!(started, "it says that it has started its tiers");
    caller.kill().unwrap();
    caller.wait().unwrap();

    // The tiers share its stderr: the pipe ends when the last of them does.
    let mut stderr = caller.stderr.take().unwrap();
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(stderr.read_to_end(&mut Vec::new())));
    end.recv_timeout(Duration::from_secs(20)).expect("a tier still runs").unwrap();
}
