//! Both directions of a replay: as the recorded client against today's server, and as the recorded server against
//! today's client.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::cases::{Way, play};
use super::recorder::{Recorder, is_warm_up};
use super::service::{Action, Backstage, Site};
use super::tolerance;
use super::transcript::{Case, Event, Http, Message, Reader, Sent};
use crate::harness::peer::{self, Frame};
use crate::harness::within;

const ITEM: u8 = 8;
const END: u8 = 9;
const CREDIT: u8 = 10;

/// One connection, cut into messages.
struct Conversation {
    stream: TcpStream,
    reader: Reader,
}

impl Conversation {
    /// The next message, `None` at the end of the connection.
    async fn next(&mut self) -> Option<Message> {
        let mut bytes = Vec::with_capacity(1 << 16);
        loop {
            if let Some(message) = self.reader.next() {
                return Some(message);
            }
            if !self.stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
                return None;
            }
            self.reader.push(&bytes);
            bytes.clear();
        }
    }

    /// A side that has closed is seen by what comes next.
    async fn send(&mut self, message: &Message, host: &str) {
        // The reader is of the other side.
        let by_client = !self.reader.is_client;
        let bytes = match message {
            Message::Http(http) => http.bytes(host),
            Message::Frame(Frame { kind, flags, number, id, payload }) => {
                peer::message(peer::BINARY, by_client, peer::frame(*kind, *flags, *number, *id, payload))
            }
            Message::Close(payload) => peer::message(peer::CLOSE, by_client, payload),
        };
        let _ = self.stream.write_all(&bytes).await;
    }
}

/// Sends what the client of the case has sent, each message when all before it in the transcript has come or was sent.
/// Fails if today's server answers what the client would not accept.
pub(crate) async fn as_the_client(case: &Case) {
    let site = Site::new().await;
    let mut talks = BTreeMap::<usize, Asking>::new();
    for (at, event) in case.events.iter().enumerate() {
        match event {
            Event::Acted(action) => {
                if *action == Action::Stopped {
                    // The client has closed its connections, for which the server waits a while.
                    talks.clear();
                }
                site.act(*action).await;
            }
            Event::Sent(Sent { connection, by_client, what }) => {
                if !talks.contains_key(connection) {
                    let stream = TcpStream::connect(site.address()).await.unwrap();
                    talks.insert(*connection, Asking::on(stream));
                }
                let talk = talks.get_mut(connection).unwrap();
                let done =
                    async { if *by_client { talk.say(what, &site.address()).await } else { talk.expect(what).await } };
                if let Err(why) = within(done).await {
                    panic!("case {}, event {at}: the old client can't take this: {why}", case.name);
                }
            }
        }
    }
}

struct Asking {
    conversation: Conversation,
    /// The bytes of credit that the server has given, and those that it was recorded to give, by the id of the call.
    credit: BTreeMap<u64, (u64, u64)>,
    /// An answer to a call that was cancelled may come or not.
    cancelled: BTreeSet<u64>,
    /// What came before the credit that was waited for.
    early: VecDeque<Message>,
}

impl Asking {
    fn on(stream: TcpStream) -> Self {
        // Several messages in a row go out without a wait for acknowledgements.
        stream.set_nodelay(true).unwrap();
        let (credit, cancelled, early) = Default::default();
        Self { conversation: Conversation { stream, reader: Reader::of(false) }, credit, cancelled, early }
    }

    async fn say(&mut self, what: &Message, host: &str) -> Result<(), String> {
        if let Message::Frame(frame) = what {
            if frame.kind == peer::CANCEL {
                self.cancelled.insert(frame.id);
            }
            // How a server divides its credit is its own affair, if the items that were sent then can be sent now.
            while frame.kind == ITEM && self.credit.get(&frame.id).is_none_or(|(given, needed)| given < needed) {
                self.take_one().await?;
            }
        }
        self.conversation.send(what, host).await;
        Ok(())
    }

    async fn expect(&mut self, old: &Message) -> Result<(), String> {
        if let Message::Frame(frame) = old {
            if self.cancelled.contains(&frame.id) && frame.kind != peer::GOAWAY {
                return Ok(());
            }
            if frame.kind == CREDIT {
                self.credit.entry(frame.id).or_default().1 += amount(frame);
                return Ok(());
            }
        }
        loop {
            if let Some(new) = self.early.pop_front() {
                return tolerance::answer(old, &new);
            }
            self.take_one().await.map_err(|why| format!("{why} in place of {old:?}"))?;
        }
    }

    async fn take_one(&mut self) -> Result<(), String> {
        match self.conversation.next().await.ok_or("the connection ended")? {
            Message::Frame(frame) if frame.kind == CREDIT => {
                self.credit.entry(frame.id).or_default().0 += amount(&frame);
            }
            Message::Frame(frame) if tolerance::NEW_KINDS.contains(&frame.kind) => {}
            Message::Frame(Frame { kind: peer::REPLY | peer::ERROR | ITEM | END, id, .. })
                if self.cancelled.contains(&id) => {}
            new => self.early.push_back(new),
        }
        Ok(())
    }
}

fn amount(credit: &Frame) -> u64 {
    u64::from(u32::from_be_bytes(credit.payload[..].try_into().expect("four bytes")))
}

/// Answers today's client, which plays the script of the case, with what the server of the case has sent. Fails if the
/// client asks for something else, or if a call ends in another way.
pub(crate) async fn as_the_server(case: &Case, way: Way) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let answering = Arc::new(Answering::of(case, way));
    let shared = Arc::clone(&answering);
    let task = tokio::spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            stream.set_nodelay(true).unwrap();
            let answering = Arc::clone(&shared);
            connections.spawn(async move {
                let mut conversation = Conversation { stream, reader: Reader::of(true) };
                if let Err(why) = answering.serve(&mut conversation).await {
                    answering.failures.lock().unwrap().push(why);
                    answering.passed.close();
                }
            });
        }
    });
    let recorder = Recorder::before(address).await;
    let backstage = Backstage::Replayed(Arc::clone(&answering.passed));
    let outcomes = tokio::spawn({
        let name = case.name.clone();
        async move { play(&name, way, &recorder, &backstage).await }
    });
    let outcomes = outcomes.await;
    task.abort();
    let failures = answering.failures.lock().unwrap().clone();
    assert!(failures.is_empty(), "case {}: the old server gets something else: {failures:#?}", case.name);
    assert_eq!(outcomes.unwrap(), case.outcomes, "case {}", case.name);
    let left = answering.rest.lock().await;
    assert!(left.is_empty(), "case {}: today's client does not ask for {left:?}", case.name);
}

struct Answering {
    /// What was not said yet on connections of HTTP, or on the connection of frames.
    rest: tokio::sync::Mutex<VecDeque<Event>>,
    /// The answer to each warm-up over HTTP.
    warm_up: Option<Http>,
    /// The handshake of frames with the HELLO, for each further connection: a client may look for other servers.
    handshake: Vec<Message>,
    /// A permit for each action of the script that waits.
    passed: Arc<Semaphore>,
    failures: Mutex<Vec<String>>,
}

impl Answering {
    fn of(case: &Case, way: Way) -> Self {
        let mut rest: VecDeque<Event> = case.events.iter().cloned().collect();
        let (mut warm_up, mut handshake) = (None, Vec::new());
        if way != Way::HttpPlain {
            let Some(Event::Sent(Sent { what: Message::Http(request), .. })) = rest.pop_front() else { panic!("HTTP") };
            assert!(is_warm_up(&request), "it is the first");
            let Some(Event::Sent(Sent { what: Message::Http(answer), .. })) = rest.pop_front() else { panic!("HTTP") };
            warm_up = Some(answer);
        }
        if way.by_frames() {
            handshake =
                rest.drain(..3).map(|event| if let Event::Sent(sent) = event { sent.what } else { panic!() }).collect();
        }
        let (rest, passed) = (tokio::sync::Mutex::new(rest), Arc::new(Semaphore::new(0)));
        Self { rest, warm_up, handshake, passed, failures: Mutex::default() }
    }

    async fn serve(&self, conversation: &mut Conversation) -> Result<(), String> {
        while let Some(Message::Http(request)) = conversation.next().await {
            if request.header("upgrade").is_some() {
                return self.serve_frames(conversation, request).await;
            }
            if let Some(mut answer) = self.warm_up.clone().filter(|_| is_warm_up(&request)) {
                // The first one goes by the plain way, all others by the path way, on which a value is bare.
                if request.first.contains("/warm_up ") {
                    answer.body = b"null".to_vec();
                }
                conversation.send(&Message::Http(answer), "").await;
                continue;
            }
            let mut rest = self.rest.lock().await;
            match rest.pop_front() {
                Some(Event::Sent(Sent { what: Message::Http(old), by_client: true, .. })) => {
                    tolerance::request(&old, &request)?;
                }
                other => return Err(format!("{request:?} in place of {other:?}")),
            }
            while rest.front().is_some_and(|next| !matches!(next, Event::Sent(Sent { by_client: true, .. }))) {
                match rest.pop_front() {
                    Some(Event::Sent(sent)) => conversation.send(&sent.what, "").await,
                    Some(Event::Acted(action)) if action.waits() => self.passed.add_permits(1),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    async fn serve_frames(&self, conversation: &mut Conversation, request: Http) -> Result<(), String> {
        let [Message::Http(old), Message::Http(switching), hello] = &self.handshake[..] else {
            return Err(format!("the handshake was {:?}", self.handshake));
        };
        tolerance::request(old, &request)?;
        let mut switching = switching.clone();
        for (name, value) in &mut switching.headers {
            if name == "sec-websocket-accept" {
                *value = peer::accept(request.header("sec-websocket-key").ok_or("no key")?);
            }
        }
        conversation.send(&Message::Http(switching), "").await;
        conversation.send(hello, "").await;
        let mut client = FrameClient::on(conversation);
        // A connection to look for other servers has no call, and so nothing is taken from the transcript.
        let Ok(mut rest) = self.rest.try_lock() else {
            while client.next().await.is_some() {}
            return Ok(());
        };
        let mut old_names = BTreeMap::new();
        let mut warm_ups = BTreeSet::new();
        let mut given = BTreeMap::new();
        // Items may come or not when the server has answered, or has said that it takes none.
        let mut unread = BTreeSet::new();
        let (mut ids, mut old_ids) = (BTreeMap::<u64, u64>::new(), BTreeMap::<u64, u64>::new());
        client.warm_up = rest.iter().find_map(|event| match event {
            Event::Sent(Sent { by_client: false, what: Message::Frame(frame), .. }) if frame.kind == peer::REPLY => {
                Some(frame.clone())
            }
            _ => None,
        });
        while let Some(event) = rest.pop_front() {
            let (by_client, frame) = match event {
                Event::Acted(action) => {
                    if action.waits() {
                        self.passed.add_permits(1);
                    }
                    continue;
                }
                Event::Sent(Sent { by_client, what: Message::Frame(frame), .. }) => (by_client, frame),
                Event::Sent(Sent { by_client: false, what, .. }) => {
                    client.conversation.send(&what, "").await;
                    continue;
                }
                Event::Sent(_) => continue,
            };
            if !by_client {
                if [peer::REPLY, peer::ERROR, peer::CANCEL].contains(&frame.kind) {
                    unread.insert(frame.id);
                }
                // The credit that the items behind it need.
                if let (ITEM, Some(given), Some(id)) = (frame.kind, given.get(&frame.id), ids.get(&frame.id))
                    && client.has_given(*id, *given).await.is_none()
                {
                    return Err(format!("the client ended before it gave {given} bytes of credit"));
                }
                if !warm_ups.contains(&frame.id) || frame.kind == peer::GOAWAY {
                    let id = ids.get(&frame.id).copied().unwrap_or(frame.id);
                    client.conversation.send(&Message::Frame(Frame { id, ..frame }), "").await;
                }
                continue;
            }
            match frame.kind {
                peer::NAME => {
                    old_names.insert(frame.number, frame.payload);
                    continue;
                }
                peer::CALL if old_names[&frame.number] == b"warm_up" => {
                    warm_ups.insert(frame.id);
                    continue;
                }
                CREDIT => {
                    *given.entry(frame.id).or_insert(0) += amount(&frame);
                    continue;
                }
                ITEM | END if unread.contains(&frame.id) => continue,
                _ => {}
            }
            let mut new = loop {
                match client.next().await {
                    Some(Frame { kind: ITEM | END, id, .. })
                        if old_ids.get(&id).is_some_and(|old| unread.contains(old)) => {}
                    Some(new) => break new,
                    None => return Err(format!("the client ended in place of {frame:?}")),
                }
            };
            let is_first_piece = frame.kind == peer::CALL && !ids.contains_key(&frame.id);
            if is_first_piece && new.kind == peer::CALL {
                ids.insert(frame.id, new.id);
                old_ids.insert(new.id, frame.id);
            }
            new.id = old_ids.get(&new.id).copied().unwrap_or(new.id);
            if frame.kind == peer::CALL
                && new.kind == peer::CALL
                && old_names[&frame.number] == client.names[&new.number]
            {
                new.number = frame.number;
            }
            tolerance::frame_of_client(&frame, &new, is_first_piece)?;
        }
        drop(rest);
        while client.next().await.is_some() {}
        Ok(())
    }
}

/// Today's client at the other end of a connection with frames.
struct FrameClient<'c> {
    conversation: &'c mut Conversation,
    names: BTreeMap<u16, Vec<u8>>,
    /// The answer to warm-ups.
    warm_up: Option<Frame>,
    /// The bytes of credit that it has given, by the id of the call.
    credit: BTreeMap<u64, u64>,
    /// What came before the credit that was waited for.
    early: VecDeque<Frame>,
}

impl<'c> FrameClient<'c> {
    fn on(conversation: &'c mut Conversation) -> Self {
        let (names, warm_up, credit, early) = Default::default();
        Self { conversation, names, warm_up, credit, early }
    }

    /// The next frame that is compared.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(early) = self.early.pop_front() {
                return Some(early);
            }
            self.take_one().await?;
        }
    }

    /// Waits for this much credit. How a client divides it is its own affair.
    async fn has_given(&mut self, id: u64, bytes: u64) -> Option<()> {
        while self.credit.get(&id).is_none_or(|given| *given < bytes) {
            self.take_one().await?;
        }
        Some(())
    }

    async fn take_one(&mut self) -> Option<()> {
        let Message::Frame(frame) = self.conversation.next().await? else { return Some(()) };
        match frame.kind {
            peer::NAME => {
                self.names.insert(frame.number, frame.payload);
            }
            CREDIT => *self.credit.entry(frame.id).or_default() += amount(&frame),
            peer::CALL if self.names[&frame.number] == b"warm_up" => {
                let answer = Frame { id: frame.id, ..self.warm_up.clone()? };
                self.conversation.send(&Message::Frame(answer), "").await;
            }
            _ => self.early.push_back(frame),
        }
        Some(())
    }
}
