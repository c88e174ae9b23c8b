//! Which replica of a service gets the next call: [`ReplicaChoice`]. A state machine without a clock.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use fastrand::Rng;
use tokio::time::Instant;

use super::ejection::Ejection;
use super::replica_load::{ReplicaLoad, ReplicaOutcome, ServiceLoad};

/// The replicas that a client knows.
///
/// A call goes to the best of three that are chosen at random. With one replica nothing is counted and nothing computed.
#[derive(Debug)]
pub(super) struct ReplicaChoice {
    /// The moment that times are counted from, in seconds.
    start: Instant,
    /// Those that get calls, then those that are ejected.
    replicas: Vec<Replica>,
    serving: usize,
    service: ServiceLoad,
    /// The earliest time at which an ejected replica is tried.
    probe_at: Option<Instant>,
}

/// Names one replica. No two replicas of a process have the same, so a call that ends late is never counted at another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplicaId(u32);

static NEXT_REPLICA: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
struct Replica {
    id: ReplicaId,
    load: ReplicaLoad,
    ejection: Ejection,
    /// When it joined those that were there before. `None` if it was there from the beginning.
    joined: Option<f64>,
}

/// What is known of a replica, for a person.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ReplicaView {
    pub(super) id: ReplicaId,
    pub(super) standing: ReplicaStanding,
    pub(super) in_flight: u32,
    pub(super) reported: Option<u32>,
    /// In seconds.
    pub(super) latency: Option<f64>,
    /// The share of the calls that succeeded.
    pub(super) success: f64,
    /// Calls have ended there, and none was answered.
    pub(super) never_answered: bool,
}

/// Whether a replica gets calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ReplicaStanding {
    Serving,
    /// It gets this share of what it would get.
    Joining(f64),
    /// It is tried after this time.
    Out(Duration),
    /// A call is in flight that tries it.
    Tried,
}

/// A call that was sent to a replica. It is given back when it has ended.
#[must_use]
#[derive(Debug)]
pub(super) struct SentCall {
    pub(super) replica: ReplicaId,
    sent: f64,
    kind: SentCallKind,
}

impl SentCall {
    /// Whether it must be given back. A call is not counted where there is no other replica.
    pub(super) fn is_counted(&self) -> bool {
        self.kind != SentCallKind::Uncounted
    }

    /// Whether it tries an ejected replica.
    pub(super) fn is_probe(&self) -> bool {
        self.kind == SentCallKind::Probe
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SentCallKind {
    /// There was no other replica.
    Uncounted,
    Counted,
    /// It tries an ejected replica.
    Probe,
}

/// The number of replicas that are compared for a call.
const COMPARED: usize = 3;
/// The seconds in which the share of a new replica grows.
const GROWS_FOR: f64 = 10.0;

impl ReplicaChoice {
    pub(super) fn new(now: Instant) -> Self {
        let (replicas, service) = (Vec::new(), ServiceLoad::default());
        Self { start: now, replicas, serving: 0, service, probe_at: None }
    }

    /// A replica that is there from the beginning.
    pub(super) fn add(&mut self, now: Instant) -> ReplicaId {
        self.insert(now, None)
    }

    /// A replica that joins the others. Its share of the calls grows.
    pub(super) fn join(&mut self, now: Instant) -> ReplicaId {
        self.insert(now, Some(self.seconds(now)))
    }

    fn insert(&mut self, now: Instant, joined: Option<f64>) -> ReplicaId {
        let id = ReplicaId(NEXT_REPLICA.fetch_add(1, Ordering::Relaxed));
        let replica = Replica { id, load: ReplicaLoad::new(), ejection: Ejection::new(now), joined };
        self.replicas.push(replica);
        let last = self.replicas.len() - 1;
        self.replicas.swap(self.serving, last);
        self.serving += 1;
        id
    }

    /// A replica has gone. Its calls may still end.
    pub(super) fn leave(&mut self, id: ReplicaId, now: Instant) {
        let Some(index) = self.position(id) else { return };
        let index = self.move_if_serving(index);
        self.replicas.swap_remove(index);
        while self.replicas.len() - self.serving > self.replicas.len() / 2 {
            self.replicas[self.serving].ejection.readmit(now);
            self.serving += 1;
        }
        self.set_probe_at();
    }

    /// Chooses the replica of a call, and counts the call as sent. `tried` are those at which the call has failed: they
    /// get it again only if there is no other. `None` without replicas.
    #[inline]
    pub(super) fn choose(&mut self, tried: &[ReplicaId], now: Instant, random: &mut Rng) -> Option<SentCall> {
        if let [only] = &self.replicas[..] {
            return Some(SentCall { replica: only.id, sent: 0.0, kind: SentCallKind::Uncounted });
        }
        self.choose_of_several(tried, now, random)
    }

    fn choose_of_several(&mut self, tried: &[ReplicaId], now: Instant, random: &mut Rng) -> Option<SentCall> {
        let seconds = self.seconds(now);
        let probed = if tried.is_empty() { self.probe(now) } else { None };
        let kind = if probed.is_some() { SentCallKind::Probe } else { SentCallKind::Counted };
        let index = match probed {
            Some(index) => index,
            None => self.best_of_three(tried, seconds, random)?,
        };
        let replica = &mut self.replicas[index];
        replica.load.sent(seconds);
        Some(SentCall { replica: replica.id, sent: seconds, kind })
    }

    /// Counts a call as sent to this replica, if it gets calls or if it is ejected and is to be tried now. A later attempt at
    /// a call, which has failed at those that were `tried`, tries none.
    pub(super) fn choose_this(&mut self, id: ReplicaId, tried: &[ReplicaId], now: Instant) -> Option<SentCall> {
        let index = self.position(id)?;
        if index < self.serving {
            return self.send_to(id, now);
        }
        if !tried.is_empty() {
            return None;
        }
        let is_due = self.replicas[index].ejection.probe_at().is_some_and(|at| at <= now);
        if !is_due {
            return None;
        }
        let sent = self.seconds(now);
        self.replicas[index].ejection.probe();
        self.replicas[index].load.sent(sent);
        self.set_probe_at();
        Some(SentCall { replica: id, sent, kind: SentCallKind::Probe })
    }

    /// Counts a call as sent to this replica. `None` if it is not known.
    pub(super) fn send_to(&mut self, id: ReplicaId, now: Instant) -> Option<SentCall> {
        let index = self.position(id)?;
        if self.replicas.len() == 1 {
            return Some(SentCall { replica: id, sent: 0.0, kind: SentCallKind::Uncounted });
        }
        let sent = self.seconds(now);
        self.replicas[index].load.sent(sent);
        Some(SentCall { replica: id, sent, kind: SentCallKind::Counted })
    }

    /// What was done before a call could be sent says nothing about how long the replica takes for an answer.
    pub(super) fn sent_only_now(&self, call: &mut SentCall, now: Instant) {
        call.sent = self.seconds(now);
    }

    /// The answer to a call reports how many other calls the replica has in flight.
    pub(super) fn reported(&mut self, call: &SentCall, calls: u32, now: Instant) {
        if call.kind != SentCallKind::Uncounted
            && let Some(index) = self.position(call.replica)
        {
            let seconds = self.seconds(now);
            self.replicas[index].load.reported(calls, seconds, &mut self.service);
        }
    }

    /// A call has ended.
    pub(super) fn ended(&mut self, call: SentCall, outcome: ReplicaOutcome, now: Instant) {
        if call.kind == SentCallKind::Uncounted {
            return;
        }
        let Some(index) = self.position(call.replica) else { return };
        let seconds = self.seconds(now);
        let may_eject = self.replicas.len() - self.serving < self.replicas.len() / 2;
        let replica = &mut self.replicas[index];
        // A caller with a short deadline says nothing about the replica.
        let outcome = match outcome {
            ReplicaOutcome::TimedOut if !replica.load.was_silent(call.sent, seconds, &self.service) => {
                ReplicaOutcome::Cancelled
            }
            outcome => outcome,
        };
        replica.load.ended(outcome, seconds - call.sent, seconds, &mut self.service);
        if call.kind == SentCallKind::Probe {
            replica.ejection.probed(outcome, now);
            // It may serve already, because others have gone.
            if replica.ejection.is_serving() && index >= self.serving {
                // It starts afresh: its share grows as that of a new replica.
                replica.load.forget_record();
                replica.joined = Some(seconds);
                self.replicas.swap(self.serving, index);
                self.serving += 1;
            }
            self.set_probe_at();
        } else if replica.ejection.ended(outcome, now) && may_eject {
            replica.ejection.eject(now);
            self.move_if_serving(index);
            self.set_probe_at();
        }
    }

    /// Whether a replica gets no calls because it fails.
    pub(super) fn is_ejected(&self, id: ReplicaId) -> bool {
        self.position(id).is_some_and(|index| index >= self.serving)
    }

    /// What is known of each replica.
    pub(super) fn views(&self, now: Instant) -> impl Iterator<Item = ReplicaView> {
        let seconds = self.seconds(now);
        self.replicas.iter().map(move |replica| {
            let standing = match (replica.ejection.is_serving(), replica.ejection.probe_at()) {
                (false, Some(at)) => ReplicaStanding::Out(at.saturating_duration_since(now)),
                (false, None) => ReplicaStanding::Tried,
                (true, _) => match replica.joined.filter(|joined| seconds - joined < GROWS_FOR) {
                    Some(joined) => ReplicaStanding::Joining((seconds - joined) / GROWS_FOR),
                    None => ReplicaStanding::Serving,
                },
            };
            let (latency, success) = replica.load.latency_and_success(&self.service, seconds);
            let (in_flight, reported) = (replica.load.in_flight, replica.load.reported_calls());
            let never_answered = replica.load.never_answered();
            ReplicaView { id: replica.id, standing, in_flight, reported, latency, success, never_answered }
        })
    }

    /// An ejected replica that is to be tried now.
    fn probe(&mut self, now: Instant) -> Option<usize> {
        self.probe_at.filter(|at| *at <= now)?;
        let is_due = |replica: &Replica| replica.ejection.probe_at().is_some_and(|at| at <= now);
        let index = self.serving + self.replicas[self.serving..].iter().position(is_due)?;
        self.replicas[index].ejection.probe();
        self.set_probe_at();
        Some(index)
    }

    /// The best of up to three that get calls.
    fn best_of_three(&self, tried: &[ReplicaId], now: f64, random: &mut Rng) -> Option<usize> {
        let mut best = Best::default();
        let mut growing = Best::default();
        let mut again = Best::default();
        let (sampled, count) = sample(self.serving, random);
        for index in sampled.into_iter().take(count) {
            let replica = &self.replicas[index];
            let rank = if tried.contains(&replica.id) {
                &mut again
            } else if replica.is_held_back(now, random) {
                &mut growing
            } else {
                &mut best
            };
            rank.offer(index, replica.load.score(&self.service, now));
        }
        best.index.or(growing.index).or_else(|| self.best_untried(tried, now)).or(again.index)
    }

    /// The best of all that get calls and have not failed this one.
    fn best_untried(&self, tried: &[ReplicaId], now: f64) -> Option<usize> {
        let mut best = Best::default();
        for (index, replica) in self.replicas[..self.serving].iter().enumerate() {
            if !tried.contains(&replica.id) {
                best.offer(index, replica.load.score(&self.service, now));
            }
        }
        best.index
    }

    fn seconds(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.start).as_secs_f64()
    }

    fn position(&self, id: ReplicaId) -> Option<usize> {
        self.replicas.iter().position(|replica| replica.id == id)
    }

    /// Moves a replica that gets calls to those that are ejected. Says where it is now.
    fn move_if_serving(&mut self, index: usize) -> usize {
        if index >= self.serving {
            return index;
        }
        self.serving -= 1;
        self.replicas.swap(index, self.serving);
        self.serving
    }

    fn set_probe_at(&mut self) {
        self.probe_at = self.replicas[self.serving..].iter().filter_map(|replica| replica.ejection.probe_at()).min();
    }
}

impl Replica {
    /// Whether it is passed over this time, so that its share grows.
    fn is_held_back(&self, now: f64, random: &mut Rng) -> bool {
        self.joined.is_some_and(|joined| now - joined < GROWS_FOR && random.f64() * GROWS_FOR >= now - joined)
    }
}

/// The first of those with the lowest score.
#[derive(Debug, Default)]
struct Best {
    index: Option<usize>,
    score: f64,
}

impl Best {
    fn offer(&mut self, index: usize, score: f64) {
        if self.index.is_none() || score < self.score {
            *self = Self { index: Some(index), score };
        }
    }
}

/// Up to three different numbers below `count`, in random order, so that ties end at random.
fn sample(count: usize, random: &mut Rng) -> ([usize; COMPARED], usize) {
    let [mut first, mut second, mut third] = [0; COMPARED];
    if count > 0 {
        first = random.usize(..count);
    }
    if count > 1 {
        second = random.usize(..count - 1);
        second += usize::from(second >= first);
    }
    if count > 2 {
        third = random.usize(..count - 2);
        third += usize::from(third >= first.min(second));
        third += usize::from(third >= first.max(second));
    }
    ([first, second, third], count.min(COMPARED))
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use proptest::prelude::*;

    use super::ReplicaOutcome::{Answered, Cancelled, Failed, Refused, TimedOut};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn replicas(count: usize) -> (ReplicaChoice, Vec<ReplicaId>, Instant, Rng) {
        let now = Instant::now();
        let mut choice = ReplicaChoice::new(now);
        let ids = (0..count).map(|_| choice.add(now)).collect();
        (choice, ids, now, Rng::with_seed(1))
    }

    /// Makes `calls` calls, one after the other. Returns how many of them each replica got.
    fn shares(choice: &mut ReplicaChoice, ids: &[ReplicaId], calls: u32, now: Instant, random: &mut Rng) -> Vec<u32> {
        let mut shares = vec![0; ids.len()];
        for _ in 0..calls {
            let call = choice.choose(&[], now, random).unwrap();
            shares[ids.iter().position(|id| *id == call.replica).unwrap()] += 1;
            choice.ended(call, Answered, now);
        }
        shares
    }

    /// Makes `calls` calls, one after the other. `end` says how the call to a replica ends, and after which time: it gets the
    /// number of the replica and how many calls that had before. Returns how many of them each replica got.
    fn one_by_one(
        choice: &mut ReplicaChoice,
        ids: &[ReplicaId],
        calls: u32,
        now: &mut Instant,
        random: &mut Rng,
        end: impl Fn(usize, u32) -> (ReplicaOutcome, Duration),
    ) -> Vec<u32> {
        let mut shares = vec![0; ids.len()];
        for _ in 0..calls {
            let call = choice.choose(&[], *now, random).unwrap();
            let index = ids.iter().position(|id| *id == call.replica).unwrap();
            let (outcome, takes) = end(index, shares[index]);
            shares[index] += 1;
            *now += takes;
            choice.ended(call, outcome, *now);
        }
        shares
    }

    /// Sends calls until one goes to this replica, and lets it fail.
    fn fail(choice: &mut ReplicaChoice, id: ReplicaId, now: Instant) {
        let index = choice.position(id).unwrap();
        let sent = choice.seconds(now);
        choice.replicas[index].load.sent(sent);
        choice.ended(SentCall { replica: id, sent, kind: SentCallKind::Counted }, Failed, now);
    }

    fn is_serving(choice: &ReplicaChoice, id: ReplicaId) -> bool {
        choice.position(id).unwrap() < choice.serving
    }

    #[test]
    fn without_replicas_none_is_chosen() {
        let (mut choice, _, now, mut random) = replicas(0);
        assert!(choice.choose(&[], now, &mut random).is_none());
    }

    #[test]
    fn one_replica_gets_all_calls_and_nothing_is_counted() {
        let (mut choice, ids, now, mut random) = replicas(1);
        let state = random.get_seed();
        for _ in 0..20 {
            let call = choice.choose(&[], now, &mut random).unwrap();
            assert_eq!((call.replica, call.kind), (ids[0], SentCallKind::Uncounted));
            choice.reported(&call, 9, now);
            choice.ended(call, Failed, now);
        }
        assert_eq!(random.get_seed(), state);
        // A call that was sent while it was alone is not missing afterwards.
        let first = choice.choose(&[], now, &mut random).unwrap();
        choice.add(now);
        assert_eq!(choice.replicas[0].load.score(&choice.service, choice.seconds(now)), 1.0);
        choice.ended(first, Answered, now);
        assert_eq!(choice.replicas[0].load.score(&choice.service, choice.seconds(now)), 1.0);
    }

    #[test]
    fn ties_end_at_random() {
        for count in [2, 3, 7] {
            let (mut choice, ids, now, mut random) = replicas(count);
            let shares = shares(&mut choice, &ids, 7000, now, &mut random);
            let fair = 7000 / count as u32;
            assert!(shares.iter().all(|share| share.abs_diff(fair) < fair / 8), "{shares:?}");
        }
    }

    #[test]
    fn of_three_the_least_busy_is_chosen() {
        let (mut choice, ids, now, mut random) = replicas(3);
        let mut calls: Vec<_> = (0..9).map(|_| choice.choose(&[], now, &mut random).unwrap()).collect();
        for id in &ids {
            assert_eq!(calls.iter().filter(|call| call.replica == *id).count(), 3);
        }
        let ended = calls.pop().unwrap();
        let replica = ended.replica;
        choice.ended(ended, Cancelled, now);
        assert_eq!(choice.choose(&[], now, &mut random).unwrap().replica, replica);
    }

    #[test]
    fn each_attempt_goes_to_another_replica() {
        let (mut choice, ids, now, mut random) = replicas(5);
        let mut tried = Vec::new();
        for _ in 0..5 {
            let call = choice.choose(&tried, now, &mut random).unwrap();
            assert!(!tried.contains(&call.replica));
            tried.push(call.replica);
        }
        assert!(ids.contains(&choice.choose(&tried, now, &mut random).unwrap().replica), "there is no other");
    }

    #[test]
    fn a_failing_replica_is_ejected_and_tried_with_one_call() {
        let (mut choice, ids, now, mut random) = replicas(3);
        for _ in 0..5 {
            fail(&mut choice, ids[1], now);
        }
        assert_eq!(shares(&mut choice, &ids, 100, now, &mut random)[1], 0);
        let later = now + SECOND;
        assert!(choice.choose(&[ids[0]], later, &mut random).unwrap().replica == ids[2], "a second attempt tries none");
        let probe = choice.choose(&[], later, &mut random).unwrap();
        assert_eq!((probe.replica, probe.kind), (ids[1], SentCallKind::Probe));
        assert_eq!(shares(&mut choice, &ids, 100, later, &mut random)[1], 0, "it is one call");
        choice.ended(probe, Answered, later);
        assert!(is_serving(&choice, ids[1]));
        assert_eq!(choice.probe_at, None);
    }

    #[test]
    fn one_late_answer_is_forgotten_after_few_of_many_calls() {
        let usual = Duration::from_millis(1);
        for late_call in [0, 500] {
            let (mut choice, ids, mut now, mut random) = replicas(3);
            let end = |index, nth| (Answered, if index == 1 && nth == late_call { 100 * usual } else { usual });
            one_by_one(&mut choice, &ids, 3000, &mut now, &mut random, end);
            let shares = one_by_one(&mut choice, &ids, 3000, &mut now, &mut random, |_, _| (Answered, usual));
            assert!(shares.iter().all(|share| *share > 900), "{shares:?}");
        }
    }

    #[test]
    fn a_replica_that_stays_slow_gets_few_calls() {
        let usual = Duration::from_millis(1);
        let (mut choice, ids, mut now, mut random) = replicas(3);
        let end = |index, _| (Answered, if index == 1 { 20 * usual } else { usual });
        let shares = one_by_one(&mut choice, &ids, 10000, &mut now, &mut random, end);
        assert!(shares[1] < 20, "{shares:?}");
    }

    #[test]
    fn a_replica_that_refuses_gets_few_calls_and_is_back_when_it_accepts() {
        let usual = Duration::from_millis(1);
        let (mut choice, ids, mut now, mut random) = replicas(3);
        let refuses = |index, _| if index == 1 { (Refused, usual / 10) } else { (Answered, usual) };
        let shares = one_by_one(&mut choice, &ids, 3000, &mut now, &mut random, refuses);
        assert!((1..20).contains(&shares[1]), "{shares:?}");
        assert!(is_serving(&choice, ids[1]), "it is busy, not ill");
        one_by_one(&mut choice, &ids, 10000, &mut now, &mut random, |_, _| (Answered, usual));
        let shares = one_by_one(&mut choice, &ids, 3000, &mut now, &mut random, |_, _| (Answered, usual));
        assert!(shares.iter().all(|share| *share > 900), "{shares:?}");
    }

    #[test]
    fn a_probe_that_is_refused_or_given_up_is_not_repeated_by_the_next_call() {
        for outcome in [Refused, Cancelled] {
            let (mut choice, ids, mut now, mut random) = replicas(3);
            for _ in 0..5 {
                fail(&mut choice, ids[1], now);
            }
            now += SECOND;
            let probe = choice.choose(&[], now, &mut random).unwrap();
            assert!(probe.is_probe());
            choice.ended(probe, outcome, now);
            assert_eq!(shares(&mut choice, &ids, 100, now, &mut random)[1], 0);
            let again = choice.choose(&[], now + SECOND, &mut random).unwrap();
            assert!(again.is_probe());
        }
    }

    #[test]
    fn a_later_attempt_of_a_call_with_a_key_is_no_probe() {
        let (mut choice, ids, mut now, _) = replicas(3);
        for _ in 0..5 {
            fail(&mut choice, ids[1], now);
        }
        now += SECOND;
        assert!(choice.choose_this(ids[1], &[ids[0]], now).is_none());
        assert!(choice.choose_this(ids[2], &[ids[0]], now).is_some());
        assert!(choice.choose_this(ids[1], &[], now).is_some_and(|call| call.is_probe()));
    }

    #[test]
    fn a_deadline_counts_if_an_answer_was_due_and_the_replica_was_silent() {
        let (mut choice, ids, mut now, _) = replicas(3);
        let mut calls = |choice: &mut ReplicaChoice, other: ReplicaOutcome| {
            let [late, early] = [(); 2].map(|()| choice.send_to(ids[0], now).unwrap());
            choice.ended(early, other, now + SECOND / 2);
            choice.ended(late, TimedOut, now + SECOND);
            now += SECOND;
        };
        (0..20).for_each(|_| calls(&mut choice, Answered));
        assert!(is_serving(&choice, ids[0]), "it has answered others");
        (0..4).for_each(|_| calls(&mut choice, TimedOut));
        assert!(is_serving(&choice, ids[0]), "half of the deadlines came before an answer was due");
        (0..2).for_each(|_| calls(&mut choice, TimedOut));
        assert!(!is_serving(&choice, ids[0]), "it was silent");
    }

    #[test]
    fn never_more_than_half_are_ejected() {
        for (count, most) in [(2, 1), (3, 1), (4, 2), (7, 3)] {
            let (mut choice, ids, now, mut random) = replicas(count);
            for id in ids.iter().cycle().take(count * 20) {
                fail(&mut choice, *id, now);
            }
            assert_eq!(count - choice.serving, most);
            assert!(choice.choose(&[], now, &mut random).is_some());
            // The others leave.
            for id in ids.iter().filter(|id| is_serving(&choice, **id)).copied().collect::<Vec<_>>() {
                choice.leave(id, now);
                assert!(choice.replicas.is_empty() || choice.choose(&[], now, &mut random).is_some());
            }
        }
    }

    #[test]
    fn the_share_of_a_replica_that_joins_grows() {
        let (mut choice, mut ids, now, mut random) = replicas(4);
        ids.push(choice.join(now));
        let mut share = |seconds| shares(&mut choice, &ids, 5000, now + SECOND * seconds, &mut random)[4];
        assert_eq!(share(0), 0);
        assert!(share(3).abs_diff(300) < 100);
        assert!(share(10).abs_diff(1000) < 150);
        // Where all have joined just now, there is no other.
        choice = ReplicaChoice::new(now);
        ids = vec![choice.join(now), choice.join(now)];
        assert!(shares(&mut choice, &ids, 100, now, &mut random).iter().all(|share| *share > 30));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join,
        Leave(usize),
        Send { tried: bool },
        End(usize, ReplicaOutcome, Option<u32>),
        Wait(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let outcome = prop_oneof![Just(Answered), Just(Failed), Just(TimedOut), Just(Refused), Just(Cancelled)];
        let end = (any::<usize>(), outcome, proptest::option::of(0..50u32));
        prop_oneof![
            1 => Just(Step::Join),
            1 => any::<usize>().prop_map(Step::Leave),
            8 => any::<bool>().prop_map(|tried| Step::Send { tried }),
            8 => end.prop_map(|(index, outcome, report)| Step::End(index, outcome, report)),
            2 => (0..3000u64).prop_map(Step::Wait),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Replicas come, go, fail and return in any order: a call gets a replica that is there, at least half of them get
        /// calls, an ejected one gets one at a time, and no call in flight is forgotten or counted twice.
        #[test]
        fn whatever_happens_calls_have_a_replica(
            seed in any::<u64>(),
            steps in proptest::collection::vec(step(), 0..300),
        ) {
            let (mut now, mut random) = (Instant::now(), Rng::with_seed(seed));
            let mut choice = ReplicaChoice::new(now);
            let mut there: Vec<ReplicaId> = Vec::new();
            let mut calls: Vec<SentCall> = Vec::new();
            for step in steps {
                match step {
                    Step::Join => there.push(choice.join(now)),
                    Step::Leave(index) if !there.is_empty() => choice.leave(there.swap_remove(index % there.len()), now),
                    Step::Send { tried } => {
                        let tried = if tried { &there[..there.len() / 2] } else { &[] };
                        let call = choice.choose(tried, now, &mut random);
                        prop_assert_eq!(call.is_some(), !there.is_empty());
                        if let Some(call) = call {
                            prop_assert!(there.contains(&call.replica));
                            let is_probe = call.kind == SentCallKind::Probe;
                            let same = |other: &SentCall| other.replica == call.replica && other.kind == call.kind;
                            prop_assert!(!is_probe || !calls.iter().any(same));
                            calls.push(call);
                        }
                    }
                    Step::End(index, outcome, report) if !calls.is_empty() => {
                        let call = calls.swap_remove(index % calls.len());
                        if let Some(report) = report {
                            choice.reported(&call, report, now);
                        }
                        choice.ended(call, outcome, now);
                    }
                    Step::Wait(millis) => now += Duration::from_millis(millis),
                    Step::Leave(_) | Step::End(..) => {}
                }
                prop_assert_eq!(choice.replicas.len(), there.len());
                prop_assert!(choice.serving >= there.len().div_ceil(2));
                for (index, replica) in choice.replicas.iter().enumerate() {
                    prop_assert_eq!(replica.ejection.is_serving(), index < choice.serving);
                    let counted = |call: &&SentCall| call.replica == replica.id && call.kind != SentCallKind::Uncounted;
                    prop_assert_eq!(replica.load.in_flight as usize, calls.iter().filter(counted).count());
                }
            }
        }
    }
}
