//! Changes that leave JSON JSON. Random changes of bytes hardly ever do: most executions would end at the first brace.
//!
//! Most changes are in one place of the tree, some in the bytes, as libFuzzer does. It makes several before it tries an input.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Map, Value, json};

/// More room for a text than it has, in bytes.
const MORE_BYTES: usize = 16;

/// Numbers, as drawn from a seed (xorshift).
struct Dice(u32);

impl Dice {
    fn roll(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0 as usize % bound.max(1)
    }
}

/// Changes the first `size` bytes of `data`, which has room for `max_size`. Gives their new length.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(seed | 1);
    if dice.roll(16) != 0
        && let Some(text) = changed(&data[..size], &mut dice)
        && text.len() <= max_size
    {
        data[..text.len()].copy_from_slice(text.as_bytes());
        return text.len();
    }
    fuzzer_mutate(data, size, max_size)
}

/// The same for a script ([`play`](crate::script::play)), in whose lines there may be JSON.
pub fn mutate_script(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut dice = Dice(seed | 1);
    if dice.roll(2) == 0 {
        let mut lines: Vec<Vec<u8>> = data[..size].split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        let (at, other) = (dice.roll(lines.len()), dice.roll(lines.len()));
        match dice.roll(8) {
            0 => lines.insert(other, lines[at].clone()),
            1 => lines.swap(at, other),
            _ => {
                let line = &mut lines[at];
                let begin = line.iter().position(|byte| *byte == b'{').unwrap_or(line.len());
                if let Some(text) = changed(&line[begin..], &mut dice) {
                    line.splice(begin.., text.into_bytes());
                }
            }
        }
        let script = lines.join(&b'\n');
        if script.len() <= max_size && script != data[..size] {
            data[..script.len()].copy_from_slice(&script);
            return script.len();
        }
    }
    fuzzer_mutate(data, size, max_size)
}

/// JSON with a change in one place.
fn changed(json: &[u8], dice: &mut Dice) -> Option<String> {
    let mut value: Value = serde_json::from_slice(json).ok()?;
    let mut nth = dice.roll(count(&value));
    change_nth(&mut value, &mut nth, dice);
    Some(value.to_string())
}

/// How many values there are in a value, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// Changes the value that `nth` counts down to, in the order of the text.
fn change_nth(value: &mut Value, nth: &mut usize, dice: &mut Dice) -> bool {
    if *nth == 0 {
        change(value, dice);
        return true;
    }
    *nth -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| change_nth(item, nth, dice)),
        Value::Object(fields) => fields.values_mut().any(|field| change_nth(field, nth, dice)),
        _ => false,
    }
}

fn change(value: &mut Value, dice: &mut Dice) {
    if dice.roll(8) == 0 {
        let others =
            [json!(null), json!(true), json!(1), json!(-0.0), json!(""), json!([]), json!({}), json!([[1, 2]])];
        *value = others[dice.roll(others.len())].clone();
        return;
    }
    match value {
        Value::Null | Value::Bool(_) => *value = json!(dice.roll(3)),
        Value::Number(number) => {
            let near = number.as_u64().unwrap_or_default();
            let ends = [0, 1, (1 << 32) - 1, 1 << 32, (1 << 47) + 1, (1 << 48) - 1, (1 << 53) - 1, 1 << 53, u64::MAX];
            *value = match dice.roll(5) {
                0 => json!(near.saturating_add(1)),
                1 => json!(near.saturating_sub(1)),
                2 => json!(-1.5),
                3 => json!(near as f64),
                _ => json!(ends[dice.roll(ends.len())]),
            };
        }
        Value::String(text) => {
            let mut bytes = text.clone().into_bytes();
            let (size, room) = (bytes.len(), bytes.len() + MORE_BYTES);
            bytes.resize(room, 0);
            let size = fuzzer_mutate(&mut bytes, size, room);
            *text = String::from_utf8_lossy(&bytes[..size]).into_owned();
        }
        Value::Array(items) => {
            let at = dice.roll(items.len());
            match (items.get(at).cloned(), dice.roll(2)) {
                (Some(item), 0) => items.insert(dice.roll(items.len() + 1), item),
                (Some(_), _) => drop(items.remove(at)),
                (None, _) => items.push(json!([1, 1])),
            }
        }
        Value::Object(fields) => change_fields(fields, dice),
    }
}

/// Takes a field away, or gives its value to another name.
fn change_fields(fields: &mut Map<String, Value>, dice: &mut Dice) {
    let names: Vec<String> = fields.keys().cloned().collect();
    let other = ["$int", "$blob", "$text", "$real", "id", "values", "prev", "seq", "more", "covers", "a", "type"];
    let other = other[dice.roll(other.len())].to_owned();
    match names.get(dice.roll(names.len())) {
        Some(name) => {
            let value = fields[name].clone();
            if dice.roll(2) == 0 {
                fields.remove(name);
            }
            if dice.roll(2) == 0 {
                fields.insert(other, value);
            }
        }
        None => drop(fields.insert(other, json!("1"))),
    }
}
