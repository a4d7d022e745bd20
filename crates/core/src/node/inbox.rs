//! What peers sent for the replica and is not applied: in order, what waits while a transaction of the user is open, and the count of what is
//! staged. It is nearly always empty: without an open transaction everything is applied as it comes, but for series, which wait for their end.
//!
//! Staging goes through here too, since what is written inside the user's transaction would be undone with it.
//!
//! Invariant: bounded, for all links together. Where something does not fit, whoever holds most loses its link, and asks again on the
//! next one.

use std::collections::{BTreeMap, VecDeque};

use rtc_battery_proto::packed::Packed;
use rtc_battery_proto::{Floor, Operation, PeerId, VersionVector};

use super::allowance::{work_of, work_of_packed};
use super::digests::Digests;
use super::io::LinkId;

/// Most bytes of messages that wait, one message larger than this excepted.
const MAX_WAITING_BYTES: usize = 32 * 1024 * 1024;

/// Most bytes of messages that wait or are staged, one message larger than this excepted. Staged operations lie in SQLite's memory.
const MAX_HELD_BYTES: usize = 256 * 1024 * 1024;

/// Operations of a series, as they came.
#[derive(Debug)]
pub(super) enum Part {
    /// In JSON.
    Loose(Vec<Operation>),
    /// Packed; they stay so until the end of the series.
    Packed(Packed),
}

impl Part {
    /// How much work it is, as a number of operations.
    pub(super) fn work(&self) -> u64 {
        match self {
            Self::Loose(operations) => work_of(operations),
            Self::Packed(packed) => work_of_packed(packed.size_bytes()),
        }
    }
}

/// Something to be done to the replica.
#[derive(Debug)]
pub(super) enum Work {
    /// A part of a series; kept, not applied.
    Stage(Part),
    /// A whole delta.
    Apply(Vec<Operation>, VersionVector),
    /// The end of a series: applied with the parts before it.
    ApplyStaged(Part, VersionVector),
    /// All that a peer of this floor has which diverged from us, the end of it: merged with the parts before it.
    Reconcile(Part, VersionVector, Floor),
    /// All that a peer keeps that has forgotten what we missed, and its floor, the end of it: taken with the parts before it.
    CatchUp(Part, VersionVector, Floor),
    /// Operations of a peer that speaks only the specification.
    Adopt(Vec<Operation>),
    /// A whole SQLite file of such a peer.
    Import(Vec<u8>),
    /// What the peer said that it holds.
    Compare(Digests),
    /// The rest of a series will not come.
    DropStaged,
}

impl Work {
    /// Whether it is the end of what was staged.
    fn takes_staged(&self) -> bool {
        matches!(self, Self::ApplyStaged(..) | Self::Reconcile(..) | Self::CatchUp(..))
    }
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
    /// Bytes of messages that are staged.
    staged: BTreeMap<LinkId, (PeerId, usize)>,
}

impl Inbox {
    /// Who must be [forgotten](Self::forget) before a message of `size_bytes` fits; nobody where it does. The one that is `asked` was to send much: it is
    /// not the first to go while there is another without whom it fits.
    pub(super) fn in_the_way(&self, link: LinkId, size_bytes: usize, asked: Option<LinkId>) -> Option<LinkId> {
        let held_bytes = self.size_bytes + self.staged.values().map(|(_, staged_bytes)| staged_bytes).sum::<usize>();
        let waits = self.size_bytes == 0 || self.size_bytes + size_bytes <= MAX_WAITING_BYTES;
        let fits = held_bytes == 0 || held_bytes + size_bytes <= MAX_HELD_BYTES;
        if waits && fits {
            return None;
        }
        let mut held = BTreeMap::from([(link, size_bytes)]);
        let waiting = self.items.iter().map(|item| (item.link, item.size_bytes));
        // What is staged is not in the way of what has to wait.
        let staged = self.staged.iter().filter(|_| waits).map(|(link, (_, staged_bytes))| (*link, *staged_bytes));
        waiting.chain(staged).for_each(|(link, bytes)| *held.entry(link).or_default() += bytes);
        let (all_bytes, most_bytes) =
            (held.values().sum::<usize>(), if waits { MAX_HELD_BYTES } else { MAX_WAITING_BYTES });
        let holds_most =
            |but: Option<LinkId>| held.iter().filter(|(link, _)| Some(**link) != but).max_by_key(|(_, bytes)| **bytes);
        let enough = holds_most(asked).filter(|(_, bytes)| all_bytes - **bytes <= most_bytes);
        enough.or_else(|| holds_most(None)).map(|(link, _)| *link)
    }

    /// How many bytes of a link's messages wait.
    pub(super) fn waiting_bytes(&self, link: LinkId) -> usize {
        self.items.iter().filter(|item| item.link == link).map(|item| item.size_bytes).sum()
    }

    /// Takes work that came as a message of `size_bytes`.
    pub(super) fn push(&mut self, link: LinkId, peer: &PeerId, work: Work, size_bytes: usize) {
        self.size_bytes += size_bytes;
        self.items.push_back(Item { link, peer: peer.clone(), work, size_bytes });
    }

    /// Drops all that a link has sent, whole deltas too: they are asked for again.
    pub(super) fn forget(&mut self, link: LinkId) {
        self.items.retain(|item| item.link != link);
        self.count();
        if let Some((peer, _)) = self.staged.remove(&link) {
            self.push(link, &peer, Work::DropStaged, 0);
        }
    }

    /// The link is gone: an unfinished series of it is of no use. Whole deltas stay.
    pub(super) fn drop_staged(&mut self, link: LinkId, peer: &PeerId) {
        let last_end = self.items.iter().rposition(|item| item.link == link && item.work.takes_staged());
        let mut at = 0;
        self.items.retain(|item| {
            let unfinished = last_end.is_none_or(|end| at > end) && matches!(item.work, Work::Stage(_));
            at += 1;
            item.link != link || !unfinished
        });
        self.count();
        self.push(link, peer, Work::DropStaged, 0);
    }

    /// The next thing to be done. What is to be staged goes on being counted.
    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front()?;
        self.size_bytes -= item.size_bytes;
        match &item.work {
            Work::Stage(_) => {
                let staged = self.staged.entry(item.link).or_insert_with(|| (item.peer.clone(), 0));
                staged.1 += item.size_bytes;
            }
            work if work.takes_staged() || matches!(work, Work::DropStaged) => {
                self.staged.remove(&item.link);
            }
            _ => {}
        }
        Some(item)
    }

    fn count(&mut self) {
        self.size_bytes = self.items.iter().map(|item| item.size_bytes).sum();
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
            Work::Reconcile(..) => "reconcile",
            Work::CatchUp(..) => "catch-up",
            Work::Compare(_) => "compare",
            Work::DropStaged => "drop",
        };
        std::iter::from_fn(|| inbox.pop()).map(|item| (item.link.0, name(&item.work))).collect()
    }

    #[test]
    fn it_is_bounded_but_takes_one_of_any_size() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.in_the_way(LinkId(1), 2 * MAX_WAITING_BYTES, None), None);
        inbox.push(LinkId(1), &peer(), Work::Adopt(vec![]), 2 * MAX_WAITING_BYTES);
        assert_eq!(inbox.in_the_way(LinkId(1), 1, None), Some(LinkId(1)));
        inbox.pop();
        for _ in 0..32 {
            assert_eq!(inbox.in_the_way(LinkId(1), 1024 * 1024, None), None);
            inbox.push(LinkId(1), &peer(), Work::Adopt(vec![]), 1024 * 1024);
        }
        assert_eq!(inbox.in_the_way(LinkId(2), 1, None), Some(LinkId(1)));
        inbox.forget(LinkId(1));
        assert_eq!((inbox.in_the_way(LinkId(2), 1, None), inbox.size_bytes), (None, 0));
        assert!(inbox.pop().is_none());
    }

    #[test]
    fn what_is_staged_counts_until_its_end_and_the_largest_holder_goes() {
        let (mut inbox, half) = (Inbox::default(), MAX_HELD_BYTES / 2);
        for link in [1, 2] {
            inbox.push(LinkId(link), &peer(), Work::Stage(Part::Loose(vec![])), half - 100 * (link as usize));
            inbox.pop();
        }
        assert_eq!((inbox.in_the_way(LinkId(2), 300, None), inbox.size_bytes), (None, 0));
        assert_eq!(inbox.in_the_way(LinkId(2), 301, None), Some(LinkId(2)));
        assert_eq!(inbox.in_the_way(LinkId(3), 301, None), Some(LinkId(1)));
        inbox.push(LinkId(2), &peer(), Work::ApplyStaged(Part::Loose(vec![]), VersionVector::default()), 9);
        inbox.pop();
        assert_eq!(inbox.in_the_way(LinkId(3), 301, None), None);
        inbox.forget(LinkId(1));
        assert_eq!(works(&mut inbox), [(1, "drop")]);
        assert_eq!(inbox.in_the_way(LinkId(3), MAX_HELD_BYTES, None), None);
    }

    #[test]
    fn who_was_asked_for_much_is_not_the_first_to_go() {
        let mut inbox = Inbox::default();
        inbox.push(LinkId(1), &peer(), Work::Stage(Part::Loose(vec![])), MAX_HELD_BYTES - 100);
        inbox.pop();
        let asked = Some(LinkId(1));
        assert_eq!(inbox.in_the_way(LinkId(2), 200, None), Some(LinkId(1)));
        assert_eq!(inbox.in_the_way(LinkId(2), 200, asked), Some(LinkId(2)));
        // What others hold is no help to it.
        assert_eq!(inbox.in_the_way(LinkId(1), 200, asked), Some(LinkId(1)));
    }

    #[test]
    fn a_lost_link_takes_only_its_unfinished_series_with_it() {
        let mut inbox = Inbox::default();
        let end = || Work::ApplyStaged(Part::Loose(vec![]), VersionVector::default());
        let pushed = [
            (1, Work::Stage(Part::Loose(vec![]))),
            (2, Work::Stage(Part::Loose(vec![]))),
            (1, end()),
            (1, Work::Apply(vec![], VersionVector::default())),
            (1, Work::Stage(Part::Loose(vec![]))),
            (2, end()),
        ];
        for (link, work) in pushed {
            inbox.push(LinkId(link), &peer(), work, 1);
        }
        inbox.drop_staged(LinkId(1), &peer());
        assert_eq!(inbox.size_bytes, 5);
        let left = works(&mut inbox);
        assert_eq!(left, [(1, "stage"), (2, "stage"), (1, "end"), (1, "apply"), (2, "end"), (1, "drop")]);
    }
}
