//! The stream that this side sends for one call, as far as its reader lets it: [`SendingHalf`].

use super::FlowEvent;
use super::credit::Credit;

/// A state machine.
#[derive(Debug)]
pub(super) struct SendingHalf {
    state: Sending,
}

#[derive(Debug)]
enum Sending {
    /// Items may be sent as far as there is credit.
    Open(Credit),
    /// The peer wants no more items, or can't have them.
    Refused,
}

impl SendingHalf {
    pub(super) fn open(credit: u32) -> Self {
        Self { state: Sending::Open(Credit::new(credit)) }
    }

    /// The bytes that may be sent, 0 where there is no credit; `None` once the stream is refused.
    pub(super) fn allowed(&self) -> Option<usize> {
        match self.state {
            Sending::Open(credit) => Some(credit.left()),
            Sending::Refused => None,
        }
    }

    /// Items were sent.
    pub(super) fn sent(&mut self, cost: usize) {
        if let Sending::Open(credit) = &mut self.state {
            credit.spend(cost);
        }
    }

    /// The peer may be sent so many bytes more.
    pub(super) fn granted(&mut self, bytes: u32) -> FlowEvent {
        let Sending::Open(credit) = &mut self.state else {
            return FlowEvent::Nothing;
        };
        credit.grant(bytes);
        if credit.is_positive() { FlowEvent::WakeSender } else { FlowEvent::Nothing }
    }

    /// The peer wants no more items, or can't have them.
    pub(super) fn refuse(&mut self) -> FlowEvent {
        self.state = Sending::Refused;
        FlowEvent::WakeSender
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_wakes_the_sender_only_when_it_can_send() {
        let mut half = SendingHalf::open(20);
        half.sent(50);
        assert_eq!((half.allowed(), half.granted(30)), (Some(0), FlowEvent::Nothing));
        assert_eq!((half.granted(1), half.allowed()), (FlowEvent::WakeSender, Some(1)));
    }

    #[test]
    fn a_stream_that_is_refused_stays_refused() {
        let mut half = SendingHalf::open(20);
        assert_eq!((half.refuse(), half.allowed()), (FlowEvent::WakeSender, None));
        assert_eq!(half.granted(100), FlowEvent::Nothing);
        half.sent(9);
        assert_eq!(half.allowed(), None);
    }
}
