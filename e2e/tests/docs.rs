//! What the documents say about the tests is so.

use granary_e2e::paths::checkout;

/// Pages whose tables name, in each row, the tests that show it; and the words with which their headings begin.
const PAGES: [(&str, &str); 2] = [("docs/bad-input.md", "| input "), ("docs/reliability.md", "| fault ")];

fn read(path: &str) -> String {
    std::fs::read_to_string(checkout().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn every_test_that_a_page_names_exists() {
    for (page, _) in PAGES {
        let text = read(page);
        let named: Vec<_> = text.split('`').filter_map(|code| code.split_once(".rs::")).collect();
        assert!(named.len() > 100, "{page} names only {} tests", named.len());
        for (path, test) in named {
            let path = format!("{path}.rs");
            assert!(read(&path).contains(&format!("fn {test}(")), "{page}: {path} has no test {test}");
        }
    }
}

#[test]
fn every_fuzz_target_that_a_page_names_exists_and_none_is_left_out() {
    let page = read("docs/reliability.md");
    let mut named: Vec<_> = page.split('`').filter_map(|code| code.strip_prefix("fuzz/fuzz_targets/")).collect();
    let targets = std::fs::read_dir(checkout().join("fuzz/fuzz_targets")).unwrap();
    let mut targets: Vec<_> = targets.map(|target| target.unwrap().file_name().into_string().unwrap()).collect();
    named.sort();
    targets.sort();
    assert_eq!(named, targets);
}

#[test]
fn every_row_of_these_pages_names_a_test() {
    for (page, heading) in PAGES {
        let text = read(page);
        let (headings, rows): (Vec<_>, Vec<_>) =
            text.lines().filter(|line| line.starts_with("| ")).partition(|line| line.starts_with(heading));
        assert!(headings.len() > 3, "{page} has only {} tables", headings.len());
        for row in rows {
            assert!(row.contains(".rs::"), "{page}: {row}");
        }
    }
}
