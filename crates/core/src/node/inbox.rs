//! What peers sent for the replica, in order, while a transaction of the user is open. It is nearly always empty: without an open
//! transaction everything is applied as it comes.
//!
//! Staging goes through here too, since what is written inside the user's transaction would be undone with it.
//!
//! Invariant: bounded. Whoever sends more than fits loses its link, and asks again on the next one.

use std::collections::VecDeque;

use rtc_battery_proto::{Operation, PeerId, VersionVector};

use super::io::LinkId;

/// Most bytes of messages that wait, one message larger than this excepted.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// Something to be done to the replica.
#[derive(Debug)]
pub(super) enum Work {
    /// A part of a series; kept, not applied.
    Stage(Vec<Operation>),
    /// A whole delta.
    Apply(Vec<Operation>, VersionVector),
    /// The end of a series: applied with the parts before it.
    ApplyStaged(Vec<Operation>, VersionVector),
    /// Operations of a peer that speaks only the specification.
    Adopt(Vec<Operation>),
    /// A whole SQLite file of such a peer.
    Import(Vec<u8>),
    /// The rest of a series will not come.
    DropStaged,
}

#[derive(Debug)]
pub(super) struct Item {
    pub(super) link: LinkId,
    pub(super) peer: PeerId,
    pub(super) work: Work,
    size_bytes: usize,
}

#[derive(Debug, Default)]
pub(super) struct Inbox {
    items: VecDeque<Item>,
    size_bytes: usize,
}

impl Inbox {
    /// Takes work that came as a message of `size_bytes`. `false` if there is no room for it.
    #[must_use]
    pub(super) fn push(&mut self, link: LinkId, peer: &PeerId, work: Work, size_bytes: usize) -> bool {
        if self.size_bytes > 0 && self.size_bytes + size_bytes > MAX_WAITING_BYTES {
            return false;
        }
        self.size_bytes += size_bytes;
        self.items.push_back(Item { link, peer: peer.clone(), work, size_bytes });
        true
    }

    /// The link is gone: an unfinished series of it is of no use. Whole deltas stay.
    pub(super) fn drop_staged(&mut self, link: LinkId, peer: &PeerId) {
        let last_end =
            self.items.iter().rposition(|item| item.link == link && matches!(item.work, Work::ApplyStaged(..)));
        let mut at = 0;
        self.items.retain(|item| {
            let unfinished = last_end.is_none_or(|end| at > end) && matches!(item.work, Work::Stage(_));
            at += 1;
            item.link != link || !unfinished
        });
        self.items.push_back(Item { link, peer: peer.clone(), work: Work::DropStaged, size_bytes: 0 });
        self.size_bytes = self.items.iter().map(|item| item.size_bytes).sum();
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.size_bytes -= item.size_bytes;
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> PeerId {
        PeerId::new("p").unwrap()
    }

    fn works(inbox: &mut Inbox) -> Vec<(u32, &'static str)> {
        let name = |work: &Work| match work {
            Work::Stage(_) => "stage",
            Work::Apply(..) => "apply",
            Work::ApplyStaged(..) => "end",
            Work::Adopt(_) => "adopt",
            Work::Import(_) => "import",
            Work::DropStaged => "drop",
        };
        std::iter::from_fn(|| inbox.pop()).map(|item| (item.link.0, name(&item.work))).collect()
    }

    #[test]
    fn it_is_bounded_but_takes_one_of_any_size() {
        let mut inbox = Inbox::default();
        assert!(inbox.push(LinkId(1), &peer(), Work::Stage(vec![]), 2 * MAX_WAITING_BYTES));
        assert!(!inbox.push(LinkId(1), &peer(), Work::Stage(vec![]), 1));
        inbox.pop();
        for _ in 0..32 {
            assert!(inbox.push(LinkId(1), &peer(), Work::Stage(vec![]), 1024 * 1024));
        }
        assert!(!inbox.push(LinkId(1), &peer(), Work::Stage(vec![]), 1));
    }

    #[test]
    fn a_lost_link_takes_only_its_unfinished_series_with_it() {
        let mut inbox = Inbox::default();
        let end = || Work::ApplyStaged(vec![], VersionVector::default());
        let pushed = [
            (1, Work::Stage(vec![])),
            (2, Work::Stage(vec![])),
            (1, end()),
            (1, Work::Apply(vec![], VersionVector::default())),
            (1, Work::Stage(vec![])),
            (2, end()),
        ];
        for (link, work) in pushed {
            assert!(inbox.push(LinkId(link), &peer(), work, 1));
        }
        inbox.drop_staged(LinkId(1), &peer());
        assert_eq!(inbox.size_bytes, 5);
        let left = works(&mut inbox);
        assert_eq!(left, [(1, "stage"), (2, "stage"), (1, "end"), (1, "apply"), (2, "end"), (1, "drop")]);
    }
}
