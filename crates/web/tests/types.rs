//! The TypeScript declarations of what crosses the border, `js/src/generated`, are made from the Rust types. This test fails when they are not
//! what the types make now; with `RTC_BATTERY_WRITE_TYPES=1` in the environment it writes them.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use rtc_battery_core::Now;
use rtc_battery_core::node::{Input, Output, Status};
use ts_rs::{Config, ExportError, TS};

fn generate(folder: &Path) -> Result<(), ExportError> {
    let config = Config::new().with_out_dir(folder).with_import_extension(Some("js"));
    Input::export_all(&config)?;
    Output::export_all(&config)?;
    Status::export_all(&config)?;
    Now::export_all(&config)
}

fn files(folder: &Path) -> Result<BTreeMap<String, String>, Box<dyn Error>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read_to_string(entry.path())?);
    }
    Ok(files)
}

#[test]
fn the_committed_declarations_are_current() -> Result<(), Box<dyn Error>> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../js/src/generated");
    if std::env::var_os("RTC_BATTERY_WRITE_TYPES").is_some() {
        fs::remove_dir_all(&committed)?;
        return Ok(generate(&committed)?);
    }
    let current = Path::new(env!("CARGO_TARGET_TMPDIR")).join("types");
    if current.exists() {
        fs::remove_dir_all(&current)?;
    }
    generate(&current)?;
    assert_eq!(
        files(&committed)?,
        files(&current)?,
        "write them: RTC_BATTERY_WRITE_TYPES=1 cargo test --package rtc-battery-web --test types"
    );
    Ok(())
}
