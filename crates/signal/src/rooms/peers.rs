//! What a newcomer is told of a room: everybody, or a few of them and how many there are.
//!
//! A large room's list is long and every newcomer would dial all of it. Who asks for a sample gets peers that were drawn evenly, so that
//! the connections of the room spread over its members.

use rand::{Rng, seq::IteratorRandom};
use rtc_battery_proto::signaling::ServerMessage;

use super::Room;

/// The list of those in the room; with `sample`, that many of them at most, and the count.
pub(super) fn list(room: &Room, sample: Option<usize>, random: &mut impl Rng) -> ServerMessage {
    let Some(most) = sample else {
        return ServerMessage::Peers { peer_ids: room.keys().cloned().collect(), count: None };
    };
    let peer_ids = if room.len() <= most {
        room.keys().cloned().collect()
    } else {
        room.keys().sample(random, most).into_iter().cloned().collect()
    };
    ServerMessage::Peers { peer_ids, count: u64::try_from(room.len()).ok() }
}
