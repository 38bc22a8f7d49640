//! The listing of one source in memory: 32 bytes, key and pin for each file.

use granary_image::{Pin, PinKind, SourceId};

use crate::{Reason, SourceSummary, name, skipped::Account};

/// Takes a source's keys in any order and hands its files out in byte order.
pub(crate) struct Collector {
    pub(crate) source: SourceId,
    pub(crate) prefix: String,
    pub(crate) skipped: Account,
    /// The file's name for the key "".
    object_name: Option<String>,
    records: Vec<Record>,
    /// Keys and pins, one after the other.
    text: String,
    sorted: bool,
}

struct Record {
    size: u64,
    text_at: u64,
    key_len: u32,
    pin_len: u32,
    pin_kind: PinKind,
}

/// A file of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    pub(crate) key: &'a str,
    /// Path below the source's place in the dataset.
    pub(crate) name: &'a str,
    pub(crate) size: u64,
    pub(crate) pin_kind: PinKind,
    pub(crate) pin: &'a str,
}

impl Collector {
    pub(crate) fn new(source: SourceId, prefix: String, object_name: Option<&str>) -> Self {
        let object_name = object_name.map(str::to_owned);
        let (records, text, skipped) = (Vec::new(), String::new(), Account::default());
        Self { source, prefix, skipped, object_name, records, text, sorted: true }
    }

    /// Takes an object of the listing.
    pub(crate) fn add(&mut self, key: &str, size: u64, pin: &Pin) {
        let name = if key.is_empty() { self.object_name.as_deref().unwrap_or_default() } else { key };
        if let Some(reason) = name::obstacle(name, size, self.prefix.len()) {
            self.skipped.add(reason, &self.prefix, name);
            return;
        }
        self.sorted &= self.records.last().is_none_or(|last| self.entry(last).name < name);
        let lengths = (u32::try_from(key.len()), u32::try_from(pin.value.len()));
        let (Ok(key_len), Ok(pin_len)) = lengths else {
            // Keys are as long as paths at most, and a pin of 4 GiB is no pin.
            self.skipped.add(Reason::UnusableName, &self.prefix, name);
            return;
        };
        self.records.push(Record { size, text_at: self.text.len() as u64, key_len, pin_len, pin_kind: pin.kind });
        self.text.push_str(key);
        self.text.push_str(&pin.value);
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Puts the files in order and leaves out those that cannot be beside others.
    pub(crate) fn settle(&mut self) {
        if !self.sorted {
            let mut records = std::mem::take(&mut self.records);
            records.sort_by(|a, b| self.entry(a).name.cmp(self.entry(b).name));
            self.records = records;
            self.leave_out_duplicates();
            self.sorted = true;
        }
        self.leave_out_files_that_are_folders();
    }

    /// The files, after [`settle`](Self::settle) in the byte order of their paths.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.records.iter().map(|record| self.entry(record))
    }

    pub(crate) fn summary(&self) -> SourceSummary {
        SourceSummary {
            file_count: self.records.len() as u64,
            size_bytes: self.records.iter().map(|record| record.size).fold(0, u64::saturating_add),
            pinned_by: self.records.iter().map(|record| record.pin_kind).max().unwrap_or(PinKind::VersionId),
        }
    }

    fn entry(&self, record: &Record) -> Entry<'_> {
        let start = record.text_at as usize;
        let middle = start + record.key_len as usize;
        let key = &self.text[start..middle];
        let name = if key.is_empty() { self.object_name.as_deref().unwrap_or_default() } else { key };
        let pin = &self.text[middle..middle + record.pin_len as usize];
        Entry { key, name, size: record.size, pin_kind: record.pin_kind, pin }
    }

    /// Of equal keys the one listed last stays: sorting kept their order.
    fn leave_out_duplicates(&mut self) {
        let mut repeated = vec![false; self.records.len()];
        for at in 1..self.records.len() {
            let (before, this) = (self.entry(&self.records[at - 1]), self.entry(&self.records[at]));
            repeated[at - 1] = before.name == this.name;
            if repeated[at - 1] && before != this {
                let name = before.name.to_owned();
                self.skipped.add(Reason::DuplicateKey, &self.prefix, &name);
            }
        }
        self.remove(&repeated);
    }

    /// A key `a` cannot be a file beside `a/b`. The folder stays, so that one key is left out, not many. Between the two in
    /// byte order can be keys such as `a.b`; all of them begin with `a`.
    fn leave_out_files_that_are_folders(&mut self) {
        let mut is_folder = vec![false; self.records.len()];
        let mut found = false;
        // Positions of keys that begin the current one, each beginning the next.
        let mut beginnings: Vec<usize> = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            let name = self.entry(record).name;
            while let Some(&file) = beginnings.last() {
                if name.starts_with(self.entry(&self.records[file]).name) {
                    break;
                }
                beginnings.pop();
            }
            for &file in &beginnings {
                if name.as_bytes().get(self.entry(&self.records[file]).name.len()) == Some(&b'/') {
                    is_folder[file] = true;
                    found = true;
                }
            }
            beginnings.push(at);
        }
        if !found {
            return;
        }
        for at in (0..self.records.len()).filter(|&at| is_folder[at]) {
            let name = self.entry(&self.records[at]).name.to_owned();
            self.skipped.add(Reason::FileAndFolder, &self.prefix, &name);
        }
        self.remove(&is_folder);
    }

    fn remove(&mut self, unwanted: &[bool]) {
        let mut unwanted = unwanted.iter();
        self.records.retain(|_| !*unwanted.next().expect("there is one for each record"));
    }
}
