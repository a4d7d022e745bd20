//! Whether the other end of a channel still lives. Browsers need up to half a minute to notice a killed peer, and never close its channel;
//! so who is silent for 15 s is gone (counted anew where the connection says that its path is lost, or back), and nobody is silent for more than 5 s: a ping is due when nothing was heard, and also when nothing
//! was said. The second is for whoever receives bulk over a slow link: the sender's own pings, and the answers to them, would wait behind
//! what its channel holds. Whatever comes counts as a sign of life.

/// Silence on either side after which a ping is due, in milliseconds.
const PING_MS: u64 = 5_000;

/// Silence after which the peer is gone, in milliseconds.
const GONE_MS: u64 = 15_000;

#[derive(Debug)]
pub(super) struct Keepalive {
    heard_at_ms: u64,
    spoke_at_ms: u64,
    /// Not earlier than this the next ping.
    ping_from_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    Fine,
    PingDue,
    Gone,
}

impl Keepalive {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { heard_at_ms: now_ms, spoke_at_ms: now_ms, ping_from_ms: now_ms }
    }

    pub(super) fn heard(&mut self, now_ms: u64) {
        self.heard_at_ms = now_ms;
    }

    pub(super) fn spoke(&mut self, now_ms: u64) {
        self.spoke_at_ms = now_ms;
    }

    /// After a sleep, or while the path was gone, the silence proves nothing: asks at once, and gives one fresh interval to answer.
    pub(super) fn probe(&mut self, now_ms: u64) {
        *self = Self { heard_at_ms: now_ms, spoke_at_ms: now_ms.saturating_sub(PING_MS), ping_from_ms: now_ms };
    }

    pub(super) fn check(&mut self, now_ms: u64) -> Pulse {
        if now_ms >= self.heard_at_ms + GONE_MS {
            return Pulse::Gone;
        }
        if now_ms < self.ping_at_ms() {
            return Pulse::Fine;
        }
        self.ping_from_ms = now_ms + PING_MS;
        Pulse::PingDue
    }

    pub(super) fn wake_at_ms(&self) -> u64 {
        self.ping_at_ms().min(self.heard_at_ms + GONE_MS)
    }

    fn ping_at_ms(&self) -> u64 {
        (self.heard_at_ms.min(self.spoke_at_ms) + PING_MS).max(self.ping_from_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_silent_are_asked_and_then_gone() {
        let mut keepalive = Keepalive::new(0);
        let pulses: Vec<_> = (1..=15).map(|s| keepalive.check(s * 1000)).collect();
        let at =
            |pulse| pulses.iter().enumerate().filter(|(_, p)| **p == pulse).map(|(i, _)| i + 1).collect::<Vec<_>>();
        assert_eq!(at(Pulse::PingDue), [5, 10]);
        assert_eq!(at(Pulse::Gone), [15]);
    }

    #[test]
    fn who_speaks_and_is_spoken_to_is_not_asked() {
        let mut keepalive = Keepalive::new(0);
        for s in 1..100 {
            keepalive.heard(s * 1000);
            keepalive.spoke(s * 1000);
            assert_eq!(keepalive.check(s * 1000 + 999), Pulse::Fine);
        }
    }

    #[test]
    fn who_only_listens_says_that_it_is_there() {
        let mut keepalive = Keepalive::new(0);
        let mut pings = Vec::new();
        for s in 1..=20 {
            keepalive.heard(s * 1000);
            if keepalive.check(s * 1000) == Pulse::PingDue {
                keepalive.spoke(s * 1000);
                pings.push(s);
            }
        }
        assert_eq!(pings, [5, 10, 15, 20]);
    }

    #[test]
    fn after_a_sleep_there_is_a_fresh_interval() {
        let mut keepalive = Keepalive::new(0);
        keepalive.probe(3_600_000);
        assert_eq!(keepalive.check(3_600_000), Pulse::PingDue);
        assert_eq!(keepalive.check(3_614_999), Pulse::PingDue);
        assert_eq!(keepalive.check(3_615_000), Pulse::Gone);
    }
}
