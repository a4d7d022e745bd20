//! What is done to a room in Redis, each in one step.

use std::time::Duration;

use redis::Pipeline;
use rtc_battery_proto::{PeerId, signaling::ResumeKey};
use sha2::{Digest, Sha256};

use super::wire;
use crate::{ConnectionId, ProcessId, Token, rooms::Registration};

const CLAIM: &str = concat!(include_str!("scripts/room.lua"), include_str!("scripts/claim.lua"));
const RELEASE: &str = concat!(include_str!("scripts/room.lua"), include_str!("scripts/release.lua"));
const REGISTER: &str = concat!(include_str!("scripts/room.lua"), include_str!("scripts/register.lua"));

/// In place of a key that a client did not bring.
const NO_KEY: &str = "-";

pub(super) struct Claim<'a> {
    pub(super) connection: ConnectionId,
    pub(super) name: &'a PeerId,
    pub(super) resume: Option<&'a ResumeKey>,
}

pub(super) fn claim(
    pipe: &mut Pipeline,
    process: ProcessId,
    token: Token,
    claim: &Claim<'_>,
    max_room_peers: usize,
    lease: Duration,
) {
    begin(pipe, CLAIM, process, token);
    pipe.arg(claim.connection.0).arg(claim.name.as_str()).arg(key(claim.resume));
    pipe.arg(max_room_peers).arg(room_life_ms(lease)).ignore();
}

pub(super) fn release(pipe: &mut Pipeline, process: ProcessId, token: Token, connection: ConnectionId, name: &PeerId) {
    begin(pipe, RELEASE, process, token);
    pipe.arg(connection.0).arg(name.as_str()).ignore();
}

pub(super) fn register(
    pipe: &mut Pipeline,
    process: ProcessId,
    token: Token,
    members: &[Registration],
    lease: Duration,
) {
    begin(pipe, REGISTER, process, token);
    pipe.arg(room_life_ms(lease));
    for member in members {
        pipe.arg(member.name.as_str()).arg(member.connection.0).arg(key(member.resume.as_ref()));
    }
    pipe.ignore();
}

fn begin(pipe: &mut Pipeline, script: &str, process: ProcessId, token: Token) {
    let digest = token.digest();
    pipe.cmd("EVAL").arg(script).arg(1).arg(format!("{}room:{digest}", wire::PREFIX));
    pipe.arg(wire::PREFIX).arg(digest).arg(wire::name(process));
}

/// A room that nobody registers in is forgotten.
fn room_life_ms(lease: Duration) -> String {
    (lease * 4).as_millis().max(1).to_string()
}

/// The key is a secret, so Redis gets its digest.
fn key(resume: Option<&ResumeKey>) -> String {
    let digest = |key: &ResumeKey| {
        let digest: [u8; 32] = Sha256::digest(key.as_str().as_bytes()).into();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    resume.map_or_else(|| NO_KEY.into(), digest)
}
