//! Pictures as SVG: shapes, words, and nothing that is not escaped.

use std::fmt::Write;

/// Text as it stands in HTML, in an element or in an attribute.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // HTML knows no other control characters.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A coordinate, to a tenth of a pixel.
pub(super) fn at(value: f64) -> String {
    let text = format!("{:.1}", if value.is_finite() { value } else { 0.0 });
    match text.strip_suffix(".0") {
        Some("-0") => "0".to_owned(),
        Some(whole) => whole.to_owned(),
        None => text,
    }
}

/// Lines from point to point, as the data of a path.
pub(super) fn through(points: &[[f64; 2]]) -> String {
    let mut data = String::new();
    for (number, [x, y]) in points.iter().enumerate() {
        data.push(if number == 0 { 'M' } else { 'L' });
        data.push_str(&at(*x));
        data.push(' ');
        data.push_str(&at(*y));
    }
    data
}

/// Which side of a text its place is at.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that is being drawn. Classes are ours, every other text is escaped.
#[derive(Debug)]
pub(super) struct Picture {
    width: f64,
    height: f64,
    body: String,
}

impl Picture {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// A shape; `title` is shown where a pointer rests on it.
    pub(super) fn path(&mut self, class: &str, data: &str, title: &str) {
        let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        self.put(format_args!("<path class=\"{class}\" d=\"{data}\">{title}</path>"));
    }

    /// A straight line.
    pub(super) fn line(&mut self, class: &str, from: [f64; 2], to: [f64; 2]) {
        self.path(class, &through(&[from, to]), "");
    }

    /// A rectangle with its upper left corner at a place.
    pub(super) fn rectangle(&mut self, class: &str, [x, y]: [f64; 2], [width, height]: [f64; 2], title: &str) {
        self.path(class, &format!("M{} {}h{}v{}h{}z", at(x), at(y), at(width), at(height), at(-width)), title);
    }

    /// Words at a place.
    pub(super) fn words(&mut self, class: &str, [x, y]: [f64; 2], anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.put(format_args!("<text class=\"{class}\" x=\"{}\" y=\"{}\" text-anchor=\"{anchor}\">{}</text>", at(x), at(y), escape(text)));
    }

    /// Words along a line from the middle of the picture, as far from it as `radius`, at an angle from the top, clockwise.
    pub(super) fn spoke(&mut self, class: &str, radius: f64, angle: f64, text: &str) {
        let (x, y) = (self.width / 2.0 + radius * angle.sin(), self.height / 2.0 - radius * angle.cos());
        let degrees = angle.to_degrees() - 90.0;
        let (turn, anchor) = if angle.sin() < 0.0 { (degrees + 180.0, "end") } else { (degrees, "start") };
        let (x, y, turn) = (at(x), at(y), at(turn));
        let place = format!("x=\"{x}\" y=\"{y}\" transform=\"rotate({turn} {x} {y})\"");
        self.put(format_args!("<text class=\"{class}\" {place} text-anchor=\"{anchor}\" dy=\".35em\">{}</text>", escape(text)));
    }

    /// What is drawn meanwhile belongs together.
    pub(super) fn group(&mut self, class: &str, style: &str, draw: impl FnOnce(&mut Self)) {
        let style = if style.is_empty() { String::new() } else { format!(" style=\"{style}\"") };
        self.put(format_args!("<g class=\"{class}\"{style}>"));
        draw(self);
        self.put(format_args!("</g>"));
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(what);
    }

    /// The picture, with what it shows in words for those who do not see it.
    pub(super) fn finish(self, class: &str, shows: &str) -> String {
        let Self { width, height, body } = self;
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{body}</svg>",
            at(width),
            at(height),
            escape(shows)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_can_end_its_element_or_attribute() {
        assert_eq!(escape("<b a=\"1\" c='2'>&\u{0}"), "&lt;b a=&quot;1&quot; c=&#39;2&#39;&gt;&amp;\u{fffd}");
        let mut picture = Picture::new(10.0, 10.0);
        picture.words("label", [0.0, 0.0], Anchor::Start, "</text><script>");
        picture.path("line", "M0 0", "</title><script>");
        picture.spoke("label", 4.0, 4.0, "<script>");
        assert!(!picture.finish("plot", "\"><script>").contains("<script"));
    }

    #[test]
    fn coordinates_are_short_and_always_numbers() {
        assert_eq!([1.0, 0.04, -0.04, 12.345, f64::NAN, f64::INFINITY].map(at), ["1", "0", "0", "12.3", "0", "0"]);
        assert_eq!(through(&[[0.0, 1.0], [2.5, 3.0]]), "M0 1L2.5 3");
    }
}
