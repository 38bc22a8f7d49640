//! What the documents say about the tests is so.

use granary_e2e::paths::checkout;

#[test]
fn every_test_that_the_page_on_bad_input_names_exists() {
    let page = std::fs::read_to_string(checkout().join("docs/bad-input.md")).unwrap();
    let named: Vec<_> = page.split('`').filter_map(|code| code.split_once(".rs::")).collect();
    assert!(named.len() > 100, "only {} tests are named", named.len());
    for (path, test) in named {
        let path = format!("{path}.rs");
        let text = std::fs::read_to_string(checkout().join(&path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert!(text.contains(&format!("fn {test}(")), "{path} has no test {test}");
    }
}

#[test]
fn every_row_of_the_page_on_bad_input_names_a_test() {
    let page = std::fs::read_to_string(checkout().join("docs/bad-input.md")).unwrap();
    let rows = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| input "));
    for row in rows {
        assert!(row.contains(".rs::"), "{row}");
    }
}
