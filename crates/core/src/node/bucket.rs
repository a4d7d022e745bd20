//! A token bucket: so many at once, and one more in each interval. Pure.

#[derive(Debug)]
pub(super) struct Bucket {
    /// How many can be taken at once.
    burst: u64,
    /// How long one takes to come back, in milliseconds.
    every_ms: u64,
    full_at_ms: u64,
}

impl Bucket {
    pub(super) const fn new(burst: u64, every_ms: u64) -> Self {
        Self { burst, every_ms, full_at_ms: 0 }
    }

    /// From when on there is one to take.
    pub(super) fn ready_at_ms(&self) -> u64 {
        self.full_at_ms.saturating_sub((self.burst - 1) * self.every_ms)
    }

    /// Takes one, if there is one.
    #[must_use]
    pub(super) fn take(&mut self, now_ms: u64) -> bool {
        let ready = self.ready_at_ms() <= now_ms;
        if ready {
            self.full_at_ms = self.full_at_ms.max(now_ms) + self.every_ms;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once_and_then_one_in_each_interval() {
        let mut bucket = Bucket::new(10, 1_000);
        let taken =
            |bucket: &mut Bucket, now_ms| std::iter::repeat_with(|| bucket.take(now_ms)).take_while(|t| *t).count();
        assert_eq!(taken(&mut bucket, 500), 10);
        assert_eq!(bucket.ready_at_ms(), 1_500);
        assert_eq!((taken(&mut bucket, 1_499), taken(&mut bucket, 1_500), taken(&mut bucket, 4_600)), (0, 1, 3));
        assert_eq!(taken(&mut bucket, 1_000_000), 10);
    }
}
