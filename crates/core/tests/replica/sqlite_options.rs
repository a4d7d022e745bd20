//! SQLite is compiled twice, natively and to WebAssembly, and has to be the same both times. `sqlite_options.txt` is what both
//! must be; `js/test/wasm.test.mjs` reads it for the other side.

use rusqlite::Connection;

/// What a platform or a compiler decides, and what SQL cannot tell apart.
const OF_THE_PLATFORM: [&str; 5] = ["ATOMIC_INTRINSICS", "COMPILER", "MUTEX_", "SYSTEM_MALLOC", "THREADSAFE"];

#[test]
fn sqlite_is_compiled_as_in_webassembly() {
    let sqlite = Connection::open_in_memory().unwrap();
    let version: String = sqlite.query_row("SELECT sqlite_version()", [], |row| row.get(0)).unwrap();
    let mut options = sqlite.prepare("PRAGMA compile_options").unwrap();
    let options = options.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    let options = options.filter(|option| !OF_THE_PLATFORM.iter().any(|prefix| option.starts_with(prefix)));

    let found: Vec<String> = [format!("version={version}")].into_iter().chain(options).collect();
    assert_eq!(found, include_str!("sqlite_options.txt").lines().collect::<Vec<_>>());
}
