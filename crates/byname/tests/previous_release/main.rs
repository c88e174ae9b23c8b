//! Today's programs and those of earlier releases understand each other.
//!
//! `transcripts` has a folder for each release that was recorded: what its client and its server said to
//! each other, in files that a person can read. Here the recorded client calls today's server, and the recorded server
//! answers today's client, both over sockets. `tolerance` says what may differ.
//!
//! `docs/compatibility.md` says how a release is recorded, and how the programs of two releases are run against each
//! other.

#[path = "../harness/mod.rs"]
mod harness;

mod cases;
mod recorder;
mod replay;
mod requests;
mod service;
mod tolerance;
mod transcript;

use std::path::{Path, PathBuf};
use std::{env, fs};

use tokio::net::TcpListener;

use self::cases::{Way, play};
use self::harness::peer::{CALL, ERROR, REPLY};
use self::recorder::Recorder;
use self::service::{Backstage, Site};
use self::transcript::{Case, Event, Message, Sent};

const ITEM: u8 = 8;

fn transcripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/previous_release/transcripts")
}

/// The folder of each release.
fn releases() -> Vec<PathBuf> {
    let releases: Vec<_> = fs::read_dir(transcripts()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!releases.is_empty());
    releases
}

fn read(release: &Path, file: &str) -> Vec<Case> {
    let path = release.join(file).with_extension("txt");
    let cases = transcript::read(&fs::read_to_string(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display())));
    assert!(!cases.is_empty(), "{}", path.display());
    cases
}

/// The request and the answer of a case that has one of each.
fn exchange(case: &Case) -> [&transcript::Http; 2] {
    let [Event::Sent(Sent { what: Message::Http(request), .. }), Event::Sent(Sent { what: Message::Http(answer), .. })] =
        &case.events[..]
    else {
        panic!("one request and one answer: {case:?}")
    };
    [request, answer]
}

#[tokio::test]
async fn a_client_of_an_earlier_release_gets_from_this_server_what_it_got() {
    for release in releases() {
        for way in Way::ALL {
            for case in read(&release, way.file()) {
                replay::as_the_client(&case).await;
            }
        }
    }
}

#[tokio::test]
async fn other_clients_get_from_this_server_what_they_got_from_an_earlier_release() {
    for release in releases() {
        for version in requests::VERSIONS {
            let site = Site::new().await;
            for case in read(&release, version) {
                let [request, old] = exchange(&case).map(Clone::clone);
                let new = requests::asked(version, &site.address(), &request).await;
                let verdict = tolerance::answer(&Message::Http(old), &Message::Http(new));
                verdict.unwrap_or_else(|why| panic!("{version}, case {}: {why}", case.name));
            }
        }
    }
}

#[tokio::test]
async fn calls_of_this_client_end_at_a_server_of_an_earlier_release_as_they_did() {
    for release in releases() {
        for way in Way::ALL {
            for case in read(&release, way.file()) {
                replay::as_the_server(&case, way).await;
            }
        }
    }
}

#[test]
fn a_transcript_is_read_as_it_was_written() {
    for release in releases() {
        for file in Way::ALL.map(Way::file).into_iter().chain(requests::VERSIONS) {
            let text = fs::read_to_string(release.join(file).with_extension("txt")).unwrap();
            assert_eq!(transcript::written(&transcript::read(&text)), text, "{file}");
        }
    }
}

/// A case of a transcript in which `change` has changed what one side sends.
fn changed(file: &str, name: &str, change: impl Fn(&mut Sent)) -> Case {
    let cases = read(&releases()[0], file);
    let mut case = cases.into_iter().find(|case| case.name == name).expect("the case");
    for event in &mut case.events {
        if let Event::Sent(sent) = event {
            change(sent);
        }
    }
    case
}

/// Renames a member in every message of JSON.
fn renaming(from: &'static str, to: &'static str) -> impl Fn(&mut Sent) {
    move |sent| {
        let bytes = match &mut sent.what {
            Message::Http(http) => &mut http.body,
            Message::Frame(frame) if frame.kind == ERROR => &mut frame.payload,
            _ => return,
        };
        assert_eq!(from.len(), to.len(), "lengths stay true");
        *bytes = String::from_utf8_lossy(bytes).replace(from, to).into_bytes();
    }
}

/// If the releases differed, the replays would fail.
#[tokio::test]
async fn a_difference_is_found() {
    for (file, way) in [("http_path", Way::HttpPath), ("frames_json", Way::FramesJson)] {
        let renamed = || changed(file, "errors", renaming("\"executed\"", "\"has_run_\""));
        let failed = tokio::spawn(async move { replay::as_the_client(&renamed()).await }).await;
        assert!(panicked(failed).contains("the old client can't take this: the JSON was"), "{file}");
        let failed = tokio::spawn(async move { replay::as_the_server(&renamed(), way).await }).await;
        assert!(panicked(failed).contains("left: "), "{file}");
    }
    let other_kind = |kind: u8, instead: u8| {
        changed("frames_msgpack", "values", move |sent| {
            if let Message::Frame(frame) = &mut sent.what
                && frame.kind == kind
            {
                frame.kind = instead;
            }
        })
    };
    let failed = tokio::spawn(async move { replay::as_the_client(&other_kind(REPLY, ITEM)).await }).await;
    assert!(panicked(failed).contains("the header was"));
    let failed = tokio::spawn(async move { replay::as_the_server(&other_kind(CALL, ITEM), Way::FramesMsgpack).await });
    assert!(panicked(failed.await).contains("the old server gets something else"));
}

fn panicked(result: Result<(), tokio::task::JoinError>) -> String {
    let why = result.expect_err("it found no difference").into_panic();
    why.downcast_ref::<String>().cloned().expect("a message")
}

#[tokio::test]
#[ignore = "writes the transcripts of this release"]
async fn record() {
    let release = transcripts().join(env::var("RELEASE").expect("RELEASE names the folder, such as 0.2.0"));
    fs::create_dir_all(&release).unwrap();
    for way in Way::ALL {
        let mut cases = Vec::new();
        for name in way.cases() {
            let site = Site::new().await;
            let recorder = Recorder::before(site.address()).await;
            let outcomes = play(name, way, &recorder, &Backstage::Here(site)).await;
            cases.push(Case { name: name.to_owned(), events: recorder.events(), outcomes });
        }
        fs::write(release.join(way.file()).with_extension("txt"), transcript::written(&cases)).unwrap();
    }
    for version in requests::VERSIONS {
        let site = Site::new().await;
        let cases = requests::recorded(version, &site.address()).await;
        fs::write(release.join(version).with_extension("txt"), transcript::written(&cases)).unwrap();
    }
}

/// The address at which the server of one release is steered by the client of another.
fn control() -> String {
    env::var("CONTROL").expect("CONTROL is an address, such as 127.0.0.1:7001")
}

#[tokio::test]
#[ignore = "serves for `call` of another release, until it is killed"]
async fn serve() {
    let listener = TcpListener::bind(control()).await.unwrap();
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        tokio::spawn(Backstage::serve(connection));
    }
}

#[tokio::test]
#[ignore = "calls `serve` of another release"]
async fn call() {
    let (mut calls, mut differences) = (0, Vec::new());
    for release in releases() {
        for way in Way::ALL {
            for case in read(&release, way.file()) {
                let (backstage, address) = Backstage::at(&control()).await;
                let recorder = Recorder::before(address).await;
                let outcomes = play(&case.name, way, &recorder, &backstage).await;
                calls += outcomes.len();
                let pairs = case.outcomes.iter().zip(&outcomes).filter(|(old, new)| old != new);
                differences.extend(pairs.map(|pair| format!("{} {}: {pair:?}", way.file(), case.name)));
                if case.outcomes.len() != outcomes.len() {
                    differences.push(format!("{} {}: {outcomes:?}", way.file(), case.name));
                }
            }
        }
        for version in requests::VERSIONS {
            let (_backstage, address) = Backstage::at(&control()).await;
            for case in read(&release, version) {
                let [request, old] = exchange(&case).map(Clone::clone);
                let new = requests::asked(version, &address, &request).await;
                calls += 1;
                if let Err(why) = tolerance::answer(&Message::Http(old), &Message::Http(new)) {
                    differences.push(format!("{version} {}: {why}", case.name));
                }
            }
        }
    }
    println!("{calls} outcomes compared");
    assert!(differences.is_empty(), "{differences:#?}");
}
