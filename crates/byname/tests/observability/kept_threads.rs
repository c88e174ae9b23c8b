//! Async functions that block their thread: other calls continue, and the log names the function.

use std::net::SocketAddr;
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::frames::{self, Http2};
use crate::harness::{Caller, Log, Running, everything, post, raw, within};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// A server on a runtime of several threads that is not the test's, and its function `keep`, which blocks.
struct Elsewhere {
    runtime: Runtime,
    running: Running,
    /// Whose thread is kept now.
    kept: mpsc::UnboundedReceiver<i64>,
    /// Lets one go.
    release: blocking::Sender<()>,
}

impl Elsewhere {
    fn new(threads: usize) -> Self {
        let (keeps, kept) = mpsc::unbounded_channel();
        let (release, released) = blocking::channel();
        let released = Arc::new(Mutex::new(released));
        let server = everything().function("keep", move |id: i64| {
            let (keeps, released) = (keeps.clone(), Arc::clone(&released));
            async move {
                keeps.send(id).unwrap();
                // No await: this is the mistake. A test that never releases it fails, and doesn't hang.
                released.lock().unwrap().recv_timeout(Duration::from_secs(60)).unwrap();
                id
            }
        });
        let log = tracing::dispatcher::get_default(Clone::clone);
        let mut runtime = Builder::new_multi_thread();
        let logging = move || std::mem::forget(tracing::dispatcher::set_default(&log));
        let runtime = runtime.worker_threads(threads).on_thread_start(logging).enable_all().build().unwrap();
        let running = runtime.block_on(Running::new(server));
        Self { runtime, running, kept, release }
    }

    fn address(&self) -> SocketAddr {
        self.running.address
    }

    /// Waits until a function keeps its thread.
    async fn keeps(&mut self, id: i64) {
        assert_eq!(within(self.kept.recv()).await, Some(id));
    }

    fn release(&self) {
        self.release.send(()).unwrap();
    }

    fn stop(self) {
        self.runtime.block_on(self.running.stopped()).unwrap();
    }
}

/// The test's own side, on this thread.
fn here(test: impl Future<Output = ()>) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn other_connections_are_served_while_a_function_blocks_its_thread_and_it_is_named_meanwhile() {
    let mut log = Log::new();
    let mut elsewhere = Elsewhere::new(2);
    here(async {
        let mut kept = Caller::to(elsewhere.address()).await;
        assert_eq!(kept.ask(post("/rpc/add", "[1,2]")).await.body, "3");
        let mut blocked = Caller::to(elsewhere.address()).await;
        blocked.send(post("/rpc/keep", "[1]")).await;
        elsewhere.keeps(1).await;
        for _ in 0..10 {
            assert_eq!(kept.ask(post("/rpc/add", "[1,2]")).await.body, "3");
            assert_eq!(raw(elsewhere.address(), post("/rpc/add", "[3,4]")).await.body, "7");
        }
        let mut http2 = Http2::to(elsewhere.address(), &[]).await;
        http2.send(frames::post(1, "/rpc/add", "[1,2]")).await;
        assert_eq!(http2.until(frames::DATA).await.payload, b"3");
        log.until("`keep` kept its thread").await;
        elsewhere.release();
        assert_eq!(blocked.answer().await.body, "1");
    });
    elsewhere.stop();
    let named = log.lines().into_iter().filter(|line| line.contains("`keep` kept its thread"));
    assert_eq!(named.count(), 0, "once is enough");
}

#[test]
fn other_streams_of_a_connection_are_served_while_a_function_blocks_its_thread() {
    let mut elsewhere = Elsewhere::new(2);
    here(async {
        let mut http2 = Http2::to(elsewhere.address(), &[]).await;
        http2.send(frames::post(1, "/rpc/keep", "[1]")).await;
        elsewhere.keeps(1).await;
        for stream in [3, 5, 7] {
            http2.send(frames::post(stream, "/rpc/add", "[1,2]")).await;
            let answer = http2.until(frames::DATA).await;
            assert_eq!((answer.stream, answer.payload.as_slice()), (stream, &b"3"[..]));
        }
        elsewhere.release();
        let answer = http2.until(frames::DATA).await;
        assert_eq!((answer.stream, answer.payload.as_slice()), (1, &b"1"[..]));
    });
    elsewhere.stop();
}

#[test]
fn a_function_is_named_even_if_every_thread_is_blocked() {
    for threads in [1, 2] {
        let mut log = Log::new();
        let mut elsewhere = Elsewhere::new(threads);
        here(async {
            let mut blocked = Vec::new();
            for id in 0..threads {
                let mut caller = Caller::to(elsewhere.address()).await;
                caller.send(post("/rpc/keep", &format!("[{id}]"))).await;
                elsewhere.keeps(id as i64).await;
                blocked.push(caller);
            }
            let mut waiting = Caller::to(elsewhere.address()).await;
            waiting.send(post("/rpc/add", "[1,2]")).await;
            log.until("`keep` kept its thread").await;
            elsewhere.release();
            assert_eq!(waiting.answer().await.body, "3");
            for _ in 1..threads {
                elsewhere.release();
            }
            for (id, mut caller) in blocked.into_iter().enumerate() {
                assert_eq!(caller.answer().await.body, id.to_string());
            }
        });
        elsewhere.stop();
    }
}
