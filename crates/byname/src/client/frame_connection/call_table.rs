//! The calls in flight on one connection. A state machine: no sockets, no clock.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::time::Instant;

use crate::error::Executed;
use crate::frames::header::FrameHeader;

/// The upper bits of an id count the calls, so that a server can say up to which call it answers. The lower bits are the
/// slot of the call.
const PLACE: u32 = 20;

/// The most slots.
pub(super) const MOST: usize = 1 << PLACE;

#[derive(Debug)]
pub(super) struct CallTable {
    slots: Vec<CallSlot>,
    free: Vec<u32>,
    /// The calls begun so far.
    begun: u64,
    waiting: usize,
    /// Calls that have ended, whose callers have not taken the answer.
    untaken: usize,
}

#[derive(Debug)]
struct CallSlot {
    id: u64,
    /// The number of the write that sends it, counted from the first on the connection.
    write: u64,
    deadline: Instant,
    state: SlotState,
}

#[derive(Debug)]
enum SlotState {
    Free,
    Waiting(Option<Waker>),
    Ended(FrameCallEnd),
}

/// How a call ended.
#[derive(Clone, Debug)]
pub(in crate::client) enum FrameCallEnd {
    /// With REPLY or ERROR, which was read at this time.
    Answered(FrameHeader, Bytes, Instant),
    /// Its answer was larger than allowed and was not kept. Says whether the function ran.
    TooLarge(Executed),
    Late,
    /// Nothing of it was sent, or the server will not run it.
    Unsent(Arc<str>),
    /// It was sent, and whether it ran is unknown.
    Unknown(Arc<str>),
}

impl CallTable {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), begun: 0, waiting: 0, untaken: 0 }
    }

    /// How many calls wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many answers are there that their callers have not taken yet.
    pub(super) fn untaken(&self) -> usize {
        self.untaken
    }

    /// Begins a call, whose `waker` is woken at its end. It must be polled or removed later.
    pub(super) fn begin(&mut self, write: u64, deadline: Instant, waker: Waker) -> u64 {
        let at = self.free.pop().unwrap_or(self.slots.len() as u32);
        self.begun += 1;
        let id = self.begun << PLACE | u64::from(at);
        let slot = CallSlot { id, write, deadline, state: SlotState::Waiting(Some(waker)) };
        match self.slots.get_mut(at as usize) {
            Some(free) => *free = slot,
            None => self.slots.push(slot),
        }
        self.waiting += 1;
        id
    }

    fn slot(&mut self, id: u64) -> Option<&mut CallSlot> {
        let at = (id & (MOST as u64 - 1)) as usize;
        self.slots.get_mut(at).filter(|slot| slot.id == id)
    }

    /// Whether this call still waits for its answer.
    pub(super) fn is_waiting(&mut self, id: u64) -> bool {
        self.slot(id).is_some_and(|slot| matches!(slot.state, SlotState::Waiting(_)))
    }

    /// Changes the deadline of a call.
    pub(super) fn set_deadline(&mut self, id: u64, deadline: Instant) {
        if let Some(slot) = self.slot(id) {
            slot.deadline = deadline;
        }
    }

    /// The waker of a call that has not ended. The next poll registers it again.
    pub(super) fn waker(&mut self, id: u64) -> Option<Waker> {
        match &mut self.slot(id)?.state {
            SlotState::Waiting(waker) => waker.take(),
            _ => None,
        }
    }

    /// Ends a call that still waits, and returns its waker. A call that is gone needs no answer.
    pub(super) fn end(&mut self, id: u64, ended: FrameCallEnd) -> Option<Waker> {
        let slot = self.slot(id)?;
        let SlotState::Waiting(waker) = &mut slot.state else {
            return None;
        };
        let waker = waker.take();
        slot.state = SlotState::Ended(ended);
        self.waiting -= 1;
        self.untaken += 1;
        waker
    }

    /// How a call ended. Its slot is then free.
    pub(super) fn poll(&mut self, id: u64, cx: &mut Context<'_>) -> Poll<FrameCallEnd> {
        let lost = || Poll::Ready(FrameCallEnd::Unknown("the call was forgotten, which is a defect of byname".into()));
        let Some(slot) = self.slot(id) else {
            return lost();
        };
        match &mut slot.state {
            SlotState::Waiting(Some(waker)) if waker.will_wake(cx.waker()) => Poll::Pending,
            SlotState::Waiting(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            SlotState::Ended(_) => {
                let state = std::mem::replace(&mut slot.state, SlotState::Free);
                self.untaken -= 1;
                self.free(id);
                match state {
                    SlotState::Ended(ended) => Poll::Ready(ended),
                    _ => lost(),
                }
            }
            SlotState::Free => lost(),
        }
    }

    /// Removes a call. Returns whether it still waited.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        let Some(slot) = self.slot(id) else {
            return false;
        };
        let state = std::mem::replace(&mut slot.state, SlotState::Free);
        self.free(id);
        let waited = matches!(state, SlotState::Waiting(_));
        self.waiting -= usize::from(waited);
        self.untaken -= usize::from(matches!(state, SlotState::Ended(_)));
        waited
    }

    fn free(&mut self, id: u64) {
        let at = id & (MOST as u64 - 1);
        if let Some(slot) = self.slot(id) {
            slot.id = 0;
        }
        self.free.push(at as u32);
    }

    /// Ends every waiting call for which `how` returns an end.
    pub(super) fn end_each(
        &mut self,
        mut how: impl FnMut(WaitingCall) -> Option<FrameCallEnd>,
        wakers: &mut Vec<Waker>,
    ) {
        for slot in &mut self.slots {
            let SlotState::Waiting(waker) = &mut slot.state else {
                continue;
            };
            let waiting = WaitingCall { id: slot.id, write: slot.write, deadline: slot.deadline };
            if let Some(ended) = how(waiting) {
                wakers.extend(waker.take());
                slot.state = SlotState::Ended(ended);
                self.waiting -= 1;
                self.untaken += 1;
            }
        }
    }
}

/// A call that waits.
#[derive(Debug)]
pub(super) struct WaitingCall {
    pub(super) id: u64,
    pub(super) write: u64,
    pub(super) deadline: Instant,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::frames::header::kind;

    fn reply(text: &str) -> FrameCallEnd {
        let header = FrameHeader::new(kind::REPLY, 0, 0, 0);
        FrameCallEnd::Answered(header, Bytes::copy_from_slice(text.as_bytes()), Instant::now())
    }

    fn answer(calls: &mut CallTable, id: u64) -> Option<String> {
        match calls.poll(id, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(FrameCallEnd::Answered(_, text, _)) => Some(String::from_utf8(text.to_vec()).unwrap()),
            Poll::Ready(other) => Some(format!("{other:?}")),
            Poll::Pending => None,
        }
    }

    #[test]
    fn ids_grow_and_places_are_used_again() {
        let (mut calls, now) = (CallTable::new(), Instant::now());
        let first = calls.begin(0, now, Waker::noop().clone());
        let second = calls.begin(0, now, Waker::noop().clone());
        assert!(first < second);
        assert!(calls.remove(first) && !calls.remove(first));
        let third = calls.begin(0, now, Waker::noop().clone());
        assert!(second < third);
        assert_eq!((calls.slots.len(), calls.waiting()), (2, 2));
        assert!(calls.end(first, reply("late")).is_none());
        assert_eq!(answer(&mut calls, third), None, "an answer to a call that is gone reaches no other");
    }

    proptest! {
        #[test]
        fn every_call_gets_its_own_answer(steps in proptest::collection::vec((0..4u8, 0..8usize), 0..200)) {
            let (mut calls, now) = (CallTable::new(), Instant::now());
            let (mut live, mut gone) = (Vec::new(), Vec::new());
            let mut answered = HashMap::new();
            for (step, which) in steps {
                match step {
                    0 => live.push(calls.begin(0, now, Waker::noop().clone())),
                    1 if !live.is_empty() => {
                        let id = live[which % live.len()];
                        calls.end(id, reply(&id.to_string()));
                        answered.insert(id, ());
                    }
                    2 if !live.is_empty() => {
                        let id = live[which % live.len()];
                        let got = answer(&mut calls, id);
                        prop_assert_eq!(got.is_some(), answered.contains_key(&id));
                        if let Some(got) = got {
                            prop_assert_eq!(got, id.to_string());
                            live.retain(|other| *other != id);
                            gone.push(id);
                        }
                    }
                    3 if !live.is_empty() => {
                        let id = live.swap_remove(which % live.len());
                        prop_assert_eq!(calls.remove(id), !answered.contains_key(&id));
                        gone.push(id);
                    }
                    _ => {}
                }
                for id in &gone {
                    prop_assert!(calls.end(*id, reply("stray")).is_none());
                }
                let waiting = live.iter().filter(|id| !answered.contains_key(id)).count();
                prop_assert_eq!(calls.waiting(), waiting);
                prop_assert_eq!(calls.untaken(), live.len() - waiting);
            }
        }
    }
}
