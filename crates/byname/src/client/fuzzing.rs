//! The client's parsers, for [`crate::fuzzing`].

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, ReadBuf};

use super::http1_connection::{Http1Connection, HttpResponse};
use super::service_url::{ServicePlace, ServiceUrl};

/// An answer in HTTP/1.1, head and body, and the end of the connection.
pub fn response(data: &[u8]) {
    const LIMIT: usize = 1000;
    let whole = read(Pieces { data, most: data.len() }, LIMIT);
    if let Ok((answer, keeps)) = &whole {
        assert!(answer.body.as_ref().map_or(0, |body| body.len()) <= LIMIT);
        assert!(!(*keeps && answer.is_open_ended), "nothing says where it ended");
    }
    let bytewise = read(Pieces { data, most: 1 }, LIMIT);
    assert_eq!(format!("{whole:?}"), format!("{bytewise:?}"), "it is the same in pieces");
}

fn read(pieces: Pieces<'_>, limit: usize) -> Result<(HttpResponse, bool), String> {
    let mut http1 = Http1Connection::new(pieces);
    match pin!(http1.answer(limit)).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("it waits for more than there is"),
    }
}

/// What a server says, and how much of it comes at once.
struct Pieces<'d> {
    data: &'d [u8],
    most: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let (piece, rest) = self.data.split_at(self.most.min(self.data.len()).min(buf.remaining()));
        buf.put_slice(piece);
        self.data = rest;
        Poll::Ready(Ok(()))
    }
}

/// The address of a service.
pub fn url(data: &[u8]) {
    let Ok(url) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(target) = ServiceUrl::parse(url) {
        // Without a path it would be another.
        let end = if matches!(target.place, ServicePlace::Hosts(_)) { "/" } else { "" };
        let again = ServiceUrl::parse(&format!("{}{end}", target.shown())).expect("as it is printed");
        assert_eq!(again.place, target.place);
        assert!(target.path.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{target:?}");
        if let ServicePlace::Hosts(hosts) = &target.place {
            for host in hosts {
                assert!(http::HeaderValue::try_from(&host.authority).is_ok(), "it stands in a header: {target:?}");
                assert!(host.port != 0 && !host.host.is_empty(), "{target:?}");
                assert!(!host.authority.contains(['@', ' ', '/', ',']), "{target:?}");
            }
            assert_eq!(again.path, target.path);
        }
    }
}
