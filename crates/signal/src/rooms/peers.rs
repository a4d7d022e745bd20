//! What a peer is told of a room: everybody, or a few of them and how many there are.
//!
//! A large room's list is long and every newcomer would dial all of it. Who asks for a sample gets peers that were drawn evenly, so that
//! the connections of the room spread over its members.

use rand::{Rng, seq::IteratorRandom};
use rtc_battery_proto::{PeerId, signaling::ServerMessage};

use super::Room;

/// The list of those in the room, without the one who asks where that is in it; with `sample`, that many of them at most, and the count.
pub(super) fn list(room: &Room, asks: Option<&PeerId>, sample: Option<usize>, random: &mut impl Rng) -> ServerMessage {
    let others = || room.keys().filter(|name| Some(*name) != asks).cloned();
    let Some(most) = sample else {
        return ServerMessage::Peers { peer_ids: others().collect(), count: None };
    };
    let count = room.len() - usize::from(asks.is_some_and(|name| room.contains_key(name)));
    let peer_ids = if count <= most { others().collect() } else { others().sample(random, most) };
    ServerMessage::Peers { peer_ids, count: u64::try_from(count).ok() }
}
