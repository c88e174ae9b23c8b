//! The client's end: calls wait in slots, and one task reads and writes for all of them.

use std::future::poll_fn;
use std::marker::PhantomData;
use std::mem;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker, ready};

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use futures_util::Stream;

use super::encoding::Encoding;
use super::frames::{self, Head, Incoming, Outgoing, Payload};
use super::websocket::Framing;
use crate::peer::{self, Caller};
use crate::work::User;

pub struct Client<E> {
    /// Nobody waits for the lock: all tasks run on one thread.
    state: Arc<Mutex<State>>,
    encoding: PhantomData<E>,
}

impl<E> Clone for Client<E> {
    fn clone(&self) -> Self {
        Client { state: Arc::clone(&self.state), encoding: PhantomData }
    }
}

#[derive(Default)]
struct State {
    slots: Vec<Slot>,
    /// The last that was freed is the first that is taken: its buffer is warm, and its waker is often the right one.
    free: Vec<usize>,
    outgoing: Outgoing,
    /// The connection's task, where it waits for something to write.
    connection: Option<Waker>,
    broken: Option<String>,
}

#[derive(Default)]
struct Slot {
    waker: Option<Waker>,
    /// By a reply, or by the end of a stream.
    answered: bool,
    /// Items of a stream, each behind its length.
    items: Vec<u8>,
    small: Vec<u8>,
    large: Option<Bytes>,
}

impl Slot {
    fn wait(&mut self, waker: &Waker) {
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            unknown => *unknown = Some(waker.clone()),
        }
    }

    fn answer(&mut self, payload: Payload) {
        match payload {
            Payload::Small(bytes) => {
                self.small.clear();
                self.small.extend_from_slice(bytes);
            }
            Payload::Large(bytes) => self.large = Some(bytes),
        }
        self.answered = true;
        self.wake();
    }

    fn add(&mut self, item: &[u8]) {
        // Who has been woken takes all that is there.
        if self.items.is_empty() {
            self.wake();
        }
        self.items.extend_from_slice(&(item.len() as u32).to_le_bytes());
        self.items.extend_from_slice(item);
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

impl<E: Encoding> Client<E> {
    pub fn new<F: Framing>(stream: F) -> Self {
        let state = Arc::<Mutex<State>>::default();
        let mut connection =
            Connection { stream, incoming: Incoming::new(), outgoing: Outgoing::default(), state: Arc::clone(&state) };
        tokio::spawn(async move {
            let end = poll_fn(|cx| connection.poll(cx)).await;
            let mut state = lock(&connection.state);
            state.broken = Some(format!("the connection ended: {end:?}"));
            state.slots.iter().for_each(Slot::wake);
        });
        Client { state, encoding: PhantomData }
    }

    /// A call that is dropped before its reply keeps its slot for ever; here none is.
    async fn call<T>(
        &self,
        method: u16,
        put: impl FnOnce(&mut Vec<u8>) -> Option<Bytes>,
        take: impl Fn(Payload) -> Result<T>,
    ) -> Result<T> {
        let mut put = Some(put);
        let mut slot = 0;
        poll_fn(|cx| {
            let mut state = lock(&self.state);
            match put.take() {
                Some(put) => {
                    slot = state.begin(method, put, cx.waker());
                    Poll::Pending
                }
                None => state.poll_reply(slot, cx.waker(), &take),
            }
        })
        .await
    }
}

impl State {
    fn begin(&mut self, method: u16, put: impl FnOnce(&mut Vec<u8>) -> Option<Bytes>, waker: &Waker) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        self.slots[slot].wait(waker);
        self.outgoing.push(Head { id: slot as u64, method }, put);
        // Once it is gone, nobody else would wake this call again.
        match self.connection.take() {
            Some(connection) => connection.wake(),
            None if self.broken.is_some() => waker.wake_by_ref(),
            None => {}
        }
        slot
    }

    fn poll_reply<T>(&mut self, slot: usize, waker: &Waker, take: impl Fn(Payload) -> Result<T>) -> Poll<Result<T>> {
        let waiting = &mut self.slots[slot];
        if !waiting.answered {
            if let Some(reason) = &self.broken {
                return Poll::Ready(Err(anyhow!("{reason}")));
            }
            waiting.wait(waker);
            return Poll::Pending;
        }
        waiting.answered = false;
        let payload = match waiting.large.take() {
            Some(bytes) => Payload::Large(bytes),
            None => Payload::Small(&waiting.small),
        };
        let reply = take(payload);
        self.free.push(slot);
        Poll::Ready(reply)
    }

    /// Replaces `items` by those that have come. `false` is the end of the stream.
    fn poll_items(&mut self, slot: usize, waker: &Waker, items: &mut Vec<u8>) -> Poll<Result<bool>> {
        let waiting = &mut self.slots[slot];
        items.clear();
        mem::swap(items, &mut waiting.items);
        if !items.is_empty() {
            return Poll::Ready(Ok(true));
        }
        if mem::take(&mut waiting.answered) {
            self.free.push(slot);
            return Poll::Ready(Ok(false));
        }
        if let Some(reason) = &self.broken {
            return Poll::Ready(Err(anyhow!("{reason}")));
        }
        waiting.wait(waker);
        Poll::Pending
    }
}

struct Numbers<E> {
    state: Arc<Mutex<State>>,
    slot: usize,
    /// Those that were taken out of the slot, and how much of them was read.
    items: Vec<u8>,
    read: usize,
    encoding: PhantomData<fn() -> E>,
}

impl<E: Encoding> Stream for Numbers<E> {
    type Item = Result<u64>;

    /// Isn't polled again once it has ended.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context) -> Poll<Option<Result<u64>>> {
        let this = self.get_mut();
        loop {
            if let Some((length, rest)) = this.items[this.read..].split_first_chunk() {
                let item = &rest[..u32::from_le_bytes(*length) as usize];
                this.read += length.len() + item.len();
                return Poll::Ready(Some(E::number(item)));
            }
            this.read = 0;
            if !ready!(lock(&this.state).poll_items(this.slot, cx.waker(), &mut this.items))? {
                return Poll::Ready(None);
            }
        }
    }
}

struct Connection<F> {
    stream: F,
    incoming: Incoming,
    /// What is being written, while the calls fill the other one.
    outgoing: Outgoing,
    state: Arc<Mutex<State>>,
}

impl<F: Framing> Connection<F> {
    /// Writes all that the calls have left since the last time, then reads.
    fn poll(&mut self, cx: &mut Context) -> Poll<Result<()>> {
        if self.poll_write(cx)?.is_ready() {
            // From now on the first call wakes this task. It runs after all that are ready before it, so that their calls go out with that one.
            lock(&self.state).connection = Some(cx.waker().clone());
        }
        self.poll_read(cx)
    }

    fn poll_write(&mut self, cx: &mut Context) -> Poll<Result<()>> {
        loop {
            if self.outgoing.poll_write(Pin::new(&mut self.stream), cx)?.is_pending() {
                return Poll::Pending;
            }
            let mut state = lock(&self.state);
            if state.outgoing.is_empty() {
                return Poll::Ready(Ok(()));
            }
            mem::swap(&mut self.outgoing, &mut state.outgoing);
        }
    }

    fn poll_read(&mut self, cx: &mut Context) -> Poll<Result<()>> {
        loop {
            if !ready!(self.incoming.poll_read(Pin::new(&mut self.stream), cx))? {
                return Poll::Ready(Err(anyhow!("closed by the server")));
            }
            let mut state = lock(&self.state);
            while let Some((head, payload)) = self.incoming.next() {
                let slot = state.slots.get_mut(head.id as usize).context("a reply to no call")?;
                match head.method {
                    frames::NUMBERS => slot.add(payload.as_ref()),
                    _ => slot.answer(payload),
                }
            }
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("nobody panics with it")
}

impl<E: Encoding> Caller for Client<E> {
    async fn add(&mut self, a: i64, b: i64) -> Result<i64> {
        let put = |out: &mut Vec<u8>| {
            E::put_addends(a, b, out);
            None
        };
        self.call(frames::ADD, put, |reply| E::sum(reply.as_ref())).await
    }

    async fn record(&mut self, users: Vec<User>) -> Result<Vec<User>> {
        let put = |out: &mut Vec<u8>| {
            E::put_users(&users, out);
            None
        };
        self.call(frames::RECORD, put, |reply| E::users(reply.as_ref())).await
    }

    async fn payload(&mut self, bytes: Bytes) -> Result<Bytes> {
        self.call(frames::PAYLOAD, |out| E::put_payload(bytes, out), E::payload).await
    }

    async fn numbers(&mut self, from: u64, count: u64) -> Result<impl peer::Numbers> {
        let put = |out: &mut Vec<u8>| {
            E::put_range(from, count, out);
            None
        };
        let slot = poll_fn(|cx| Poll::Ready(lock(&self.state).begin(frames::NUMBERS, put, cx.waker()))).await;
        Ok(Numbers::<E> { state: Arc::clone(&self.state), slot, items: Vec::new(), read: 0, encoding: PhantomData })
    }
}
