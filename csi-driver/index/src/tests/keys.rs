//! Which keys become files, and what is said about the others.

use granary_image::PinKind;

use super::{listed, pin};
use crate::{
    Reason::{self, *},
    collect::Collector,
    name::obstacle,
    skipped::{Account, Skipped},
};

fn names(mut collector: Collector) -> (Vec<String>, Vec<Skipped>) {
    collector.settle();
    let names = collector.entries().map(|entry| entry.name.to_owned()).collect();
    (names, collector.skipped.finish())
}

fn skipped(reason: Reason, examples: &[&str]) -> Skipped {
    Skipped { reason, count: examples.len() as u64, examples: examples.iter().map(|&e| e.to_owned()).collect() }
}

#[test]
fn each_odd_key_has_its_reason() {
    let long_part = "é".repeat(128);
    let deepest = "p/".repeat(511) + "ab";
    let table: &[(&str, u64, Option<Reason>)] = &[
        ("a", 1, None),
        ("a", 0, None),
        ("ünï/文件 🦀", 1, None),
        (" ", 1, None),
        ("...", 1, None),
        (".hidden/..x", 1, None),
        ("back\\slash\n", 1, None),
        (&deepest, 1, None),
        (&long_part[..254], 1, None),
        (&long_part, 1, Some(NameTooLong)),
        ("..", 1, Some(UnusableName)),
        ("a/../b", 1, Some(UnusableName)),
        (".", 1, Some(UnusableName)),
        ("a/./b", 1, Some(UnusableName)),
        ("a//b", 1, Some(UnusableName)),
        ("/a", 1, Some(UnusableName)),
        ("/a", 0, Some(UnusableName)),
        ("a/", 1, Some(UnusableName)),
        ("", 1, Some(UnusableName)),
        ("a\0b", 1, Some(UnusableName)),
        ("a/", 0, Some(FolderMarker)),
        ("a//", 0, Some(FolderMarker)),
        ("/", 0, Some(FolderMarker)),
        ("", 0, Some(FolderMarker)),
    ];
    for (key, size, reason) in table {
        assert_eq!(obstacle(key, *size, 0), *reason, "{key:?} of {size}");
    }
    assert_eq!((deepest.len(), obstacle(&deepest, 1, 4095 - 1024)), (1024, None));
    assert_eq!(obstacle(&deepest, 1, 4096 - 1024), Some(NameTooLong));
}

#[test]
fn a_key_that_is_also_a_folder_is_left_out() {
    let keys =
        [("a", 1), ("a.b", 1), ("a.b.c", 1), ("a.b/x", 1), ("a/b", 1), ("a/b/c", 1), ("ab", 1), ("ab/", 0), ("c", 1)];
    let (names, account) = names(listed("", &keys));
    assert_eq!(names, ["a.b.c", "a.b/x", "a/b/c", "ab", "c"]);
    assert_eq!(account, [skipped(FileAndFolder, &["a", "a.b", "a/b"]), skipped(FolderMarker, &["ab/"])]);
}

#[test]
fn a_listing_in_another_order_is_sorted() {
    let (names, account) = names(listed("", &[("b", 1), ("a/x", 1), ("a", 1), ("a-", 1)]));
    assert_eq!(names, ["a-", "a/x", "b"]);
    assert_eq!(account, [skipped(FileAndFolder, &["a"])]);
}

#[test]
fn of_a_key_listed_twice_the_last_one_stays() {
    let mut collector = listed("p/", &[("b", 1), ("a", 1), ("c", 1), ("a", 1), ("b", 2), ("b", 3)]);
    collector.settle();
    let entries: Vec<_> = collector.entries().map(|entry| (entry.key, entry.size)).collect();
    assert_eq!(entries, [("a", 1), ("b", 3), ("c", 1)]);
    // The second `a` was the same object: nothing was left out.
    let account = collector.skipped.finish();
    assert_eq!(account, [Skipped { reason: DuplicateKey, count: 2, examples: vec!["p/b".to_owned()] }]);
}

#[test]
fn a_source_that_is_one_object_is_a_file_of_its_name() {
    let (names, account) = names(listed("models/", &[("", 5)]));
    assert_eq!((names, account), (vec!["object.bin".to_owned()], vec![]));
}

#[test]
fn examples_are_few_short_and_printable() {
    let mut account = Account::default();
    for i in (0..50).rev() {
        account.add(UnusableName, "p/", &format!("{i:02}//"));
    }
    account.add(NameTooLong, "", &"ж".repeat(600));
    account.add(FileAndFolder, "", &"x".repeat(1024));
    let mut other = Account::default();
    other.add(UnusableName, "", "\u{1b}[31m\0");
    account.merge(other);
    let account = account.finish();
    assert_eq!((account[0].reason, account[0].count), (UnusableName, 51));
    assert_eq!(account[0].examples, ["\\u{1b}[31m\\u{0}", "p/00//", "p/01//", "p/02//", "p/03//"]);
    assert_eq!(account[1].examples, ["ж".repeat(510) + "…"]);
    assert_eq!(account[2].examples, ["x".repeat(1024)]);
}

#[test]
fn a_source_is_as_weakly_pinned_as_its_weakest_file() {
    let mut collector = listed("", &[("a", 5), ("b", 7)]);
    assert_eq!(collector.summary().pinned_by, PinKind::ETag);
    collector.add("c", 0, &granary_image::Pin { kind: PinKind::SizeOnly, value: String::new() });
    let summary = collector.summary();
    assert_eq!((summary.file_count, summary.size_bytes, summary.pinned_by), (3, 12, PinKind::SizeOnly));
    collector.add("bad//", 1, &pin("x"));
    assert_eq!(collector.summary(), summary);
}
