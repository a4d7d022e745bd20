//! The database's pages on their way from and to the shell, which keeps them in IndexedDB.

use js_sys::{Array, Uint8Array};
use rtc_battery_core::replica::Salvaged;
use rtc_battery_vfs::{Batch, Page, PageStore, digest_of_record};
use wasm_bindgen::prelude::wasm_bindgen;
use wasm_bindgen::{JsError, JsValue};

use crate::failure::failure;
use crate::values::object;

/// SQLite's page size here, and so the size of a record in IndexedDB: measured fastest among those under 64 KiB.
const PAGE_SIZE: u32 = 8192;

#[wasm_bindgen(typescript_custom_section)]
const TYPES: &str = r"
/** Pages to save, all of them or none: put `pages`, delete what is beyond `pageCount`. */
export interface Batch {
    /** Names it in `batchSaved` and `batchFailed`. */
    generation: number;
    /** The last of `commits()` that it contains. */
    commit: number;
    pageCount: number;
    /** What `digest()` is when these pages were loaded. */
    digest: string;
    pages: [pageNo: number, record: Uint8Array][];
}

/** What could be read of a damaged database. */
export interface Salvaged {
    /** How many operations of it are here now and were not. */
    operations: number;
    /** Whether that is everything that its replica wrote. */
    complete: boolean;
}
";

/// One database file: pages in memory, and what of them is still to be saved.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Storage {
    store: PageStore,
}

#[wasm_bindgen]
impl Storage {
    /// An empty file.
    ///
    /// # Errors
    /// SQLite did not take our VFS.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<Self, JsError> {
        Ok(Self { store: PageStore::new(PAGE_SIZE)? })
    }

    /// Appends saved pages, in order from page 1, before the database is opened.
    ///
    /// # Errors
    /// A failure with the code `storage`: what is stored is damaged.
    pub fn load(&self, first_page: u32, bytes: &[u8]) -> Result<(), JsValue> {
        self.store.load(first_page, bytes).map_err(|error| failure("storage", &error.to_string()))
    }

    /// Appends the next page of a damaged file from its record, or zeros where that is not what was saved, or there is none.
    ///
    /// # Errors
    /// The database has been opened already.
    #[wasm_bindgen(js_name = loadSound)]
    pub fn load_sound(&self, record: &[u8]) -> Result<bool, JsError> {
        Ok(self.store.load_sound(record)?)
    }

    /// What tells this file from others: compared with what was kept of it when it was saved.
    pub fn digest(&self) -> String {
        hex(self.store.digest())
    }

    /// How many commits have changed the file since it was opened.
    pub fn commits(&self) -> f64 {
        self.store.commits() as f64
    }

    /// Says whether the storage takes nothing more: then writes fail with SQLite's code 13, and reads go on.
    #[wasm_bindgen(js_name = setFull)]
    pub fn set_full(&self, full: bool) {
        self.store.set_full(full);
    }

    /// Everything committed since the last batch; undefined if there is nothing, or while a batch is being saved.
    #[wasm_bindgen(js_name = takeBatch, unchecked_return_type = "Batch | undefined")]
    pub fn take_batch(&self) -> JsValue {
        self.store.take_batch().map_or(JsValue::UNDEFINED, |batch| batch_to_js(&batch))
    }

    /// Reports that storage has the batch.
    ///
    /// # Errors
    /// The batch is not the one being saved.
    #[wasm_bindgen(js_name = batchSaved)]
    pub fn batch_saved(&self, generation: f64) -> Result<(), JsError> {
        Ok(self.store.batch_saved(generation as u64)?)
    }

    /// Reports that storage does not have the batch, or may not: the next one contains it.
    ///
    /// # Errors
    /// The batch is not the one being saved.
    #[wasm_bindgen(js_name = batchFailed)]
    pub fn batch_failed(&self, generation: f64) -> Result<(), JsError> {
        Ok(self.store.batch_failed(generation as u64)?)
    }
}

impl Storage {
    pub(crate) fn store(&self) -> &PageStore {
        &self.store
    }
}

pub(crate) fn salvaged_to_js(salvaged: &Salvaged) -> JsValue {
    object(&[("operations", salvaged.operations.into()), ("complete", salvaged.complete.into())])
}

/// No 64-bit integer crosses the border.
fn hex(digest: u64) -> String {
    format!("{digest:016x}")
}

/// Copies the pages: a view of WebAssembly's memory would drag all of it into a structured clone.
fn batch_to_js(batch: &Batch) -> JsValue {
    let record = |(number, page): &(u32, Page)| {
        let (size, digest) = (page.len() as u32, digest_of_record(*number, page));
        let record = Uint8Array::new_with_length(size + digest.len() as u32);
        record.subarray(0, size).copy_from(page);
        record.subarray(size, record.length()).copy_from(&digest);
        Array::of2(&(*number).into(), &record)
    };
    let pages: Array = batch.pages.iter().map(record).collect();
    object(&[
        ("generation", (batch.generation as f64).into()),
        ("commit", (batch.commit as f64).into()),
        ("pageCount", batch.page_count.into()),
        ("digest", hex(batch.digest).into()),
        ("pages", pages.into()),
    ])
}
