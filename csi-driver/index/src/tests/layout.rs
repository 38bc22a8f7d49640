use crate::{IndexError, layout::check};

#[test]
fn sources_follow_each_other_in_byte_order_of_their_files() {
    let layout = check([Some("train"), Some("labels"), Some("train.old"), Some("train-2/x")].into_iter()).unwrap();
    assert_eq!(layout.prefixes, ["train/", "labels/", "train.old/", "train-2/x/"]);
    // '-' and '.' are before '/'.
    assert_eq!(layout.order, [1, 3, 2, 0]);
    assert_eq!(check([None].into_iter()).unwrap().prefixes, [""]);
    assert_eq!(check([].into_iter()).unwrap().order, [0; 0]);
}

#[test]
fn paths_that_overlap_or_are_none_are_refused() {
    for paths in
        [[None, Some("a")], [Some("a"), Some("a")], [Some("a/b"), Some("a")], [None, None], [Some(""), Some("x")]]
    {
        assert!(matches!(check(paths.into_iter()), Err(IndexError::Overlap(..))), "{paths:?}");
    }
    for path in ["/a", "a/", "..", "a/./b", "a//b"] {
        let error = check([Some(path)].into_iter()).unwrap_err();
        assert!(error.to_string().contains(path) && error.reason() == "SourceInvalid", "{error}");
    }
}
