//! Numbers as people read them: three digits that count, a unit that suits, and never more than was measured.

/// What stands for what was not measured, or is not there.
pub(super) const NOTHING: &str = "–";

/// Three digits that count: `0.042`, `1.02`, `51.2`, `843`, `10,240`.
pub(super) fn number(value: f64) -> String {
    if !value.is_finite() {
        return if value > 0.0 { "∞" } else { NOTHING }.to_owned();
    }
    let size = value.abs();
    match size {
        0.0 => "0".to_owned(),
        ..0.0005 => "< 0.001".to_owned(),
        ..0.0995 => format!("{value:.3}"),
        ..9.995 => format!("{value:.2}"),
        ..99.95 => format!("{value:.1}"),
        _ => whole(value),
    }
}

/// How often something is there: `10,000`.
pub(super) fn count(count: u64) -> String {
    whole(count as f64)
}

/// A number of things that came out of a sum or a quantile.
pub(super) fn whole(value: f64) -> String {
    if value.is_finite() { grouped(value.round()) } else { number(value) }
}

fn grouped(whole: f64) -> String {
    let digits = format!("{:.0}", whole.abs());
    let mut text = if whole < 0.0 { "-".to_owned() } else { String::new() };
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Units of bytes and how many bytes each is, the greatest first.
const UNITS: [(&str, f64); 6] = [("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0)];

/// The unit in which this many bytes are told, and how many bytes it is.
pub(super) fn unit(bytes: f64) -> (&'static str, f64) {
    // What rounds to a thousand is told as one of the next unit.
    UNITS.into_iter().find(|(_, scale)| bytes >= scale * 0.9995).unwrap_or(("B", 1.0))
}

/// Bytes: `0`, `12 B`, `983 kB`, `1.02 GB`.
pub(super) fn bytes(bytes: f64) -> String {
    let (name, scale) = unit(bytes);
    match (bytes, name) {
        (..=0.0, _) => "0".to_owned(),
        (_, "B") => format!("{:.0} B", bytes.ceil()),
        _ => format!("{} {name}", number(bytes / scale)),
    }
}

/// Bytes a second: `10.0 MB/s`.
pub(super) fn rate(rate: f64) -> String {
    if rate > 0.0 { format!("{}/s", bytes(rate)) } else { "0".to_owned() }
}

/// What a line can carry.
pub(super) fn limit(limit: Option<u64>) -> String {
    limit.map_or_else(|| "no limit".to_owned(), |limit| rate(limit as f64))
}

/// A time: `0`, `40 ms`, `51.2 s`, `2 min 14 s`, `1 h 03 min`, `2 d 6 h`, `never`.
pub(super) fn seconds(seconds: f64) -> String {
    if !seconds.is_finite() {
        return "never".to_owned();
    }
    let pair = |value: f64, large: &str, small: &str, ratio: u64| {
        let whole = value.round() as u64;
        match (whole / ratio, whole % ratio) {
            (large_ones, 0) => format!("{large_ones} {large}"),
            (large_ones, rest) => format!("{large_ones} {large} {rest:02} {small}"),
        }
    };
    match seconds {
        ..=0.0 => "0".to_owned(),
        ..0.0995 => format!("{:.0} ms", (seconds * 1e3).max(1.0)),
        ..119.5 => format!("{} s", number(seconds)),
        ..7170.0 => pair(seconds, "min", "s", 60),
        ..172_800.0 => pair(seconds / 60.0, "h", "min", 60),
        _ => pair(seconds / 3600.0, "d", "h", 24),
    }
}

/// A part of a whole: `0.01 %`, `87 %`, `99.98 %`. Only all is 100 %, only nothing is 0 %.
pub(super) fn percent(part: f64, whole: f64) -> String {
    let share = if whole > 0.0 { part / whole * 100.0 } else { 0.0 };
    match share {
        ..=0.0 => "0 %".to_owned(),
        ..0.005 => "< 0.01 %".to_owned(),
        ..0.995 => format!("{share:.2} %"),
        ..9.95 => format!("{share:.1} %"),
        100.0.. => format!("{share:.0} %"),
        99.995.. => "> 99.99 %".to_owned(),
        99.0.. => format!("{share:.2} %"),
        _ => format!("{share:.0} %"),
    }
}

/// `1 node`, `8 nodes`.
pub(super) fn many(number: usize, what: &str) -> String {
    format!("{} {what}{}", count(number as u64), if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        let told = [0.0, 0.0001, 0.042, 1.019, 9.999, 51.23, 843.4, 10_240.0, f64::INFINITY].map(number);
        assert_eq!(told, ["0", "< 0.001", "0.042", "1.02", "10.0", "51.2", "843", "10,240", "∞"]);
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn bytes_are_told_in_the_unit_that_suits_them() {
        let told = [0.0, 12.0, 983_000.0, 999_900.0, 1.019e9, 14e9, 140e12].map(bytes);
        assert_eq!(told, ["0", "12 B", "983 kB", "1.00 MB", "1.02 GB", "14.0 GB", "140 TB"]);
        assert_eq!((rate(1e7), limit(None), limit(Some(0))), ("10.0 MB/s".to_owned(), "no limit".to_owned(), "0".to_owned()));
    }

    #[test]
    fn times_are_told_in_two_units_at_most() {
        let told = [0.0, 0.0001, 0.04, 0.2, 51.23, 134.0, 3780.0, 7200.0, 194_400.0, f64::INFINITY].map(seconds);
        assert_eq!(told, ["0", "1 ms", "40 ms", "0.20 s", "51.2 s", "2 min 14 s", "63 min", "2 h", "2 d 06 h", "never"]);
    }

    #[test]
    fn only_all_is_a_hundred_per_cent_and_only_nothing_is_none() {
        let told = [(0.0, 5.0), (1.0, 1e6), (1.0, 1e4), (1.0, 40.0), (87.4, 100.0), (99_999.0, 1e5), (9998.0, 1e4), (3.0, 3.0), (0.0, 0.0)];
        let told = told.map(|(part, whole)| percent(part, whole));
        assert_eq!(told, ["0 %", "< 0.01 %", "0.01 %", "2.5 %", "87 %", "> 99.99 %", "99.98 %", "100 %", "0 %"]);
    }
}
