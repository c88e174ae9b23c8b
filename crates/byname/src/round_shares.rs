//! How a server that can't run all calls divides what it can run: [`RoundShares`].

/// The number of priorities.
pub(crate) const LEVELS: usize = 4;

/// A call for which there may be no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ArrivedCall {
    /// Its priority. Zero is the least important.
    pub(crate) level: usize,
    /// A hash of who makes it. It must be one that callers can't predict.
    pub(crate) caller: u64,
}

/// The shares of priorities and callers in the calls that a server runs. It has no clock.
///
/// In each round a priority has the room that more important calls left in the round before. So less important calls are
/// refused first. Among the calls of one priority those come first with which their callers stay within their shares. The shares
/// of all callers are equal, and they use up what the priority got lately, by deficit round robin: a caller that wants less gets
/// all, and what it leaves is for the others.
///
/// Callers are told apart by [`CALLERS`] buckets. Two callers in one bucket have one share together.
#[derive(Debug)]
pub(crate) struct RoundShares {
    /// Of this round.
    limit: i64,
    /// How many calls of each class may still be admitted in this round. It is negative after a round with too many.
    room: [i64; CLASSES],
    /// How many calls of each class were admitted in this round.
    taken: [i64; CLASSES],
    /// The calls that came, by priority and caller. A call counts half after each division.
    came: Vec<f64>,
    /// The calls that were admitted, by priority, counted in the same way.
    admitted: [f64; LEVELS],
    /// In how many microseconds.
    elapsed: f64,
    counted_from: u64,
    round_from: u64,
    /// How many calls a caller of each priority gets in a microsecond. `None` if all get all.
    share: [Option<f64>; LEVELS],
    /// The sum of the shares of each priority in all rounds.
    granted: [f64; LEVELS],
    /// How much of it each caller has used, by priority.
    used: Vec<f64>,
}

/// A priority has two classes: calls beyond the share of their caller, and before these the others.
const CLASSES: usize = 2 * LEVELS;

/// How many callers are told apart.
const CALLERS: usize = 4096;

/// A caller may save as many calls as this for later rounds. So it gets its share too if its calls come unevenly.
const SAVED: f64 = 16.0;

/// A class may save room for this number of calls, and the room of this number of rounds. So it loses little if its calls come
/// unevenly. These numbers are those of the simulation with which fewest calls were lost to less important ones.
const SAVED_CALLS: i64 = 64;
const SAVED_ROUNDS: i64 = 3;

/// A round has at most twice its limit, and calls within shares may be this number more.
const MORE_WITHIN_SHARES: i64 = 8;

/// The shares of all callers are this part of what their priority gets, so that calls within their shares nearly always have room.
const SHARED: f64 = 0.9;

/// After important calls a class waits for at most this number of rounds in which there are none. So less important calls do
/// not get the room of important ones that come unevenly.
const PATIENCE: i64 = 16;

impl RoundShares {
    pub(crate) fn new() -> Self {
        Self {
            limit: 1,
            room: [0; CLASSES],
            taken: [0; CLASSES],
            came: vec![0.0; LEVELS * CALLERS],
            admitted: [0.0; LEVELS],
            elapsed: 0.0,
            counted_from: 0,
            round_from: 0,
            share: [None; LEVELS],
            granted: [0.0; LEVELS],
            used: vec![0.0; LEVELS * CALLERS],
        }
    }

    /// Counts from `now` on, in microseconds.
    pub(crate) fn begin(&mut self, now: u64) {
        self.came.fill(0.0);
        (self.admitted, self.share) = ([0.0; LEVELS], [None; LEVELS]);
        (self.elapsed, self.counted_from, self.round_from) = (0.0, now, now);
        (self.limit, self.room, self.taken) = (1, [0; CLASSES], [0; CLASSES]);
    }

    /// A call has come.
    pub(crate) fn count(&mut self, call: ArrivedCall) {
        self.came[place(call)] += 1.0;
    }

    /// Whether a call that has come is admitted in this round, in which `admitted` calls were admitted before.
    pub(crate) fn takes(&mut self, call: ArrivedCall, admitted: usize) -> bool {
        let level = call.level;
        let saved = match self.share[level] {
            None => f64::INFINITY,
            Some(_) => (self.granted[level] - self.used[place(call)]).min(SAVED),
        };
        let class = 2 * level + usize::from(saved >= 1.0);
        let most = 2 * self.limit + if saved >= 1.0 { MORE_WITHIN_SHARES } else { 0 };
        if self.room[class] < 1 || admitted as i64 >= most {
            return false;
        }
        self.room[class] -= 1;
        self.taken[class] += 1;
        self.admitted[level] += 1.0;
        if saved >= 1.0 && saved.is_finite() {
            self.used[place(call)] = self.granted[level] - saved + 1.0;
        }
        true
    }

    /// Begins a round in which `limit` calls are admitted.
    pub(crate) fn next_round(&mut self, limit: usize, now: u64) {
        let (limit, before) = (limit as i64, self.limit);
        self.limit = limit;
        let mut more_important = 0;
        for class in (0..CLASSES).rev() {
            self.room[class] = (self.room[class] + limit - more_important)
                .clamp(-PATIENCE * limit, SAVED_ROUNDS * limit + SAVED_CALLS);
            // With another limit as many more of them come.
            more_important += std::mem::take(&mut self.taken[class]) * limit / before;
        }
        let took = now.saturating_sub(self.round_from) as f64;
        self.round_from = now;
        for (granted, share) in self.granted.iter_mut().zip(self.share) {
            *granted += took * share.unwrap_or_default();
        }
    }

    /// Sets the shares of callers by what came and what was admitted until `now`.
    pub(crate) fn divide(&mut self, now: u64) {
        self.elapsed += now.saturating_sub(self.counted_from) as f64;
        self.counted_from = now;
        for level in 0..LEVELS {
            let came = &self.came[level * CALLERS..][..CALLERS];
            let (all, admitted) = (came.iter().sum::<f64>(), self.admitted[level]);
            self.share[level] =
                (SHARED * all > admitted).then(|| equal_share(came, SHARED * admitted) / self.elapsed.max(1.0));
        }
        self.came.iter_mut().chain(&mut self.admitted).for_each(|calls| *calls /= 2.0);
        self.elapsed /= 2.0;
    }
}

fn place(call: ArrivedCall) -> usize {
    call.level * CALLERS + call.caller as usize % CALLERS
}

/// The share with which callers that want these numbers of calls use up `room`, which is less than the sum.
fn equal_share(wanted: &[f64], mut room: f64) -> f64 {
    let mut wanted: Vec<_> = wanted.iter().copied().filter(|calls| *calls > 0.0).collect();
    wanted.sort_unstable_by(f64::total_cmp);
    let mut callers = wanted.len();
    for calls in wanted {
        let share = room / callers as f64;
        if calls > share {
            return share;
        }
        room -= calls;
        callers -= 1;
    }
    room
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROUND: u64 = 2_500;

    /// Makes rounds in which `calls` come, one after the other by turns, and divides every 40 rounds. Returns for each of them
    /// how many of its calls were admitted in the last 40 rounds.
    fn admitted(shares: &mut RoundShares, limit: usize, calls: &[(usize, u64, usize)]) -> Vec<usize> {
        let mut now = 0;
        shares.begin(now);
        let mut admitted = Vec::new();
        for _ in 0..8 {
            admitted = vec![0; calls.len()];
            for _ in 0..40 {
                shares.next_round(limit, now);
                let mut in_round = 0;
                let most = calls.iter().map(|(.., calls)| *calls).max().unwrap_or_default();
                for nth in 0..most {
                    for (at, &(level, caller, calls)) in calls.iter().enumerate() {
                        if nth < calls {
                            let call = ArrivedCall { level, caller };
                            shares.count(call);
                            let takes = usize::from(shares.takes(call, in_round));
                            (admitted[at], in_round) = (admitted[at] + takes, in_round + takes);
                        }
                    }
                }
                now += ROUND;
            }
            shares.divide(now);
        }
        admitted
    }

    #[test]
    fn less_important_calls_are_refused_first() {
        let calls = [(3, 1, 2), (2, 2, 2), (1, 3, 4), (0, 4, 10)];
        let mut shares = RoundShares::new();
        let mut check = |limit, expected: [usize; 4]| {
            let admitted = admitted(&mut shares, limit, &calls);
            assert!(
                admitted.iter().zip(expected).all(|(calls, expected)| calls.abs_diff(expected) <= 2),
                "{admitted:?}"
            );
        };
        check(18, [80, 80, 160, 400]);
        check(6, [80, 80, 80, 0]);
        check(3, [80, 40, 0, 0]);
        check(1, [40, 0, 0, 0]);
    }

    #[test]
    fn a_caller_that_wants_more_takes_nothing_from_those_that_want_less() {
        let calls = [(2, 1, 1), (2, 2, 2), (2, 3, 100), (2, 4, 50)];
        let admitted = admitted(&mut RoundShares::new(), 11, &calls);
        assert_eq!((admitted[0], admitted[1]), (40, 80));
        assert!((430..=440).contains(&admitted.iter().sum::<usize>()), "{admitted:?}");
        assert!(admitted[2].abs_diff(admitted[3]) <= 20, "{admitted:?}");
    }

    #[test]
    fn callers_get_equal_shares_of_less_than_a_call_in_each_round() {
        let calls: Vec<_> = (0..10).map(|caller| (2, caller, 3 + caller as usize)).collect();
        let admitted = admitted(&mut RoundShares::new(), 5, &calls);
        assert!(admitted.iter().all(|calls| (16..=24).contains(calls)), "{admitted:?}");
    }

    #[test]
    fn important_calls_that_come_unevenly_are_admitted_and_less_important_ones_pay_for_it() {
        let mut shares = RoundShares::new();
        let calls = |important| [(0, 1, 20), (3, 2, important)];
        // Ten calls of a round are important, and then none are for four rounds.
        shares.begin(0);
        let (mut important, mut others) = (0, 0);
        for round in 0..200 {
            shares.next_round(5, 0);
            let mut in_round = 0;
            for (level, caller, count) in calls(if round % 5 == 0 { 10 } else { 0 }) {
                for _ in 0..count {
                    if shares.takes(ArrivedCall { level, caller }, in_round) {
                        in_round += 1;
                        *(if level == 3 { &mut important } else { &mut others }) += 1;
                    }
                }
            }
        }
        assert!(important > 390 && others > 550 && important + others <= 1020, "{important} and {others}");
    }

    #[test]
    fn a_caller_that_was_silent_saves_some_calls() {
        let mut shares = RoundShares::new();
        admitted(&mut shares, 4, &[(2, 1, 4), (2, 2, 4)]);
        let call = ArrivedCall { level: 2, caller: 1 };
        shares.next_round(1000, 1_000_000_000);
        let (beyond, within) = (2 * call.level, 2 * call.level + 1);
        shares.room[beyond] = 0;
        let taken = (0..1000).filter(|_| shares.takes(call, 0)).count();
        assert_eq!((taken, shares.taken[within]), (SAVED as usize, SAVED as i64));
    }

    #[test]
    fn a_round_has_at_most_twice_its_limit_and_a_few_calls() {
        let mut shares = RoundShares::new();
        shares.begin(0);
        for _ in 0..100 {
            shares.next_round(20, 0);
        }
        let mut admitted = 0;
        while shares.takes(ArrivedCall { level: 3, caller: 1 }, admitted) {
            admitted += 1;
        }
        assert_eq!(admitted, 48);
    }

    proptest! {
        /// Whatever callers want, they get all, or equal shares that use up the room.
        #[test]
        fn shares_use_up_the_room(wanted in proptest::collection::vec(0..1000_u32, 1..50), part in 0.01..0.99) {
            let wanted: Vec<_> = wanted.into_iter().map(f64::from).collect();
            let room = wanted.iter().sum::<f64>() * part;
            prop_assume!(room > 0.0);
            let share = equal_share(&wanted, room);
            let used: f64 = wanted.iter().map(|calls| calls.min(share)).sum();
            prop_assert!((used - room).abs() < 1e-6 * room.max(1.0), "{used} of {room}");
        }
    }
}
