use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const PAGE_SIZE: u32 = 512;

/// A file as one byte for each page.
type Image = Vec<u8>;

#[derive(Debug, Clone)]
enum Step {
    Write { page: u32, byte: u8 },
    Truncate { page_count: Index },
    Commit,
    Rollback,
    Take,
    Saved,
    Failed { stored: bool },
    Crash { stored: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..12_u32, 1..=255_u8).prop_map(|(page, byte)| Step::Write { page, byte }),
        2 => any::<Index>().prop_map(|page_count| Step::Truncate { page_count }),
        4 => Just(Step::Commit),
        2 => Just(Step::Rollback),
        4 => Just(Step::Take),
        2 => Just(Step::Saved),
        2 => any::<bool>().prop_map(|stored| Step::Failed { stored }),
        1 => any::<bool>().prop_map(|stored| Step::Crash { stored }),
    ]
}

/// The pages under test beside what they should be: the file as a plain vector, each commit as a copy of it.
struct Model {
    pages: Pages,
    file: Image,
    /// Since the last crash; the first is what was loaded.
    commits: Vec<Image>,
    storage: BTreeMap<u32, u8>,
    /// That of the last batch that storage took.
    digest: u64,
    /// The commit that storage is known to have.
    acknowledged: usize,
    in_flight: Option<Batch>,
}

impl Model {
    fn new() -> Self {
        Self {
            pages: Pages::new(PAGE_SIZE),
            file: Image::new(),
            commits: vec![Image::new()],
            storage: BTreeMap::new(),
            digest: 0,
            acknowledged: 0,
            in_flight: None,
        }
    }

    fn write(&mut self, page: u32, byte: u8) {
        let offset = u64::from(page - 1) * u64::from(PAGE_SIZE);
        self.pages.write(&[byte; PAGE_SIZE as usize], offset).unwrap();
        let index = page as usize - 1;
        if self.file.len() <= index {
            self.file.resize(index + 1, 0);
        }
        self.file[index] = byte;
    }

    fn truncate(&mut self, page_count: usize) {
        self.pages.truncate(page_count as u64 * u64::from(PAGE_SIZE));
        self.file.truncate(page_count);
    }

    fn commit(&mut self) {
        self.pages.commit();
        if self.pages.commits() as usize == self.commits.len() {
            self.commits.push(self.file.clone());
        }
        assert_eq!(self.pages.commits() as usize, self.commits.len() - 1);
        assert_eq!(self.commits.last(), Some(&self.file), "a change without a commit");
    }

    /// As SQLite does it: what was written is written back.
    fn roll_back(&mut self) {
        let before = self.commits.last().unwrap().clone();
        for (index, byte) in before.iter().enumerate() {
            if self.file.get(index) != Some(byte) {
                self.write(index as u32 + 1, *byte);
            }
        }
        self.truncate(before.len());
    }

    /// What storage does with a batch, all of it; then it has to be a commit.
    fn store(&mut self, batch: &Batch) {
        assert!(batch.pages.is_sorted_by(|(a, _), (b, _)| a < b));
        assert!(batch.pages.iter().all(|(number, _)| *number <= batch.page_count), "a page beyond the end");
        self.storage.extend(batch.pages.iter().map(|(number, page)| (*number, page[0])));
        self.storage.split_off(&(batch.page_count + 1));
        let keys: Vec<u32> = self.storage.keys().copied().collect();
        assert_eq!(keys, (1..=batch.page_count).collect::<Vec<_>>(), "storage has holes");
        assert_eq!(self.stored(), self.commits[batch.commit as usize], "storage is no commit");
        assert!(batch.commit as usize >= self.acknowledged);
        self.digest = batch.digest;
    }

    fn stored(&self) -> Image {
        self.storage.values().copied().collect()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Write { page, byte } => self.write(page, byte),
            Step::Truncate { page_count } => self.truncate(page_count.index(self.file.len() + 1)),
            Step::Commit => self.commit(),
            Step::Rollback => self.roll_back(),
            Step::Take => {
                let waiting = self.in_flight.is_some();
                let batch = self.pages.take_batch();
                assert!(!(waiting && batch.is_some()), "two batches in flight");
                self.in_flight = self.in_flight.take().or(batch);
            }
            Step::Saved => {
                if let Some(batch) = self.in_flight.take() {
                    self.store(&batch);
                    self.pages.batch_saved(batch.generation).unwrap();
                    self.acknowledged = batch.commit as usize;
                }
            }
            Step::Failed { stored } => {
                if let Some(batch) = self.in_flight.take() {
                    if stored {
                        self.store(&batch);
                    }
                    self.pages.batch_failed(batch.generation).unwrap();
                }
            }
            Step::Crash { stored } => {
                if let Some(batch) = self.in_flight.take().filter(|_| stored) {
                    self.store(&batch);
                }
                let image = self.stored();
                assert!(self.commits[self.acknowledged..].contains(&image), "an acknowledged commit is lost");
                let storage = std::mem::take(&mut self.storage);
                *self = Self { file: image.clone(), commits: vec![image], storage, digest: self.digest, ..Self::new() };
                for (number, byte) in &self.storage {
                    self.pages.load(*number, &[*byte; PAGE_SIZE as usize]).unwrap();
                }
                assert_eq!(self.pages.digest(), self.digest, "what is stored has another digest than its batch");
            }
        }
    }

    /// SQLite reads what it wrote.
    fn check_file(&self) {
        let mut bytes = vec![0xEE; self.file.len() * PAGE_SIZE as usize + 1];
        assert_eq!(self.pages.read(&mut bytes, 0), bytes.len() - 1);
        let image: Image = bytes.chunks_exact(PAGE_SIZE as usize).map(|page| page[0]).collect();
        assert_eq!(image, self.file);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn storage_is_always_a_commit_at_or_after_the_last_acknowledged(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.run(step);
            model.check_file();
        }
        model.run(&Step::Saved);
        model.run(&Step::Take);
        model.run(&Step::Saved);
        prop_assert!(model.pages.is_clean());
        prop_assert_eq!(model.stored(), model.commits.last().unwrap().clone());
    }
}

#[test]
fn the_digest_tells_pages_that_were_changed_exchanged_or_lost() {
    let digest = |bytes: &[u8]| {
        let mut pages = Pages::new(PAGE_SIZE);
        pages.load(1, bytes).unwrap();
        pages.digest()
    };
    let sound = [[1; 512], [2; 512]].concat();
    let mut changed = sound.clone();
    changed[700] ^= 1;
    for other in [&changed, &[[2; 512], [1; 512]].concat(), &sound[..512].to_vec(), &Vec::new()] {
        assert_ne!(digest(other), digest(&sound));
    }
}

#[test]
fn reads_cross_pages_and_stop_at_the_end() {
    let mut pages = Pages::new(PAGE_SIZE);
    pages.load(1, &[[1; 512], [2; 512]].concat()).unwrap();
    let mut buffer = [9; 4];
    assert_eq!(pages.read(&mut buffer, 510), 4);
    assert_eq!(buffer, [1, 1, 2, 2]);
    assert_eq!(pages.read(&mut buffer, 1_022), 2);
    assert_eq!(pages.read(&mut buffer, 5_000), 0);
    assert_eq!(pages.read(&mut buffer, u64::MAX), 0);
}

#[test]
fn writes_are_whole_pages() {
    let mut pages = Pages::new(PAGE_SIZE);
    assert_eq!(pages.write(&[1; 511], 0), Err(NotAPage));
    assert_eq!(pages.write(&[1; 1024], 0), Err(NotAPage));
    assert_eq!(pages.write(&[1; 512], 100), Err(NotAPage));
    assert_eq!(pages.write(&[1; 512], u64::MAX - 511), Err(NotAPage));
    assert_eq!(pages.page_count(), 0);
}

#[test]
fn loading_is_strict() {
    let mut pages = Pages::new(PAGE_SIZE);
    assert_eq!(pages.load(2, &[0; 512]), Err(LoadError::OutOfOrder { expected: 1, found: 2 }));
    assert_eq!(pages.load(1, &[0; 513]), Err(LoadError::Torn(513)));
    let mut header = [0; 512];
    header[..16].copy_from_slice(b"SQLite format 3\0");
    header[16..18].copy_from_slice(&[0, 1]);
    assert_eq!(pages.load(1, &header), Err(LoadError::PageSize { expected: 512, found: 65_536 }));
    header[16..18].copy_from_slice(&[2, 0]);
    pages.load(1, &header).unwrap();
    pages.load(2, &[0; 1_024]).unwrap();
    assert_eq!(pages.load(3, &[0; 512]), Err(LoadError::OutOfOrder { expected: 4, found: 3 }));
    assert!(pages.open());
    assert_eq!(pages.load(4, &[0; 512]), Err(LoadError::InUse));
    pages.close();
    pages.write(&[1; 512], 0).unwrap();
    pages.commit();
    assert_eq!(pages.load(4, &[0; 512]), Err(LoadError::InUse));
}

#[test]
fn reports_on_another_batch_change_nothing() {
    let mut pages = Pages::new(PAGE_SIZE);
    assert_eq!(pages.batch_saved(0), Err(NotInFlight(0)));
    pages.write(&[1; 512], 0).unwrap();
    pages.commit();
    let batch = pages.take_batch().unwrap();
    assert_eq!(pages.batch_failed(batch.generation + 1), Err(NotInFlight(batch.generation + 1)));
    assert!(!pages.is_clean());
    pages.batch_saved(batch.generation).unwrap();
    assert_eq!(pages.batch_saved(batch.generation), Err(NotInFlight(batch.generation)));
    assert!(pages.is_clean());
}

#[test]
fn a_commit_that_changes_nothing_is_none() {
    let mut pages = Pages::new(PAGE_SIZE);
    pages.load(1, &[0; 1_024]).unwrap();
    pages.commit();
    assert_eq!(pages.commits(), 0);
    assert!(pages.take_batch().is_none());
    pages.truncate(512);
    pages.commit();
    let batch = pages.take_batch().unwrap();
    assert_eq!((batch.commit, batch.page_count, batch.pages.len()), (1, 1, 0));
}

fn record(number: u32, page: &[u8]) -> Vec<u8> {
    [page, &crate::digest_of_record(number, page)].concat()
}

#[test]
fn of_a_damaged_file_those_pages_are_loaded_that_are_what_was_saved() {
    let (one, two) = ([1; 512], [2; 512]);
    let mut flipped = record(3, &[3; 512]);
    flipped[100] ^= 1;
    let mut other_digest = record(4, &[4; 512]);
    other_digest[512] ^= 1;
    let records = [
        (record(1, &one), true),
        (record(2, &two), true),
        (flipped, false),
        (other_digest, false),
        // Under another's number; none; a part; as of a database that was saved before records had digests; too long.
        (record(1, &one), false),
        (vec![], false),
        (record(7, &one)[..511].to_vec(), false),
        (one.to_vec(), false),
        ([record(9, &one), vec![0]].concat(), false),
        (record(10, &two), true),
    ];
    let mut pages = Pages::new(PAGE_SIZE);
    for (index, (record, is_sound)) in records.iter().enumerate() {
        assert_eq!(pages.load_sound(record), Ok(*is_sound), "record {}", index + 1);
    }
    let mut file = vec![9; 10 * 512];
    assert_eq!(pages.read(&mut file, 0), 10 * 512);
    let shown: Vec<u8> = file.chunks(512).map(|page| page[0]).collect();
    assert_eq!(shown, [1, 2, 0, 0, 0, 0, 0, 0, 0, 2]);
    assert!(pages.open());
    assert_eq!(pages.load_sound(&record(11, &one)), Err(LoadError::InUse));
}
