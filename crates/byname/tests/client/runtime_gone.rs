//! Calls that outlive the runtime that they began in, in every state.

use crate::harness::foreign::{Foreign, ret, start};
use crate::harness::{Log, within};
use byname::{CallError, Code, Error, Executed};
use serde_json::Value;
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};

fn one_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

fn rpc<T: std::fmt::Debug>(result: Result<T, CallError<Value>>) -> Error {
    result.unwrap_err().rpc().expect("the function itself did not fail").clone()
}

#[test]
fn a_queued_call_continues_in_another_runtime() {
    let service = two_threads();
    let foreign = service.block_on(Foreign::holding(ret("1")));
    let client = foreign.builder().limits(|limits| limits.connections = 1).build().unwrap();
    for (at, runtime) in [one_thread, two_threads].into_iter().enumerate() {
        let (first, second) = (runtime(), runtime());
        let held = service.spawn(client.call::<u8>("f", ()));
        service.block_on(foreign.until_asked(3 * at + 1));
        let (mut queued, mut last) = (client.call::<u8>("f", ()), client.call::<u8>("f", ()));
        first.block_on(async {
            start(&mut queued).await;
            start(&mut last).await;
        });
        drop(first);
        foreign.release(3);
        assert_eq!(service.block_on(within(held)).unwrap(), Ok(1));
        assert_eq!(second.block_on(within(queued)), Ok(1));
        assert_eq!(pollster::block_on(last), Ok(1), "and in none");
    }
}

#[test]
fn a_call_that_waits_for_a_retry_continues_in_another_runtime() {
    let second = one_thread();
    // Bound, so that nobody else listens there.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let client = byname::Client::new(format!("{}/rpc", nobody.local_addr().unwrap())).unwrap();
    for in_none in [false, true] {
        let first = one_thread();
        let mut log = Log::new();
        let mut call = client.call::<u8>("f", ());
        first.block_on(async {
            tokio::select! {
                _ = &mut call => panic!("it ended without a second attempt"),
                _ = log.until("sending `f` again") => {}
            }
        });
        drop(first);
        let error = rpc(if in_none { pollster::block_on(call) } else { second.block_on(within(call)) });
        assert_eq!((error.code(), error.executed()), (Code::Unavailable, Executed::No), "{error}");
    }
}

#[test]
fn a_call_within_the_process_keeps_its_deadline_in_another_runtime() {
    let (gate, handle) = crate::harness::Gate::new();
    let client = byname::Client::local(&byname::Server::new().inject(gate)).unwrap();
    let (first, second) = (one_thread(), one_thread());
    let mut call = client.call::<bool>("pass", ()).timeout(std::time::Duration::from_millis(20));
    first.block_on(start(&mut call));
    drop(first);
    let error = rpc(second.block_on(within(call)));
    assert_eq!((error.code(), error.executed()), (Code::DeadlineExceeded, Executed::Unknown), "{error}");
    drop(handle.release);
}
