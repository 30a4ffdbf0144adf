//! Holds the schema's page to the schema.

use serde_json::Value;

use super::samples;

const PAGE: &str = include_str!("../../../../docs/report.md");

fn fields(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            for (name, value) in object {
                names.push(name.clone());
                fields(value, names);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| fields(value, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn every_field_of_a_written_report_is_told_in_its_page() {
    let mut names = Vec::new();
    fields(&serde_json::to_value(samples::mixed()).unwrap(), &mut names);
    names.sort_unstable();
    names.dedup();
    assert!(names.len() > 50, "{names:?}");
    let missing: Vec<&String> = names.iter().filter(|name| !PAGE.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "docs/report.md does not name {missing:?}");
}

#[test]
fn a_report_that_was_written_and_read_is_the_same_row_of_a_table() {
    let folder = tempfile::tempdir().unwrap();
    for report in [samples::eight(), samples::mixed(), samples::never(), samples::nothing()] {
        let path = folder.path().join("report.json");
        report.write(&path).unwrap();
        let read = super::Report::read(&path).unwrap();
        // Times may differ in their last bit.
        assert_eq!((&read.fed, read.jobs.len(), read.origin), (&report.fed, report.jobs.len(), report.origin));
        assert_eq!(super::table(&[read]), super::table(&[report]));
    }
}
