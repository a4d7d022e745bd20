//! Clock values, as text and as JSON: what is read is written as it was, and all three orders (of values, texts and positions) are one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtc_battery_proto::{Hlc, MAX_TS_MS, ReplicaId, Tick};

fuzz_target!(|data: &[u8]| {
    // One clock value a line: as text, as JSON, or the first bytes of it as numbers.
    let mut clocks: Vec<Hlc> = Vec::new();
    for line in data.split(|byte| *byte == b'\n') {
        if let Ok(text) = std::str::from_utf8(line)
            && let Ok(clock) = text.parse::<Hlc>()
        {
            assert_eq!(clock.to_string(), text);
            clocks.push(clock);
        }
        if let Ok(clock) = serde_json::from_slice::<Hlc>(line) {
            clocks.push(clock);
        }
        clocks.extend(from_bytes(line));
    }
    for clock in &clocks {
        assert!(clock.tick.ts <= MAX_TS_MS);
        assert_eq!(clock.to_string().parse().as_ref(), Ok(clock));
        let json = serde_json::to_string(clock).expect("a clock value is JSON");
        assert_eq!(serde_json::from_str::<Hlc>(&json).expect("what was written is read"), *clock);
    }
    for pair in clocks.windows(2) {
        let [a, b] = pair else { continue };
        assert_eq!(a.cmp(b), a.to_string().cmp(&b.to_string()), "{a} {b}");
        match b.tick.steps_since(a.tick) {
            Some(steps) => assert_eq!(a.tick.checked_add(steps), Some(b.tick), "{a} {b}"),
            None => assert!(a.tick > b.tick || b.tick.ts - a.tick.ts >= 1 << 32, "{a} {b}"),
        }
    }
});

/// Twelve bytes and a name: random texts seldom parse, these always do.
fn from_bytes(line: &[u8]) -> Option<Hlc> {
    let (number, name) = line.split_at_checked(12)?;
    let number = number.iter().fold(0_u128, |number, byte| number << 8 | u128::from(*byte));
    let tick = Tick { ts: (number >> 32) as u64 & MAX_TS_MS, counter: number as u32 };
    Some(Hlc { tick, node: ReplicaId::new(std::str::from_utf8(name).ok()?).ok()? })
}
