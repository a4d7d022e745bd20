//! The TypeScript declarations of what crosses the border, `js/src/generated`, are made from the Rust types. This test fails when they are not
//! what the types make now; with `RTC_BATTERY_WRITE_TYPES=1` in the environment it writes them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use rtc_battery_core::Now;
use rtc_battery_core::node::{Input, Output};
use ts_rs::{Config, TS};

fn generate(folder: &Path) {
    let config = Config::new().with_out_dir(folder);
    Input::export_all(&config).unwrap();
    Output::export_all(&config).unwrap();
    Now::export_all(&config).unwrap();
}

fn files(folder: &Path) -> BTreeMap<String, String> {
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read_to_string(entry.path()).unwrap())
    };
    fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect()
}

#[test]
fn the_committed_declarations_are_current() {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../js/src/generated");
    if std::env::var_os("RTC_BATTERY_WRITE_TYPES").is_some() {
        fs::remove_dir_all(&committed).unwrap();
        return generate(&committed);
    }
    let current = Path::new(env!("CARGO_TARGET_TMPDIR")).join("types");
    if current.exists() {
        fs::remove_dir_all(&current).unwrap();
    }
    generate(&current);
    assert_eq!(
        files(&committed),
        files(&current),
        "write them: RTC_BATTERY_WRITE_TYPES=1 cargo test --package rtc-battery-web --test types"
    );
}
