//! A warning in the log of a program that makes a client for each call.

use crate::harness::{Log, Running, everything};
use byname::{Client, Transport};

/// How many short-lived clients give a warning.
const MANY: usize = 32;

async fn add(data: &Client) {
    assert_eq!(data.call::<i64>("add", (1, 2)).await.unwrap(), 3);
}

fn warnings(log: &mut Log) -> Vec<String> {
    log.lines().into_iter().filter(|line| line.contains("were dropped")).collect()
}

#[tokio::test]
async fn clients_that_are_made_for_each_call_give_one_warning() {
    for (transport, calls) in [(Transport::Http, 1), (Transport::Frames, 1), (Transport::Http, 2)] {
        let server = Running::new(everything()).await;
        let mut log = Log::new();
        for _ in 1..MANY {
            let data = server.client_by(transport);
            for _ in 0..calls {
                add(&data).await;
            }
        }
        assert_eq!(warnings(&mut log), [""; 0], "{transport:?}: they are not many yet");
        for _ in 0..MANY {
            add(&server.client_by(transport)).await;
        }
        let [warning] = &warnings(&mut log)[..] else { panic!("there is one warning") };
        let total = calls * (MANY - 1) + 1;
        assert!(warning.contains("WARN"), "{warning}");
        assert!(warning.contains(&format!("32 clients of {} were dropped", server.address)), "{warning}");
        assert!(warning.contains(&format!("after {total} calls in all")), "{warning}");
        assert!(warning.contains("Make one client and keep it"), "{warning}");
    }
}

#[tokio::test]
async fn clients_that_are_kept_or_never_called_give_no_warning() {
    let server = Running::new(everything()).await;
    let mut log = Log::new();
    let kept = server.client();
    for _ in 0..2 * MANY {
        let handle = kept.clone();
        add(&handle).await;
        drop(server.client());
    }
    for _ in 0..2 * MANY {
        let data = server.client();
        for _ in 0..3 {
            add(&data).await;
        }
    }
    assert_eq!(warnings(&mut log), [""; 0]);
}

/// Calls by frames count as well, though such a client uses HTTP only twice.
#[tokio::test]
async fn clients_whose_calls_go_by_frames_give_no_warning() {
    let server = Running::new(everything()).await;
    let mut log = Log::new();
    for _ in 0..2 * MANY {
        let data = server.client_by(Transport::Frames);
        add(&data).await;
        add(&data).await;
        // The connection of frames is opened meanwhile.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            add(&data).await;
        }
    }
    assert_eq!(warnings(&mut log), [""; 0]);
}
