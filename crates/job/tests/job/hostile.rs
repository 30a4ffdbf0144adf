//! Nothing that is written in a definition makes reading it fail otherwise than with an error.

use larder_job::{Settings, parse, parse_required};
use proptest::prelude::*;
use proptest::sample::Index;

const DEFINITIONS: [&str; 6] = [
    include_str!("../definitions/serve-chat.json"),
    include_str!("../definitions/video-workflow.json"),
    include_str!("../definitions/fold-and-report.json"),
    include_str!("../definitions/confidential.json"),
    include_str!("../definitions/pick-then-run.json"),
    include_str!("../definitions/required-resources.json"),
];

/// Pieces that mean something somewhere, to put where they do not belong.
const PIECES: [&str; 18] = [
    "null",
    "7",
    "true",
    "[]",
    "{}",
    "\"\"",
    "\"__remove-if-empty__\"",
    "{\"__spread__\": [[]]}",
    "%%",
    "%%global.variables.SIZE%%",
    "/../",
    "\\u0000",
    ",",
    ":",
    "\"",
    "[[[[",
    "\"target\": \"/\"",
    "é",
];

fn read(text: &str) -> Option<String> {
    let settings = Settings::from_pairs(["ops.pick.results.prefix=p", "ops.pick.results.resources_json=[]"]).unwrap();
    let job = parse(text, &settings).map_err(|error| error.to_string());
    let required = parse_required(text).map_err(|error| error.to_string());
    let shown = format!("{job:?} {required:?}");
    shown.contains("HUSH").then_some(shown)
}

fn char_at(text: &str, at: Index) -> usize {
    (0..=at.index(text.len() + 1)).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0)
}

proptest! {
    #[test]
    fn a_definition_with_anything_in_it_is_read_or_refused(
        which in 0..DEFINITIONS.len(),
        edits in proptest::collection::vec((any::<Index>(), any::<Index>(), 0..PIECES.len()), 1..4),
    ) {
        let mut text = DEFINITIONS[which].to_owned();
        for (from, to, piece) in edits {
            let from = char_at(&text, from);
            let to = from + char_at(&text[from..].chars().take(40).collect::<String>(), to);
            text.replace_range(from..to, PIECES[piece]);
        }
        let _ = read(&text);
    }

    #[test]
    fn a_value_of_another_kind_anywhere_is_read_or_refused_without_a_secret(
        which in 0..DEFINITIONS.len(), at in any::<Index>(), piece in 0..8usize,
    ) {
        let mut definition: serde_json::Value = serde_json::from_str(DEFINITIONS[which]).unwrap();
        let mut count = 0;
        walk(&mut definition, &mut |_| count += 1);
        let (wanted, mut seen) = (at.index(count), 0);
        walk(&mut definition, &mut |value| {
            if seen == wanted {
                *value = serde_json::from_str(PIECES[piece]).unwrap();
            }
            seen += 1;
        });
        prop_assert_eq!(read(&definition.to_string()), None);
    }

    #[test]
    fn any_text_is_refused(text in "\\PC{0,64}") {
        prop_assert!(parse(&text, &Settings::default()).is_err());
    }
}

fn walk(value: &mut serde_json::Value, visit: &mut impl FnMut(&mut serde_json::Value)) {
    visit(value);
    if let Some(list) = value.as_array_mut() {
        list.iter_mut().for_each(|item| walk(item, visit));
    } else if let Some(object) = value.as_object_mut() {
        object.values_mut().for_each(|item| walk(item, visit));
    }
}
