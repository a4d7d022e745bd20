//! [`Gossip`]: what each end of each link can know of the other, and which transactions were sent all the same.
//!
//! An observer that reads what goes over the links, and shares nothing with what the nodes remember of it. A message counts for who
//! sends it from when it is sent, and for who hears it from when it has arrived, so what crosses on the way is nobody's mistake. It does not know
//! why something is sent: an answer may hold what came by way of others since it was asked for. So it is for a room in which nobody asks.

use std::collections::BTreeMap;

use rtc_battery_proto::frame::{Body, Reassembly};
use rtc_battery_proto::packed::{Extent, Packed};
use rtc_battery_proto::{Message, Operation, VersionVector};

use super::{Frame, Key, Lane};

/// What was said over all links since somebody began to listen.
#[derive(Debug, Default)]
pub struct Gossip {
    ends: BTreeMap<Key, End>,
    /// How often a transaction was sent over a link.
    pub sends: u64,
    /// What was sent to who had it.
    pub repeats: Vec<Repeat>,
}

/// Transactions that were sent although they need not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repeat {
    /// Which end sent them.
    pub from: Key,
    /// That the other had said to have them, or had sent them.
    pub told: VersionVector,
    /// That had been sent to it over this link before.
    pub sent: VersionVector,
}

/// What one end of a link knows, and what is half said.
#[derive(Debug, Default)]
struct End {
    /// The other end has it: it said so, or sent it.
    told: VersionVector,
    /// It was sent to the other end.
    sent: VersionVector,
    saying: [Reassembly; 2],
    hearing: [Reassembly; 2],
}

/// What a message says.
#[derive(Debug, Default)]
struct Word {
    /// Its sender has these.
    claims: VersionVector,
    /// It carries operations of these.
    carries: VersionVector,
    /// Who has heard it, and what it is the end of, has these.
    gives: VersionVector,
}

impl Gossip {
    /// One end sends.
    pub(super) fn note_sent(&mut self, from: Key, lane: Lane, frame: &Frame) {
        let end = self.ends.entry(from).or_default();
        let Some(word) = word(&mut end.saying[lane as usize], frame) else { return };
        self.sends += word.carries.dot_count();
        let (told, sent) = (common(&word.carries, &end.told), common(&word.carries, &end.sent));
        if !told.is_empty() || !sent.is_empty() {
            self.repeats.push(Repeat { from, told, sent });
        }
        end.sent.merge(&word.gives);
    }

    /// It has arrived at the other.
    pub(super) fn note_heard(&mut self, at: Key, lane: Lane, frame: &Frame) {
        let end = self.ends.entry(at).or_default();
        let Some(word) = word(&mut end.hearing[lane as usize], frame) else { return };
        end.told.merge(&word.claims);
        end.told.merge(&word.gives);
    }
}

/// What both have.
fn common(one: &VersionVector, other: &VersionVector) -> VersionVector {
    one.minus(&one.minus(other))
}

/// What the message says that a frame ends.
fn word(reassembly: &mut Reassembly, frame: &Frame) -> Option<Word> {
    let text = match frame.message(reassembly)? {
        Body::Text(text) => text,
        Body::Packed(bytes) => {
            let packed = Packed::read(bytes).unwrap();
            let gives = match packed.extent() {
                Extent::Whole(covers) | Extent::End(covers) => covers.clone(),
                Extent::Part => VersionVector::default(),
            };
            return Some(Word { carries: dots(&packed.operations().unwrap()), gives, ..Word::default() });
        }
    };
    Some(match Message::decode(&text).unwrap() {
        Message::Hello(hello) => Word { claims: hello.vector, ..Word::default() },
        Message::Vector { vector } => Word { claims: vector, ..Word::default() },
        Message::SyncRequest(request) => Word { claims: request.vector.unwrap_or_default(), ..Word::default() },
        Message::Op { payload } => {
            let dots = dots(&[payload]);
            Word { carries: dots.clone(), gives: dots, ..Word::default() }
        }
        Message::SyncResponse(part) => {
            Word { carries: dots(&part.operations), gives: part.covers.unwrap_or_default(), ..Word::default() }
        }
        _ => Word::default(),
    })
}

fn dots(operations: &[Operation]) -> VersionVector {
    let mut dots = VersionVector::default();
    operations.iter().filter_map(Operation::place).for_each(|(dot, ..)| dots.insert(dot));
    dots
}
