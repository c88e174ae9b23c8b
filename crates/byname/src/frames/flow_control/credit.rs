//! How many bytes of a stream may still be sent: [`Credit`].

/// A number of bytes. The last item may exceed it: what is missing then counts against the grants to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Credit(i64);

impl Credit {
    pub(super) fn new(bytes: u32) -> Self {
        Self(bytes.into())
    }

    /// Whether another item may be begun.
    pub(super) fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// The bytes that are left; 0 where more was spent than granted.
    pub(super) fn left(self) -> usize {
        usize::try_from(self.0.max(0)).unwrap_or(usize::MAX)
    }

    pub(super) fn grant(&mut self, bytes: u32) {
        self.0 = self.0.saturating_add(bytes.into());
    }

    pub(super) fn spend(&mut self, bytes: usize) {
        self.0 = self.0.saturating_sub(signed(bytes));
    }

    /// How much can be granted so that what is left and the `unread` bytes together are `window`; 0 where they are more.
    pub(super) fn missing(self, window: u32, unread: usize) -> u32 {
        let missing = i64::from(window).saturating_sub(self.0).saturating_sub(signed(unread));
        u32::try_from(missing.max(0)).unwrap_or(u32::MAX)
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spending_beyond_the_credit_is_a_debt() {
        let mut credit = Credit::new(20);
        credit.spend(50);
        assert!(!credit.is_positive() && credit.left() == 0);
        credit.grant(30);
        assert!(!credit.is_positive(), "30 were owed");
        credit.grant(7);
        assert_eq!((credit.is_positive(), credit.left()), (true, 7));
    }

    /// These are beyond what fits into 32 bits with a sign.
    #[test]
    fn numbers_beyond_2_gib_are_counted_on_every_target() {
        let mut credit = Credit::new(u32::MAX);
        credit.grant(u32::MAX);
        assert!(credit.is_positive());
        assert_eq!(credit.left(), usize::try_from(2 * u64::from(u32::MAX)).unwrap_or(usize::MAX));
        credit.spend(u32::MAX as usize);
        assert_eq!(credit, Credit::new(u32::MAX));
    }

    #[test]
    fn it_stays_at_its_bounds() {
        let mut credit = Credit(i64::MAX);
        credit.grant(u32::MAX);
        assert_eq!(credit, Credit(i64::MAX));
        let mut credit = Credit(i64::MIN + 1);
        credit.spend(9);
        assert_eq!((credit, credit.missing(1, 0)), (Credit(i64::MIN), u32::MAX));
    }

    #[test]
    fn missing_pieces_fill_the_window() {
        assert_eq!(Credit::new(10).missing(100, 30), 60);
        assert_eq!(Credit(-10).missing(100, 30), 80);
        assert_eq!(Credit::new(90).missing(100, 30), 0);
    }
}
