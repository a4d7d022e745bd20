//! When the ICE of one link is restarted: the path was lost, or the credentials of its relay end; pure.
//!
//! A restart may not follow another at once. Nor may both sides begin one in the same moment: whoever made the first offer mends a lost path, and the other side's
//! new credentials wait a little longer than its own.

/// So long `disconnected`, ICE is restarted, in milliseconds.
pub(super) const RESTART_AFTER_MS: u64 = 3_000;

/// Where ICE cannot be restarted for new credentials right now, it is tried again after so long, in milliseconds.
const RENEW_AGAIN_MS: u64 = 1_000;

/// The answer to a restart's offer is awaited so long before there is another, in milliseconds: it would be taken for the answer to that one, with which neither
/// side would know the other's generation of ICE.
const ANSWER_MS: u64 = 3_000;

/// ICE is restarted no earlier after the last agreement with the peer, in milliseconds: Firefox begins to try the candidates of a new generation some 3 s late,
/// and ends a connection that is restarted meanwhile (measured: after 3 s it does, after 10 s not in 100 restarts of each pair of browsers).
const SETTLE_MS: u64 = 10_000;

/// Where both sides get new credentials at once, whoever did not make the first offer restarts so much later, in milliseconds: offers would cross, and
/// Firefox ends a connection of which one is rolled back.
const YIELD_MS: u64 = 2_000;

#[derive(Debug)]
pub(super) struct Restart {
    /// Whether this side made the first offer.
    offered_first: bool,
    /// Whether one was tried since the path was lost.
    tried: bool,
    /// When the last one began, unless its offer was lost.
    begun_at_ms: Option<u64>,
    /// When the peer's last offer or answer was taken.
    agreed_at_ms: Option<u64>,
    /// When one is wanted because the credentials that the connection uses end soon.
    renew_at_ms: Option<u64>,
    /// Whether one began for that, so that the offer is to be made again if it was lost.
    renewed: bool,
}

impl Restart {
    pub(super) fn new(offered_first: bool) -> Self {
        Self { offered_first, tried: false, begun_at_ms: None, agreed_at_ms: None, renew_at_ms: None, renewed: false }
    }

    /// The path is there: should it be lost again, that is to be mended too.
    pub(super) fn note_path(&mut self) {
        self.tried = false;
    }

    /// An offer or an answer of the peer's was taken.
    pub(super) fn note_agreement(&mut self, now_ms: u64) {
        self.agreed_at_ms = Some(now_ms);
    }

    /// One was due. Where it could not begin, since the peer's own is being answered, that may have been with the old credentials.
    pub(super) fn note(&mut self, begun: bool, now_ms: u64) {
        self.tried = true;
        self.begun_at_ms = begun.then_some(now_ms).or(self.begun_at_ms);
        if self.renew_at_ms.is_some() {
            self.renewed |= begun;
            self.renew_at_ms = (!begun).then_some(now_ms + RENEW_AGAIN_MS);
        }
    }

    /// The offer of the last one may have been lost: it is tried again.
    pub(super) fn repeat(&mut self, now_ms: u64) {
        self.tried = false;
        self.begun_at_ms = None;
        self.renew_at_ms = self.renewed.then_some(now_ms);
    }

    /// The connection was given ICE servers with new credentials: while it goes through a relay, or may, it is to use them.
    pub(super) fn renew(&mut self, now_ms: u64) {
        self.renew_at_ms.get_or_insert(now_ms);
    }

    /// When one is due. `lost_at_ms`: since when nothing gets through; `relayed`: whether the connection goes through a relay, where that is known;
    /// `offer_is_pending`: ours is not answered yet.
    pub(super) fn due_at_ms(
        &self,
        lost_at_ms: Option<u64>,
        relayed: Option<bool>,
        offer_is_pending: bool,
    ) -> Option<u64> {
        let wanted = self.offered_first && !self.tried;
        let mends_at_ms = lost_at_ms.filter(|_| wanted).map(|at| at + RESTART_AFTER_MS);
        let renews_at_ms = self.renew_at_ms.filter(|_| relayed != Some(false));
        let settled_at_ms = self.agreed_at_ms.map_or(0, |at| at + SETTLE_MS);
        let yields_ms = if self.offered_first { 0 } else { YIELD_MS };
        let at_ms = mends_at_ms.into_iter().chain(renews_at_ms).min()?.max(settled_at_ms) + yields_ms;
        let awaited_until_ms = self.begun_at_ms.filter(|_| offer_is_pending).map(|at| at + ANSWER_MS);
        Some(awaited_until_ms.map_or(at_ms, |until| at_ms.max(until)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_waits_for_the_answer_to_the_one_before() {
        let mut restart = Restart::new(true);
        restart.renew(0);
        assert_eq!(restart.due_at_ms(None, None, false), Some(0));
        restart.note(true, 0);
        restart.renew(1_000);
        assert_eq!(restart.due_at_ms(None, None, true), Some(3_000));
        assert_eq!(restart.due_at_ms(None, None, false), Some(1_000), "answered");
        restart.note(true, 1_500);
        // Nobody is waited for for ever, and not at all when the offer may have been lost.
        restart.renew(2_000);
        assert_eq!(restart.due_at_ms(None, None, true), Some(4_500));
        restart.repeat(2_500);
        assert_eq!(restart.due_at_ms(None, None, true), Some(2_500));
    }

    #[test]
    fn one_waits_until_the_one_before_has_settled() {
        for (offered_first, yields_ms) in [(true, 0), (false, 2_000)] {
            let mut restart = Restart::new(offered_first);
            restart.renew(1_000);
            assert_eq!(restart.due_at_ms(None, None, false), Some(1_000 + yields_ms));
            // The peer's own came first.
            restart.note_agreement(2_000);
            assert_eq!(restart.due_at_ms(None, None, false), Some(12_000 + yields_ms));
        }
    }

    #[test]
    fn a_lost_path_is_mended_once_by_who_offered_first() {
        let mut restart = Restart::new(true);
        assert_eq!(restart.due_at_ms(Some(1_000), None, false), Some(4_000));
        restart.note(true, 4_000);
        assert_eq!(restart.due_at_ms(Some(1_000), None, false), None);
        restart.note_path();
        assert_eq!(restart.due_at_ms(Some(9_000), None, false), Some(12_000));
        assert_eq!(Restart::new(false).due_at_ms(Some(1_000), None, false), None);
    }

    #[test]
    fn new_credentials_are_taken_up_unless_the_way_is_direct() {
        let mut restart = Restart::new(true);
        restart.renew(1_000);
        assert_eq!(restart.due_at_ms(None, Some(true), false), Some(1_000));
        assert_eq!(restart.due_at_ms(None, Some(false), false), None);
        // The peer's own restart was being answered.
        restart.note(false, 2_000);
        assert_eq!(restart.due_at_ms(None, Some(true), false), Some(3_000));
    }
}
