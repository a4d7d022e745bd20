//! Binary frames: reassembly takes and refuses what a model of it says, holds no more than came, and undoes [`split`].
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtc_battery_proto::frame::{Body, FRAME_BYTES, FrameError, Reassembly, split};

fuzz_target!(|data: &[u8]| {
    let (mut reassembly, mut model) = (Reassembly::default(), Vec::new());
    for frame in frames(data) {
        let result = reassembly.push(&frame);
        let (expected, goes_on) = match frame.split_first() {
            Some((0..=2, _)) if frame.len() > FRAME_BYTES => (Err(FrameError::Shape(frame.len())), false),
            Some((1, chunk)) if !chunk.is_empty() => {
                model.extend_from_slice(chunk);
                (Ok(None), true)
            }
            Some((mark @ (0 | 2), chunk)) => {
                model.extend_from_slice(chunk);
                let bytes = std::mem::take(&mut model);
                let whole = match mark {
                    0 => String::from_utf8(bytes).map(Body::Text).map_err(|_| FrameError::NotText),
                    _ => Ok(Body::Packed(bytes)),
                };
                let goes_on = whole.is_ok();
                if let Ok(body) = &whole {
                    check_split(body);
                }
                (whole.map(Some), goes_on)
            }
            _ => (Err(FrameError::Shape(frame.len())), false),
        };
        assert_eq!(result, expected);
        assert_eq!(reassembly.held_bytes(), model.len());
        if !goes_on {
            // The channel is closed then.
            return;
        }
    }
});

/// A frame: how many bytes of the data, how often they are repeated (so that small data reach the limits), and the bytes.
fn frames(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let [length, times, rest @ ..] = data {
        let (bytes, after) = rest.split_at(usize::from(*length % 64).min(rest.len()));
        let times = if *times > 127 { usize::from(*times - 127) * 8 } else { 1 };
        frames.push(match bytes {
            [lead, chunk @ ..] => [&[*lead][..], &chunk.repeat(times)].concat(),
            [] => Vec::new(),
        });
        data = after;
    }
    frames
}

fn check_split(body: &Body) {
    let (mut reassembly, mut whole) = (Reassembly::default(), None);
    for frame in split(body) {
        assert!(whole.is_none() && frame.len() <= FRAME_BYTES);
        whole = reassembly.push(&frame).expect("our own frames");
    }
    assert!(whole.is_none_or(|whole| whole == *body));
    assert_eq!(reassembly.held_bytes(), 0);
}
