//! The server's end: every function is run where its frame is read.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use anyhow::{Result, bail};

use super::encoding::Encoding;
use super::frames::{self, Head, Incoming, Outgoing, Payload};
use super::websocket::Framing;
use crate::work;

/// Ends with the connection, however that ends: nobody is told, because the client is.
pub async fn serve<E: Encoding, F: Framing>(stream: F) {
    let mut connection = Connection { stream, incoming: Incoming::new(), outgoing: Outgoing::default() };
    let _ = poll_fn(|cx| connection.poll::<E>(cx)).await;
}

struct Connection<F> {
    stream: F,
    incoming: Incoming,
    outgoing: Outgoing,
}

impl<F: Framing> Connection<F> {
    /// One read, all calls that it brought, one write. Where the client doesn't read, nothing more is read from it.
    fn poll<E: Encoding>(&mut self, cx: &mut Context) -> Poll<Result<()>> {
        loop {
            ready!(self.outgoing.poll_write(Pin::new(&mut self.stream), cx))?;
            if !ready!(self.incoming.poll_read(Pin::new(&mut self.stream), cx))? {
                return Poll::Ready(Ok(()));
            }
            while let Some((head, payload)) = self.incoming.next() {
                answer::<E>(head, payload, &mut self.outgoing)?;
            }
        }
    }
}

fn answer<E: Encoding>(head: Head, payload: Payload, outgoing: &mut Outgoing) -> Result<()> {
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
        unknown => bail!("no method {unknown}"),
    }
    Ok(())
}
