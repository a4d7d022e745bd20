//! A token bucket for amounts: so much at once, and so much more in each second. Pure.

#[derive(Debug)]
pub(super) struct Meter {
    /// How much can be spent at once.
    burst: u64,
    /// How much comes back in a second.
    per_second: u64,
    spent: u64,
    at_ms: u64,
}

impl Meter {
    /// A full one.
    pub(super) const fn new(burst: u64, per_second: u64) -> Self {
        Self { burst, per_second, spent: 0, at_ms: 0 }
    }

    /// Spends so much; `false` where that is more than there is, and then nothing is spent.
    #[must_use]
    pub(super) fn spend(&mut self, amount: u64, now_ms: u64) -> bool {
        let back = now_ms.saturating_sub(self.at_ms).saturating_mul(self.per_second) / 1_000;
        if back > 0 {
            self.spent = self.spent.saturating_sub(back);
            self.at_ms = now_ms;
        }
        let spent = self.spent.saturating_add(amount);
        let fits = spent <= self.burst;
        if fits {
            self.spent = spent;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_much_at_once_and_so_much_in_a_second() {
        let mut meter = Meter::new(1_000, 10);
        assert!(meter.spend(990, 5) && meter.spend(10, 5) && !meter.spend(1, 5));
        // However often it is asked in between.
        let fitting = (0..1_000).filter(|ms| meter.spend(1, 5 + ms)).count();
        assert!((9..=10).contains(&fitting), "{fitting} in a second");
        assert!(!meter.spend(u64::MAX, 9_000) && meter.spend(1_000, 1_000_000) && !meter.spend(1, 1_000_000));
    }
}
