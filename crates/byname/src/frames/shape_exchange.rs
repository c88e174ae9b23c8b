//! Which functions have the same structure on both sides of a connection: [`ShapeExchange`]. A state machine: no sockets, no
//! clock.

use super::header::FrameHeader;
use super::payload::{put_shape, read_shape};
use super::{Violation, WriteQueue};
use crate::method::Fingerprint;

/// What the two sides of a connection have said of the structure of functions, by the numbers of their names.
#[derive(Debug, Default)]
pub(crate) struct ShapeExchange {
    /// Whether both sides have said in HELLO that they send SHAPE.
    is_agreed_on: bool,
    functions: Vec<ExchangedShapes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct ExchangedShapes {
    /// What this side has sent.
    own: Option<Fingerprint>,
    /// What the peer has sent.
    peers: Option<Fingerprint>,
}

impl ShapeExchange {
    /// Both sides have said whether they send SHAPE.
    pub(crate) fn agreed_on(is_agreed_on: bool) -> Self {
        Self { is_agreed_on, functions: Vec::new() }
    }

    /// The number stands for this function from now on. What was said of another one is forgotten.
    pub(crate) fn named(&mut self, number: u16) {
        if !self.is_agreed_on {
            return;
        }
        let at = usize::from(number);
        if self.functions.len() <= at {
            self.functions.resize_with(at + 1, ExchangedShapes::default);
        }
        self.functions[at] = ExchangedShapes::default();
    }

    /// The function is called. Its fingerprint is sent once, as soon as this side knows it.
    #[inline]
    pub(crate) fn called(&mut self, number: u16, known: impl FnOnce() -> Option<Fingerprint>, queue: &mut WriteQueue) {
        if self.is_agreed_on
            && let Some(shapes) = self.functions.get_mut(usize::from(number))
            && shapes.own.is_none()
            && let Some(own) = known()
        {
            shapes.own = Some(own);
            put_shape(number, own, queue);
        }
    }

    /// A SHAPE has come. One without an agreement, or of a number without a name, is ignored.
    pub(crate) fn came(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<(), Violation> {
        if !self.is_agreed_on {
            return Ok(());
        }
        let peers = read_shape(payload)?;
        if let Some(shapes) = self.functions.get_mut(usize::from(header.number)) {
            shapes.peers = Some(peers);
        }
        Ok(())
    }

    /// Whether the function has the same structure on both sides. `None` until both have said it.
    pub(crate) fn agreement(&self, number: u16) -> Option<bool> {
        let shapes = self.functions.get(usize::from(number))?;
        Some(shapes.own? == shapes.peers?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frames::fuzzing::queued;
    use crate::frames::header::kind;

    const ONE: Fingerprint = Fingerprint([1; 16]);
    const TWO: Fingerprint = Fingerprint([2; 16]);

    /// The frames that one side has queued come to the other one.
    fn pass(queue: &mut WriteQueue, to: &mut ShapeExchange) -> usize {
        let frames = queued(queue);
        for (header, payload) in &frames {
            assert_eq!((header.kind, header.id), (kind::SHAPE, 0));
            to.came(header, payload).unwrap();
        }
        frames.len()
    }

    fn sides(client: bool, server: bool) -> (ShapeExchange, ShapeExchange) {
        (ShapeExchange::agreed_on(client && server), ShapeExchange::agreed_on(client && server))
    }

    #[test]
    fn both_sides_learn_whether_their_functions_agree() {
        for (of_server, agrees) in [(ONE, true), (TWO, false)] {
            let ((mut client, mut server), mut queue) = (sides(true, true), WriteQueue::new());
            client.named(3);
            server.named(3);
            client.called(3, || None, &mut queue);
            assert_eq!(pass(&mut queue, &mut server), 0, "it is not known yet");
            client.called(3, || Some(ONE), &mut queue);
            assert_eq!(pass(&mut queue, &mut server), 1);
            client.called(3, || panic!("it is sent once"), &mut queue);
            assert_eq!((client.agreement(3), server.agreement(3)), (None, None), "the server has not said it");
            server.called(3, || Some(of_server), &mut queue);
            assert_eq!(pass(&mut queue, &mut client), 1);
            assert_eq!((client.agreement(3), server.agreement(3)), (Some(agrees), Some(agrees)));
        }
    }

    #[test]
    fn nothing_is_sent_unless_both_sides_send_it() {
        let ((mut client, _), mut queue) = (sides(true, false), WriteQueue::new());
        client.named(0);
        client.called(0, || panic!("it is not asked"), &mut queue);
        assert!(queue.is_empty());
        client.came(&FrameHeader::new(kind::SHAPE, 0, 0, 0), &ONE.0).unwrap();
        assert_eq!(client.agreement(0), None);
    }

    #[test]
    fn a_number_that_gets_another_name_begins_anew() {
        let ((mut client, mut server), mut queue) = (sides(true, true), WriteQueue::new());
        for side in [&mut client, &mut server] {
            side.named(0);
            side.called(0, || Some(ONE), &mut queue);
            side.came(&FrameHeader::new(kind::SHAPE, 0, 0, 0), &ONE.0).unwrap();
        }
        server.named(0);
        assert_eq!((client.agreement(0), server.agreement(0)), (Some(true), None));
        server.called(0, || Some(TWO), &mut queue);
        assert_eq!(pass(&mut queue, &mut client), 3);
        assert_eq!(client.agreement(0), Some(false));
    }

    #[test]
    fn a_shape_of_a_number_without_a_name_is_ignored_and_one_of_another_length_is_a_violation() {
        let (mut client, _) = sides(true, true);
        client.named(1);
        for number in [0, 2, u16::MAX] {
            client.came(&FrameHeader::new(kind::SHAPE, 0, number, 0), &ONE.0).unwrap();
            assert_eq!(client.agreement(number), None);
        }
        assert_eq!(client.functions.len(), 2, "a peer can't make it grow");
        for length in [0, 15, 17] {
            assert!(client.came(&FrameHeader::new(kind::SHAPE, 0, 1, 0), &vec![0; length]).is_err(), "{length}");
        }
    }
}
