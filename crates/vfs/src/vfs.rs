//! What SQLite sees: a VFS with the page stores' files in it and nothing else.
//!
//! `SQLITE_FCNTL_COMMIT_PHASETWO` is the moment of a commit: it never comes on a rollback, comes also with
//! `synchronous = OFF`, and comes after the truncation of a VACUUM. Journals have no place here (`journal_mode = MEMORY` keeps
//! them out of the VFS); temporary files are plain memory. Locks keep nobody out, because a
//! file is open once; they are where a transaction says that it will write, and is refused while the storage is full.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::{Arc, Mutex, PoisonError};

use rsqlite_vfs::ffi::{
    SQLITE_ERROR, SQLITE_FCNTL_COMMIT_PHASETWO, SQLITE_FCNTL_PRAGMA, SQLITE_NOTFOUND, SQLITE_OK, sqlite3_file,
};
use rsqlite_vfs::{
    AccessMode, DeviceCharacteristics, FileKind, LockLevel, MemChunksFile, OpenOptions, OpenRequest, OpenedFile,
    RegisterVfsError, SQLiteIoMethods, SQLiteVfs, SQLiteVfsFile, SyncOptions, VfsError, VfsErrorCode, VfsFile,
    VfsResult, VfsStore,
};

use crate::os::DefaultVfs;
use crate::pages::NotAPage;
use crate::pragma;
use crate::store::File;

/// The VFS to open a [`PageStore`](crate::PageStore)'s file in.
pub const VFS_NAME: &str = "rtc-battery-pages";

/// Registers the VFS, once for the process.
pub(crate) fn register() -> Result<(), RegisterVfsError> {
    static REGISTERED: Mutex<bool> = Mutex::new(false);
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*registered {
        // SAFETY: the methods below keep the default file layout and versions and have no application data. They may run on
        // any thread: the files are behind mutexes. The lock above serializes registrations under this name, which is ours.
        let registration = unsafe { rsqlite_vfs::register_vfs::<IoMethods, Vfs>(VFS_NAME, (), false)? };
        registration.into_raw();
        *registered = true;
    }
    Ok(())
}

unsafe extern "C" {
    /// From the SQLite that is linked in.
    fn sqlite3_mprintf(format: *const c_char, ...) -> *mut c_char;
}

/// A page store's file, or a temporary one.
enum OpenFile {
    Pages(Arc<File>),
    Temporary(MemChunksFile),
}

impl VfsFile for OpenFile {
    fn read(&mut self, buffer: &mut [u8], offset: u64) -> VfsResult<usize> {
        match self {
            Self::Pages(file) => Ok(file.pages().read(buffer, offset)),
            Self::Temporary(file) => file.read(buffer, offset),
        }
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> VfsResult<()> {
        match self {
            Self::Pages(file) => file
                .pages()
                .write(bytes, offset)
                .map_err(|NotAPage| error(VfsErrorCode::IoWrite, "a write of another page size")),
            Self::Temporary(file) => file.write(bytes, offset),
        }
    }

    fn truncate(&mut self, size: u64) -> VfsResult<()> {
        match self {
            Self::Pages(file) => {
                file.pages().truncate(size);
                Ok(())
            }
            Self::Temporary(file) => file.truncate(size),
        }
    }

    fn sync(&mut self, _options: SyncOptions) -> VfsResult<()> {
        Ok(())
    }

    fn size(&self) -> VfsResult<u64> {
        match self {
            Self::Pages(file) => Ok(file.pages().size()),
            Self::Temporary(file) => file.size(),
        }
    }

    /// A transaction reserves the file before it writes, and takes it for itself before it commits.
    fn lock(&mut self, level: LockLevel) -> VfsResult<()> {
        match self {
            Self::Pages(file) if level > LockLevel::Shared && file.pages().is_full() => {
                Err(error(VfsErrorCode::Full, "what was committed before cannot be saved"))
            }
            _ => Ok(()),
        }
    }

    fn unlock(&mut self, _level: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn check_reserved_lock(&self) -> VfsResult<bool> {
        Ok(false)
    }

    fn device_characteristics(&self) -> DeviceCharacteristics {
        DeviceCharacteristics::UNDELETABLE_WHEN_OPEN | DeviceCharacteristics::POWERSAFE_OVERWRITE
    }
}

/// The names: the page stores' files.
struct Names;

impl VfsStore for Names {
    type File = OpenFile;
    type AppData = ();

    fn open_file(_: &(), request: OpenRequest<'_>) -> VfsResult<OpenedFile<OpenFile>> {
        let access = request.options.access();
        let file = match (request.options.kind(), request.filename) {
            (Some(FileKind::MainDb), Some(name)) => {
                let missing = || error(VfsErrorCode::CantOpen, "no page store has this name");
                let file = File::find(name.path()).ok_or_else(missing)?;
                if !file.pages().open() {
                    return Err(error(VfsErrorCode::CantOpen, "this page store is open already"));
                }
                OpenFile::Pages(file)
            }
            (Some(FileKind::MainJournal | FileKind::SuperJournal | FileKind::Wal), _) => {
                return Err(error(VfsErrorCode::CantOpen, "page stores need journal_mode = MEMORY"));
            }
            (_, None) => OpenFile::Temporary(MemChunksFile::default()),
            (_, Some(_)) => return Err(error(VfsErrorCode::CantOpen, "only page stores have names here")),
        };
        Ok(OpenedFile { file, access })
    }

    fn close_file(_: &(), _name: Option<&str>, file: OpenFile, _options: OpenOptions) -> VfsResult<()> {
        if let OpenFile::Pages(file) = file {
            file.pages().close();
        }
        Ok(())
    }

    fn access(_: &(), name: &str, _mode: AccessMode) -> VfsResult<bool> {
        Ok(File::find(name).is_some())
    }

    fn full_pathname(_: &(), name: &str) -> VfsResult<String> {
        Ok(name.to_owned())
    }

    fn delete_file(_: &(), _name: &str, _sync_dir: bool) -> VfsResult<()> {
        Err(error(VfsErrorCode::IoDeleteNoEntry, "no such file"))
    }
}

struct Vfs;

impl SQLiteVfs<IoMethods> for Vfs {
    type Os = DefaultVfs;

    fn os(_: &()) -> &DefaultVfs {
        &DefaultVfs
    }
}

struct IoMethods;

impl SQLiteIoMethods for IoMethods {
    type Store = Names;

    unsafe extern "C" fn xFileControl(file: *mut sqlite3_file, operation: c_int, argument: *mut c_void) -> c_int {
        // SAFETY: SQLite passes a file that our `xOpen` opened, and no other reference to it exists during a call.
        let file = unsafe { (*SQLiteVfsFile::from_file(file)).handle::<OpenFile>() };
        let OpenFile::Pages(file) = file else { return SQLITE_NOTFOUND };
        match operation {
            SQLITE_FCNTL_COMMIT_PHASETWO => {
                file.pages().commit();
                SQLITE_OK
            }
            // SAFETY: the argument of this operation is an array of strings as `refuse` needs it.
            SQLITE_FCNTL_PRAGMA => unsafe { refuse(file, argument.cast()) },
            _ => SQLITE_NOTFOUND,
        }
    }
}

/// Answers a PRAGMA: "not mine", or an error with a message.
///
/// # Safety
/// `argument` is what SQLite passes with `SQLITE_FCNTL_PRAGMA`: [0] takes a message made by `sqlite3_mprintf`, [1] is the name,
/// [2] the value or null.
unsafe fn refuse(file: &File, argument: *mut *mut c_char) -> c_int {
    // SAFETY: promised by the caller.
    let text = |index| unsafe {
        let text: *mut c_char = *argument.add(index);
        (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy())
    };
    let (Some(name), Some(value)) = (text(1), text(2)) else { return SQLITE_NOTFOUND };
    let Some(message) = pragma::refusal(&name, &value, file.pages().page_size()) else { return SQLITE_NOTFOUND };
    let message: Vec<u8> = message.bytes().chain([0]).collect();
    // SAFETY: both strings end in NUL, and "%s" takes one string; SQLite frees what is written to [0].
    unsafe { *argument = sqlite3_mprintf(c"%s".as_ptr(), message.as_ptr()) };
    SQLITE_ERROR
}

fn error(code: VfsErrorCode, message: &'static str) -> VfsError {
    VfsError::new(code, message.into())
}
