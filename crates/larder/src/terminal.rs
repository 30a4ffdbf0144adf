//! Standard output and standard error, which may be a terminal, or a pipe that nobody reads any more.
//!
//! Everything goes out as lines that are plain text: no name that came from elsewhere can command a terminal, or pass for a
//! line of its own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Write;

use anyhow::Context;

/// Writes lines to standard output.
///
/// # Errors
/// Nobody reads it, or it cannot be written.
pub(crate) fn say<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) -> anyhow::Result<()> {
    write(&mut std::io::stdout().lock(), lines).context("standard output")
}

/// Writes lines to standard error. If it is closed, there is nobody to tell.
pub(crate) fn remark<S: AsRef<str>>(lines: impl IntoIterator<Item = S>) {
    let _ = write(&mut std::io::stderr().lock(), lines);
}

fn write<S: AsRef<str>>(output: &mut impl Write, lines: impl IntoIterator<Item = S>) -> std::io::Result<()> {
    let text: String = lines.into_iter().map(|line| format!("{}\n", plain(line.as_ref()))).collect();
    output.write_all(text.as_bytes())?;
    output.flush()
}

/// One line of text in which nothing commands a terminal: such characters are spelled out, in a way that JSON takes too.
pub(crate) fn plain(line: &str) -> Cow<'_, str> {
    // Beside control characters, those that turn the order of the text around them.
    let commands = |char: char| char.is_control() || matches!(char, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !line.contains(commands) {
        return line.into();
    }
    let mut plain = String::with_capacity(line.len());
    for char in line.chars() {
        // Writing to a string cannot fail.
        let _ = if commands(char) { write!(plain, "\\u{:04x}", u32::from(char)) } else { plain.write_char(char) };
    }
    plain.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_command_the_terminal_nor_begin_a_line() {
        assert_eq!(plain("a \u{1b}[2J\nready\u{9b}2J\u{7f}\u{202e}"), "a \\u001b[2J\\u000aready\\u009b2J\\u007f\\u202e");
        assert_eq!(plain("Ünïcode/日本 'x' \\u001b"), "Ünïcode/日本 'x' \\u001b");
    }

    #[test]
    fn a_document_stays_the_same_document() {
        let document = serde_json::json!({"name": "\u{9b}2J\u{202e}\u{1b}\n", "path": "\\u001b"});
        let mut written = Vec::new();
        write(&mut written, serde_json::to_string_pretty(&document).unwrap().lines()).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(written.lines().all(|line| !line.contains(char::is_control)), "{written}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&written).unwrap(), document);
    }
}
