//! The server's end: every function is run where its frame is read, and its stream where there is room to write.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Result, bail};

use super::encoding::Encoding;
use super::frames::{self, Head, Incoming, Outgoing, Payload};
use super::websocket::Framing;
use crate::work;

/// Ends with the connection, however that ends: nobody is told, because the client is.
pub async fn serve<E: Encoding, F: Framing>(stream: F) {
    let mut connection =
        Connection { stream, incoming: Incoming::new(), outgoing: Outgoing::default(), running: VecDeque::new() };
    let _ = poll_fn(|cx| connection.poll::<E>(cx)).await;
}

struct Connection<F> {
    stream: F,
    incoming: Incoming,
    outgoing: Outgoing,
    running: VecDeque<Running>,
}

/// A stream that has not come to its end.
struct Running {
    id: u64,
    numbers: Range<u64>,
}

/// As much as is read at once at the other end.
const WRITE: usize = 64 << 10;
/// How many items of a stream go out before those of the next.
const TURN: usize = 64;

impl<F: Framing> Connection<F> {
    /// One read, all calls that it brought, one write. Where the client doesn't read, nothing more is read from it.
    fn poll<E: Encoding>(&mut self, cx: &mut Context) -> Poll<Result<()>> {
        loop {
            self.run::<E>();
            ready!(self.outgoing.poll_write(Pin::new(&mut self.stream), cx))?;
            match self.incoming.poll_read(Pin::new(&mut self.stream), cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Poll::Ready(Ok(())),
                Poll::Pending if self.running.is_empty() => return Poll::Pending,
                Poll::Pending => continue,
            }
            while let Some((head, payload)) = self.incoming.next() {
                answer::<E>(head, payload, &mut self.outgoing, &mut self.running)?;
            }
        }
    }

    /// Lets the streams yield, one after the other, what one write takes.
    fn run<E: Encoding>(&mut self) {
        while self.outgoing.len() < WRITE
            && let Some(mut stream) = self.running.pop_front()
        {
            let Running { id, numbers } = &mut stream;
            for number in numbers.take(TURN) {
                self.outgoing.push(Head { id: *id, method: frames::NUMBERS }, |out| {
                    E::put_number(number, out);
                    None
                });
            }
            if numbers.is_empty() {
                self.outgoing.push(Head { id: *id, method: frames::END }, |_| None);
            } else {
                self.running.push_back(stream);
            }
        }
    }
}

fn answer<E: Encoding>(
    head: Head,
    payload: Payload,
    outgoing: &mut Outgoing,
    running: &mut VecDeque<Running>,
) -> Result<()> {
    match head.method {
        frames::ADD => {
            let (a, b) = E::addends(payload.as_ref())?;
            let sum = work::add(a, b);
            outgoing.push(head, |out| {
                E::put_sum(sum, out);
                None
            });
        }
        frames::RECORD => {
            let users = work::record(E::users(payload.as_ref())?);
            outgoing.push(head, |out| {
                E::put_users(&users, out);
                None
            });
        }
        frames::PAYLOAD => {
            let bytes = work::payload(E::payload(payload)?);
            outgoing.push(head, |out| E::put_payload(bytes, out));
        }
        frames::NUMBERS => {
            let (from, count) = E::range(payload.as_ref())?;
            running.push_back(Running { id: head.id, numbers: work::numbers(from, count) });
        }
        unknown => bail!("no method {unknown}"),
    }
    Ok(())
}
