//! A plot: two axes, and what is drawn between them.

use super::scale::Axis;
use super::svg::{Anchor, Picture, through};

/// How large a picture is, in pixels of a screen: it is drawn once for wide screens and once for narrow ones, since words that
/// shrink with their picture cannot be read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Size {
    pub(super) width: f64,
    pub(super) height: f64,
    /// How many ticks fit below it.
    pub(super) ticks: usize,
}

pub(super) const WIDE: Size = Size { width: 500.0, height: 290.0, ticks: 8 };
const NARROW: Size = Size { width: 330.0, height: 250.0, ticks: 5 };

/// A picture in both sizes; the page shows the one that fits.
pub(super) fn in_both_sizes(draw: impl Fn(Size) -> String) -> String {
    format!("<div class=\"wide\">{}</div><div class=\"narrow\">{}</div>", draw(WIDE), draw(NARROW))
}

/// Places beside the axes: for words above, right, below and left.
const MARGINS: [f64; 4] = [26.0, 12.0, 40.0, 46.0];

/// A plot that is being drawn.
#[derive(Debug)]
pub(super) struct Plot {
    picture: Picture,
    size: Size,
    x: Axis,
    y: Axis,
}

impl Plot {
    /// Axes and their lines.
    pub(super) fn new(size: Size, x: Axis, y: Axis) -> Self {
        let mut plot = Self { picture: Picture::new(size.width, size.height), size, x, y };
        let [top, right, bottom, left] = MARGINS;
        let (end, floor) = (size.width - right, size.height - bottom);
        for (tick, label) in plot.y.ticks.clone() {
            let [_, height] = plot.place([0.0, tick]);
            plot.picture.line(if tick == 0.0 { "axis" } else { "grid" }, [left, height], [end, height]);
            plot.picture.words("tick", [left - 6.0, height + 4.0], Anchor::End, &label);
        }
        for (tick, label) in plot.x.ticks.clone() {
            let across = left + plot.x.scale.part(tick) * (end - left);
            plot.picture.line("axis", [across, floor], [across, floor + 4.0]);
            plot.picture.words("tick", [across, floor + 17.0], Anchor::Middle, &label);
        }
        plot.picture.words("title", [0.0, top - 14.0], Anchor::Start, &plot.y.title);
        plot.picture.words("title", [end, size.height - 4.0], Anchor::End, &plot.x.title);
        plot
    }

    /// Where a value lies in the picture.
    fn place(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [top, right, bottom, left] = MARGINS;
        let (width, height) = (self.size.width - left - right, self.size.height - top - bottom);
        [left + self.x.scale.part(x) * width, top + (1.0 - self.y.scale.part(y)) * height]
    }

    fn places(&self, points: &[[f64; 2]]) -> Vec<[f64; 2]> {
        points.iter().map(|point| self.place(*point)).collect()
    }

    /// The area between two lines.
    pub(super) fn area(&mut self, class: &str, above: &[[f64; 2]], below: &[[f64; 2]], title: &str) {
        let mut around = self.places(above);
        around.extend(self.places(below).into_iter().rev());
        if !around.is_empty() {
            self.picture.path(class, &format!("{}z", through(&around)), title);
        }
    }

    /// A line from point to point.
    pub(super) fn curve(&mut self, class: &str, points: &[[f64; 2]]) {
        self.picture.path(class, &through(&self.places(points)), "");
    }

    /// A bar from one time to another, between two heights.
    pub(super) fn bar(&mut self, class: &str, [from, to]: [f64; 2], [low, high]: [f64; 2], title: &str) {
        let ([left, bottom], [right, top]) = (self.place([from, low]), self.place([to, high]));
        if bottom - top > 0.02 {
            self.picture.rectangle(class, [left + 0.5, top], [(right - left - 1.0).max(0.5), bottom - top], title);
        }
    }

    /// A line upwards at a time, with its name: the `row` below the top at which that stands keeps names apart.
    pub(super) fn upright(&mut self, class: &str, at: f64, name: &str, row: u32) {
        let [across, floor] = self.place([at, 0.0]);
        self.picture.line(&format!("mark {class}"), [across, MARGINS[0]], [across, floor]);
        let is_right = across > self.size.width * 0.55;
        let (beside, anchor) = if is_right { (across - 6.0, Anchor::End) } else { (across + 6.0, Anchor::Start) };
        self.picture.words(&format!("name {class}"), [beside, MARGINS[0] + 12.0 + 16.0 * f64::from(row)], anchor, name);
    }

    /// A line across at a height, with its name.
    pub(super) fn level(&mut self, class: &str, at: f64, name: &str) {
        let [end, height] = self.place([f64::MAX, at]);
        self.picture.line(&format!("mark {class}"), [MARGINS[3], height], [end, height]);
        self.picture.words(&format!("name {class}"), [MARGINS[3] + 6.0, height - 5.0], Anchor::Start, name);
    }

    /// The picture, with what it shows in words.
    pub(super) fn finish(self, shows: &str) -> String {
        self.picture.finish("plot", shows)
    }
}

/// At most so many of the points: the first, the last, and some between at equal distances.
pub(super) fn thinned<T: Copy>(points: &[T], most: usize) -> Vec<T> {
    if points.len() <= most || most < 2 {
        return points.to_vec();
    }
    (0..most).map(|number| points[number * (points.len() - 1) / (most - 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinned_points_keep_their_ends() {
        let points: Vec<usize> = (0..1000).collect();
        let thin = thinned(&points, 7);
        assert_eq!((thin.len(), thin[0], thin[6]), (7, 0, 999));
        assert_eq!(thinned(&points[..3], 7), [0, 1, 2]);
    }

    #[test]
    fn what_is_drawn_lies_between_the_axes() {
        let mut plot = Plot::new(NARROW, Axis::time(10.0, 5, "time"), Axis::share("share"));
        assert_eq!((plot.place([0.0, 0.0]), plot.place([99.0, 9.0])), ([46.0, 210.0], [318.0, 26.0]));
        plot.area("peers", &[], &[], "");
        plot.upright("bound", f64::INFINITY, "T*", 0);
        let svg = plot.finish("a plot");
        assert!(svg.contains("aria-label=\"a plot\"") && !svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
