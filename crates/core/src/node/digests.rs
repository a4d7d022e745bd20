//! Comparing contents: peers that have the same transactions tell each other a digest of what they hold, and where it is not the same they ask
//! for everything and merge it.
//!
//! Version vectors say which transactions are here, and trust that one name means one thing. A copied database that writes under the id of its original
//! breaks that, and so does a forger: two transactions of one name hide each other, for ever. The digest tells.
//!
//! It is said when nothing else was for a while (anti-entropy), once for each state, and is a hundred bytes. Everything is asked for once a link at
//! most: who lies about digests has to send all it has each time, and wins nothing.

use rtc_battery_proto::{Digest, Message, PeerId, VersionVector};

use super::inbox::Work;
use super::io::{ErrorCode, LinkId};
use super::node::Node;
use crate::replica::{StorageError, digest_of_floor, digest_of_vector};

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digests {
    /// Of the version vector.
    pub(super) vector: Digest,
    /// Of the registers.
    pub(super) registers: Digest,
    /// Of the floor, if there is one: only replicas of one floor keep the same.
    pub(super) floor: Option<Digest>,
}

/// Comparing with one peer, over one link.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    /// What we last said, or are about to.
    told: Option<Digests>,
    tell_due: bool,
    /// What the peer said last.
    pub(super) theirs: Option<Digests>,
    state: State,
}

/// Where it stands with asking for everything.
#[derive(Debug, Default)]
enum State {
    #[default]
    Alike,
    /// Everything was asked for: what we had then.
    Asked(VersionVector),
    Compared,
}

impl Comparison {
    /// What we hold, for a peer that was not told so yet.
    pub(super) fn tell(&mut self, ours: Digests) {
        if self.told != Some(ours) {
            self.told = Some(ours);
            self.tell_due = true;
        }
    }

    /// What is to be told.
    pub(super) fn next_message(&mut self) -> Option<String> {
        let due = std::mem::take(&mut self.tell_due);
        let Digests { vector, registers, floor } = self.told.filter(|_| due)?;
        Some(Message::Digest { vector, registers, floor }.encode())
    }

    /// The peer holds something else, `ours` being our vector: whether everything is to be asked for.
    pub(super) fn begin(&mut self, ours: &VersionVector) -> bool {
        let begins = matches!(self.state, State::Alike);
        if begins {
            self.state = State::Asked(ours.clone());
        }
        begins
    }

    /// What the peer said last, where everything was not asked for yet.
    fn to_begin(&self) -> Option<Digests> {
        self.theirs.filter(|_| matches!(self.state, State::Alike))
    }

    /// Whether everything was asked for.
    pub(super) fn is_asking(&self) -> bool {
        matches!(self.state, State::Asked(_))
    }

    /// Whether what covers this is everything, as it was asked for.
    pub(super) fn is_answered_by(&self, covers: &VersionVector) -> bool {
        matches!(&self.state, State::Asked(asked) if covers.covers(asked))
    }

    /// An answer has ended: whether it is the one with everything.
    pub(super) fn ends(&mut self, covers: &VersionVector) -> bool {
        let ends = self.is_answered_by(covers);
        if ends {
            self.state = State::Compared;
        }
        ends
    }
}

impl Node {
    /// What came of comparing with a peer does not count.
    pub(super) fn compare_anew(&mut self, id: LinkId) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.comparison.state = State::Alike;
        }
    }

    /// What we hold, unless operations wait for tables or columns: they are in the vector and not among the registers.
    fn digests(&self) -> Result<Option<Digests>, StorageError> {
        let registers = self.replica.digest()?;
        let floor = self.replica.floor();
        let floor = (!floor.is_empty()).then(|| digest_of_floor(floor));
        Ok(registers.map(|registers| Digests { vector: digest_of_vector(self.replica.vector()), registers, floor }))
    }

    /// Tells peers what we hold, once all of it is saved.
    pub(super) fn tell_digests(&mut self) -> Result<(), StorageError> {
        if self.saved.version != self.replica.version() {
            return Ok(());
        }
        let Some(ours) = self.digests()? else { return Ok(()) };
        for (id, session) in &mut self.sessions {
            if let Some(channel) = self.room.channel(*id) {
                session.tell_digests(&channel.courtesy, ours);
                session.reconcile(&channel.courtesy, ours, &self.saved);
            }
        }
        self.compare_again(ours)
    }

    /// Compares with what peers said before we came to have the same transactions and floor, with one at a time: they say nothing new then, and what they have more
    /// is ours to ask for.
    fn compare_again(&mut self, ours: Digests) -> Result<(), StorageError> {
        let differs = |theirs: &Digests| {
            theirs.vector == ours.vector && theirs.floor == ours.floor && theirs.registers != ours.registers
        };
        let mut sessions = self.sessions.iter();
        let differing = sessions.find_map(|(id, session)| Some((*id, session.comparison.to_begin().filter(differs)?)));
        let Some((id, theirs)) = differing else { return Ok(()) };
        let Some(peer) = self.room.links.get(&id).map(|link| link.peer.clone()) else { return Ok(()) };
        self.compare(id, &peer, theirs)
    }

    pub(super) fn handle_digests(&mut self, id: LinkId, peer: &PeerId, theirs: Digests) {
        // Looked at in turn, after what the peer sent before it.
        self.inbox.push(id, peer, Work::Compare(theirs), 0);
    }

    /// A peer has told what it holds.
    pub(super) fn compare(&mut self, id: LinkId, peer: &PeerId, theirs: Digests) -> Result<(), StorageError> {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.comparison.theirs = Some(theirs);
        }
        let Some(ours) = self.digests()?.filter(|ours| ours.vector == theirs.vector) else { return Ok(()) };
        if ours.floor != theirs.floor {
            // Each tells the other, and then they keep the same.
            if let Some(session) = self.sessions.get_mut(&id) {
                session.tell_floor();
            }
            return Ok(());
        }
        if ours.registers == theirs.registers {
            return Ok(());
        }
        let ours = self.replica.vector();
        if !self.sessions.get_mut(&id).is_some_and(|session| session.ask_for_everything(ours)) {
            return Ok(());
        }
        let message = format!(
            "Peer {peer} has the same transactions as this database and other data: a copy of a database wrote under the id of its original, \
             or tables of one name are defined differently. Everything is compared now, and both contents are merged."
        );
        self.room.outputs.error(ErrorCode::Diverged, message, Some(peer));
        Ok(())
    }
}
