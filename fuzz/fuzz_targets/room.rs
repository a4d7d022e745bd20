//! Whatever peers and the signaling server say to a node, over any channel and in any order: it goes on, its database stays sound and stays its
//! own, it takes no more memory than what came is worth, it passes on what it has, and an honest peer that comes afterwards is heard.
#![no_main]

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use rtc_battery_core::node::LinkId;
use rtc_battery_fuzz::memory::most_bytes_of;
use rtc_battery_fuzz::mutate::mutate_script;
use rtc_battery_fuzz::replicas::{Sql as _, check, check_passes_on, dump, with_tables};
use rtc_battery_fuzz::script::play;
use rtc_battery_fuzz::world::World;
use rtc_battery_proto::{Floor, Message, PeerId, VersionVector};
use serde_json::{Value, json};

/// What a node and its host take, and what each byte of a script may take on top of that.
const NODE_BYTES: usize = 4 << 20;
const BYTES_PER_BYTE: usize = 4096;

/// The same for the database, in pages of 8 KiB.
const DATABASE_PAGES: i64 = 64;

/// No operation is stamped later.
const END_OF_TIME_MS: u64 = 1 << 47;

/// An honest peer is heard within this time after the worst, in seconds.
const PATIENCE_S: u32 = 600;

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate_script(data, size, max_size, seed) });

fuzz_target!(|script: &[u8]| {
    let most_bytes = most_bytes_of(|| survive(script));
    assert!(most_bytes <= NODE_BYTES + BYTES_PER_BYTE * script.len(), "{most_bytes} bytes of memory");
});

fn survive(script: &[u8]) {
    let mut world = World::new(with_tables());
    let before = world.node.replica().vector().clone();
    play(&mut world, script);
    let (now, changed) = (world.now, *world.node.replica().vector() != before);
    // What the script left open; there may be nothing.
    let _ = world.node.try_sql("ROLLBACK", now);
    world.poll();
    hear_an_honest_peer(&mut world, script);

    let now = world.now;
    check(&mut world.node, now, DATABASE_PAGES + script.len() as i64 / 64);
    // What is set aside has its time, and is compared too.
    world.now.wall_ms = END_OF_TIME_MS;
    world.poll();
    let now = world.now;
    if changed {
        let ours = dump(&mut world.node, now);
        check_passes_on(world.node.replica(), &ours, now);
    }
}

/// One that has something to tell, in our language: first when it is asked, then live. Its name and what it writes are a hash of the script, so
/// that no script can have said it already.
fn hear_an_honest_peer(world: &mut World, script: &[u8]) {
    let mut hasher = DefaultHasher::new();
    script.hash(&mut hasher);
    let name = format!("honest-{:016x}", hasher.finish());
    let peer = PeerId::new(&name).expect("an id");
    let select = format!("SELECT content FROM notes WHERE id GLOB '{name}-*' ORDER BY id");

    let vector = json!({&name: [[1, 1]]});

    let mut greeted: Option<LinkId> = None;
    let mut told = false;
    for _ in 0..PATIENCE_S {
        if let Some(link) = world.link(&peer) {
            if greeted != Some(link) {
                let hello = json!({"type": "hello", "protocol": 1, "nodeId": &name, "vector": &vector});
                (greeted, told) = (Some(link), false);
                world.say(&peer, hello.to_string());
            }
            let heard = world.take_heard(&peer);
            for floor in heard.iter().filter_map(floor_of) {
                // Who lacks some of it is asked for nothing. Ours has caught up by the time that it says so.
                let mut vector: VersionVector = serde_json::from_value(vector.clone()).expect("a vector");
                vector.merge(&floor.vector);
                world.say(&peer, Message::Vector { vector }.encode());
            }
            let asked = heard.iter().any(|message| matches!(message, Message::SyncRequest(_)));
            if asked {
                let answer = json!({"type": "sync-response", "operations": [note(&name, 1)], "covers": &vector});
                world.say(&peer, answer.to_string());
                world.say(&peer, json!({"type": "op", "payload": note(&name, 2)}).to_string());
                told = true;
            }
        }
        if told && world.node.rows(&select, world.now) == ["1", "2"] {
            return;
        }
        world.save();
        world.drain();
        world.say(&peer, json!({"type": "ping"}).to_string());
        world.pass(1_000);
    }
    panic!("{name} was not heard: {:?}", world.node.rows(&select, world.now));
}

/// Up to where the node may have forgotten what was deleted, if it says so.
fn floor_of(message: &Message) -> Option<&Floor> {
    match message {
        Message::Hello(hello) if !hello.floor.is_empty() => Some(&hello.floor),
        Message::Floor { floor } => Some(floor),
        _ => None,
    }
}

fn note(name: &str, seq: u32) -> Value {
    let id = format!("{name}-{seq}");
    json!({
        "hlc": {"ts": 1, "counter": seq, "nodeId": name}, "type": "INSERT", "table": "notes",
        "pk": {"id": &id}, "values": {"id": &id, "content": seq},
        "seq": seq, "tx": {"first": {"ts": 1, "counter": seq}, "n": 1},
    })
}
