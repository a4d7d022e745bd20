//! What IndexedDB is to a page store, with a mind to fail: transactions of requests, one after the other in the order they were issued, each
//! all or nothing. Every request is an operation that the plan of faults may strike.

use std::collections::{BTreeMap, VecDeque};
use std::mem;

use rtc_battery_vfs::Page;

/// Epoch and generation of a writer's transaction: a key that is added once.
pub(crate) type Fence = (u64, u64);

/// One request of a transaction.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    /// Fails, and with it the transaction, where the key is there.
    Add(Fence),
    Put(u32, Page),
    /// Deletes the pages beyond this one.
    Cut(u32),
    /// The end of the transaction: what came before is on the disk or is not.
    Complete,
}

/// What survives a crash.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stored {
    pub(crate) pages: BTreeMap<u32, Page>,
    fences: BTreeMap<Fence, ()>,
}

impl Stored {
    pub(crate) fn newest_fence(&self) -> Fence {
        self.fences.keys().next_back().copied().unwrap_or_default()
    }

    /// Does what a request asks for; false if it cannot be done.
    fn perform(&mut self, request: &Request) -> bool {
        match request {
            Request::Add(fence) => return self.fences.insert(*fence, ()).is_none(),
            Request::Put(number, page) => {
                self.pages.insert(*number, Page::clone(page));
            }
            Request::Cut(page_count) => {
                self.pages.split_off(&(page_count + 1));
            }
            Request::Complete => {}
        }
        true
    }
}

/// How an operation fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The transaction is undone and its writer hears of it: a full disk.
    Abort,
    /// The browser takes the connection away, and every transaction on it; the one at work may be complete or undone, and nobody says which.
    Lose { complete: bool },
}

/// Which operations fail.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    /// Counted from 1.
    pub(crate) at: u64,
    pub(crate) kind: Kind,
    /// Whether all later ones fail too, until the disk is mended.
    pub(crate) lasts: bool,
}

/// What the disk says of the transaction at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    Complete,
    Aborted,
    Lost,
}

/// A transaction that is not over, and what it would leave.
#[derive(Debug)]
struct Transaction {
    requests: VecDeque<Request>,
    draft: Option<Stored>,
}

/// The disk and its queue of transactions.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    stored: Stored,
    queue: VecDeque<Transaction>,
    operations: u64,
    fault: Option<Fault>,
}

impl Disk {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self { fault, ..Self::default() }
    }

    /// What a crash at this moment would leave.
    pub(crate) fn stored(&self) -> &Stored {
        &self.stored
    }

    pub(crate) fn operations(&self) -> u64 {
        self.operations
    }

    pub(crate) fn mend(&mut self) {
        self.fault = None;
    }

    /// Puts a transaction at the end of the queue.
    pub(crate) fn issue(&mut self, requests: impl IntoIterator<Item = Request>) {
        let requests = requests.into_iter().chain([Request::Complete]).collect();
        self.queue.push_back(Transaction { requests, draft: None });
    }

    /// Performs the next request, if there is one; tells when that ends its transaction.
    pub(crate) fn work(&mut self) -> Option<Word> {
        let transaction = self.queue.front_mut()?;
        let draft = transaction.draft.get_or_insert_with(|| self.stored.clone());
        self.operations += 1;
        let struck =
            self.fault.filter(|Fault { at, lasts, .. }| self.operations == *at || (*lasts && self.operations > *at));
        match struck.map(|fault| fault.kind) {
            Some(Kind::Lose { complete }) => {
                if complete && transaction.requests.drain(..).all(|request| draft.perform(&request)) {
                    self.stored = mem::take(draft);
                }
                self.queue.clear();
                return Some(Word::Lost);
            }
            Some(Kind::Abort) => {
                self.queue.pop_front();
                return Some(Word::Aborted);
            }
            None => {}
        }
        let request = transaction.requests.pop_front()?;
        if !draft.perform(&request) {
            self.queue.pop_front();
            return Some(Word::Aborted);
        }
        if transaction.requests.is_empty() {
            self.stored = mem::take(draft);
            self.queue.pop_front();
            return Some(Word::Complete);
        }
        None
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
}
