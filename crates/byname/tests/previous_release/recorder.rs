//! Passes on what a client and its server say, and keeps it.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet, yield_now};

use super::service::Action;
use super::transcript::{Event, Http, Message, Reader, Sent};
use crate::harness::peer::{CALL, GOAWAY};
use crate::harness::within;

/// Stands between a client and a server. It ends when it is dropped.
pub(crate) struct Recorder {
    pub(crate) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Kept {
    events: Vec<Event>,
    opened: usize,
    /// How many of the connections the server has closed.
    closed: usize,
    is_over: bool,
}

impl Recorder {
    pub(crate) async fn before(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let kept = Arc::<Mutex<Kept>>::default();
        let shared = Arc::clone(&kept);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                // A server that has stopped takes no connection, and the client's ends at once.
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                client.set_nodelay(true).unwrap();
                server.set_nodelay(true).unwrap();
                let number = {
                    let mut kept = shared.lock().unwrap();
                    kept.opened += 1;
                    kept.opened
                };
                let (from_client, to_client) = client.into_split();
                let (from_server, to_server) = server.into_split();
                connections.spawn(pass_on(from_client, to_server, number, true, Arc::clone(&shared)));
                connections.spawn(pass_on(from_server, to_client, number, false, Arc::clone(&shared)));
            }
        });
        Self { address, kept, task }
    }

    pub(crate) fn acts(&self, action: Action) {
        self.kept.lock().unwrap().keep(Event::Acted(action));
    }

    pub(crate) fn has_a_call_by_frames(&self) -> bool {
        self.has(CALL)
    }

    pub(crate) async fn goaway_has_come(&self) {
        within(async {
            while !self.has(GOAWAY) {
                yield_now().await;
            }
        })
        .await;
    }

    pub(crate) async fn servers_have_closed(&self) {
        within(async {
            let are_open = || {
                let kept = self.kept.lock().unwrap();
                kept.closed < kept.opened
            };
            while are_open() {
                yield_now().await;
            }
        })
        .await;
    }

    /// What comes from now on is not kept: the client closes its connections.
    pub(crate) fn snapshot(&self) {
        self.kept.lock().unwrap().is_over = true;
    }

    fn has(&self, kind: u8) -> bool {
        let kept = self.kept.lock().unwrap();
        kept.events
            .iter()
            .any(|event| matches!(event, Event::Sent(Sent { what: Message::Frame(frame), .. }) if frame.kind == kind))
    }

    /// All that matters for a transcript.
    pub(crate) fn events(&self) -> Vec<Event> {
        let events = self.kept.lock().unwrap().events.clone();
        let sent = || events.iter().filter_map(|event| if let Event::Sent(sent) = event { Some(sent) } else { None });
        let is_call = |what: &Message| match what {
            Message::Http(http) => !http.first.starts_with("GET ") || http.header("upgrade").is_none(),
            Message::Frame(frame) => frame.kind == CALL,
            Message::Close(_) => false,
        };
        let with_calls: BTreeSet<usize> =
            sent().filter(|sent| sent.by_client && is_call(&sent.what)).map(|sent| sent.connection).collect();
        let mut warm_ups = 0;
        let mut left_out = BTreeSet::new();
        events
            .iter()
            .filter(|event| {
                let Event::Sent(Sent { connection, by_client, what }) = event else { return true };
                if let (true, Message::Http(http)) = (by_client, what)
                    && is_warm_up(http)
                {
                    warm_ups += 1;
                    if warm_ups > 1 {
                        left_out.insert(*connection);
                    }
                }
                let is_left_out = matches!(what, Message::Http(_)) && left_out.contains(connection);
                if !by_client && is_left_out {
                    left_out.remove(connection);
                }
                with_calls.contains(connection) && !is_left_out
            })
            .cloned()
            .collect()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn is_warm_up(request: &Http) -> bool {
    request.first.contains("/warm_up ") || request.body.windows(9).any(|text| text == b"\"warm_up\"")
}

impl Kept {
    fn keep(&mut self, event: Event) {
        if !self.is_over {
            self.events.push(event);
        }
    }
}

/// Keeps what comes before it passes it on, so that an answer is behind its request.
async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    connection: usize,
    by_client: bool,
    kept: Arc<Mutex<Kept>>,
) {
    let mut reader = Reader::of(by_client);
    let mut bytes = Vec::with_capacity(1 << 16);
    while from.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
        reader.push(&bytes);
        while let Some(mut what) = reader.next() {
            if let Message::Http(http) = &mut what {
                for (name, value) in &mut http.headers {
                    match name.as_str() {
                        "host" => *value = "HOST".to_owned(),
                        "date" => *value = "DATE".to_owned(),
                        _ => {}
                    }
                }
            }
            kept.lock().unwrap().keep(Event::Sent(Sent { connection, by_client, what }));
        }
        if to.write_all(&bytes).await.is_err() {
            break;
        }
        bytes.clear();
    }
    if !by_client {
        kept.lock().unwrap().closed += 1;
    }
    let _ = to.shutdown().await;
}
