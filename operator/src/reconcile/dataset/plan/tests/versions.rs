//! Which versions are current, kept and warned about.

use super::*;

#[test]
fn a_pin_is_served_by_no_other_version() {
    for (pin, looked_for, expected, ready) in [
        (json!({"version": "d-1"}), None, Some("d-1"), reasons::VERSION_CURRENT),
        (json!({"version": "d-9"}), None, None, reasons::VERSION_NOT_FOUND),
        (json!({"digest": "sha256:1"}), None, Some("d-1"), reasons::VERSION_CURRENT),
        (json!({"digest": "sha256:9"}), None, None, reasons::INDEXING),
        (json!({"digest": "sha256:9"}), Some("sha256:9"), None, reasons::DIGEST_MISMATCH),
    ] {
        let mut pinned = seen(json!({"pin": pin}), 2);
        if looked_for.is_some() {
            looked(&mut pinned, "d-2", looked_for);
        }
        let plan = planned(&pinned);
        assert_eq!(current(&plan), expected, "{pin}");
        assert_eq!(condition(&plan, types::READY).unwrap().1, ready, "{pin}");
        assert_eq!(plan.status.unwrap().latest_version.unwrap().name, "d-2");
    }
}

#[test]
fn a_lost_image_is_made_again_only_if_it_is_the_latest() {
    let mut lost = seen(json!({}), 2);
    lost.stored.clear();
    let plan = planned(&lost);
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::INDEXING)));
    assert!(plan.create_job.is_some());
    let mut pinned = seen(json!({"pin": {"version": "d-1"}}), 2);
    pinned.stored.retain(|name| name != "d-1");
    let plan = planned(&pinned);
    assert_eq!(condition(&plan, types::READY), Some(("False", reasons::IMAGE_MISSING)));
    assert!(plan.create_job.is_none());
}

#[test]
fn an_earlier_listing_is_current_again() {
    let mut back = seen(json!({}), 3);
    looked(&mut back, "d-1", None);
    assert_eq!(current(&planned(&back)), Some("d-1"));
}

#[test]
fn history_is_pruned_but_not_what_is_needed() {
    let all = |limit: i32| seen(json!({"revisionHistoryLimit": limit}), 6);
    assert!(planned(&all(5)).delete_versions.is_empty());
    assert_eq!(planned(&all(3)).delete_versions, ["d-1", "d-2"]);

    let mut needed = all(0);
    needed.usage.pods.insert("d-1".to_owned(), 1);
    needed.fixed.insert("d-2".to_owned());
    needed.fixed.insert("sha256:3".to_owned());
    Arc::make_mut(&mut needed.dataset).spec.pin = Some(Pin { version: Some("d-4".to_owned()), digest: None });
    assert_eq!(planned(&needed).delete_versions, ["d-5"]);

    // The head of the blob stays, though an earlier version is current again; oldest use goes first.
    let mut back = all(1);
    looked(&mut back, "d-2", None);
    let used = back.versions.iter_mut().find(|version| version.spec.revision == 1).unwrap();
    Arc::make_mut(used).status.get_or_insert_default().last_current_time = Some(Time(at(50)));
    assert_eq!(planned(&back).delete_versions, ["d-3", "d-4", "d-5"]);
}

#[test]
fn a_changed_object_is_said_until_the_next_look() {
    let mut read = seen(json!({}), 2);
    let changed = |second, version: &str| ChangedRead {
        node: "n1".to_owned(),
        time: at(second),
        versions: [version.to_owned()].into(),
    };
    for (second, version, expected) in [
        (50, "d-2", ("False", reasons::OBJECT_CHANGED)),
        (50, "d-1", ("True", reasons::AS_PINNED)),
        (-1, "d-2", ("True", reasons::AS_PINNED)),
    ] {
        read.usage.changed = vec![changed(second, version)];
        assert_eq!(condition(&planned(&read), types::SOURCE_UNCHANGED), Some(expected), "{second} {version}");
    }
}

#[test]
fn warnings_about_content() {
    for (change, complete, strong) in [
        (json!({}), reasons::ALL_LISTED, reasons::ALL_PINNED),
        (json!({"fileCount": 0}), reasons::EMPTY, reasons::ALL_PINNED),
        (json!({"skipped": [{"reason": "NameTooLong", "count": 2}]}), reasons::KEYS_SKIPPED, reasons::ALL_PINNED),
        (json!({"skipped": [{"reason": "FolderMarker", "count": 2}]}), reasons::ALL_LISTED, reasons::ALL_PINNED),
        (
            json!({"sources": [{"uri": "file:///x", "fileCount": 1, "sizeBytes": 1, "pinnedBy": "ModificationTime"}]}),
            reasons::ALL_LISTED,
            reasons::WEAK_SOURCE,
        ),
    ] {
        let mut seen = seen(json!({}), 1);
        let mut spec = serde_json::to_value(&seen.versions[0].spec).unwrap();
        spec.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        Arc::make_mut(&mut seen.versions[0]).spec = serde_json::from_value(spec).unwrap();
        let plan = planned(&seen);
        assert_eq!(condition(&plan, types::CONTENT_COMPLETE).unwrap().1, complete);
        assert_eq!(condition(&plan, types::STRONGLY_PINNED).unwrap().1, strong);
        assert_eq!(condition(&plan, types::READY).unwrap().0, "True");
    }
}
