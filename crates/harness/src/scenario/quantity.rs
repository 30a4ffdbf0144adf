//! Numbers of bytes, rates, and ranges of them, as people write them.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Units and how many bytes each is.
const UNITS: [(&str, u64); 8] =
    [("kB", 1000), ("MB", 1_000_000), ("GB", 1_000_000_000), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)];

/// Reads `20`, `20kB`, `8MiB`, `1GiB`.
///
/// # Errors
/// Fails if it is no whole number with one of these units.
pub fn parse_bytes(text: &str) -> anyhow::Result<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let Some((_, scale)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        bail!("{text:?} is no number of bytes: units are kB, MB, GB, KiB, MiB, GiB");
    };
    let number: u64 = number.parse().with_context(|| format!("{text:?} is no number of bytes"))?;
    number.checked_mul(*scale).with_context(|| format!("{text:?} is too many bytes"))
}

/// A number of bytes, written `"8MiB"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub u64);

/// A number of bytes a second, written `"10MB/s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

impl FromStr for Bytes {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        parse_bytes(text).map(Self)
    }
}

impl FromStr for Rate {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let bytes = text.strip_suffix("/s").with_context(|| format!("{text:?} is no rate: write it like \"10MB/s\""))?;
        let rate = parse_bytes(bytes)?;
        ensure!(rate > 0, "{text:?} is no rate: leave it out for no limit");
        Ok(Self(rate))
    }
}

/// The shortest way to write `bytes` exactly.
fn written(bytes: u64) -> String {
    let fits = |(name, scale): &&(&str, u64)| !name.is_empty() && bytes > 0 && bytes.is_multiple_of(*scale);
    let (unit, scale) = UNITS.iter().filter(fits).max_by_key(|(_, scale)| *scale).unwrap_or(&("B", 1));
    format!("{}{unit}", bytes / scale)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&written(self.0))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/s", written(self.0))
    }
}

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                String::deserialize(from)?.parse().map_err(|error| serde::de::Error::custom(format!("{error:#}")))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, into: S) -> Result<S::Ok, S::Error> {
                into.collect_str(self)
            }
        }
    )*};
}

as_text!(Bytes, Rate);

/// One value, or two between which values are spread: `"10MB/s"` or `["3MB/s", "25MB/s"]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    untagged,
    expecting = "one value, or two in brackets between which values are spread, such as \"10MB/s\" or [\"3MB/s\", \"25MB/s\"]"
)]
pub enum Spread<T> {
    /// The same for all.
    One(T),
    /// From the least to the most, in equal ratios.
    Between([T; 2]),
}

impl Spread<Bytes> {
    pub(super) fn ends(&self) -> [u64; 2] {
        match self {
            Self::One(bytes) => [bytes.0; 2],
            Self::Between(bytes) => bytes.map(|bytes| bytes.0),
        }
    }
}

impl Spread<Rate> {
    pub(super) fn ends(&self) -> [u64; 2] {
        match self {
            Self::One(rate) => [rate.0; 2],
            Self::Between(rates) => rates.map(|rate| rate.0),
        }
    }
}

/// Value `number` of `count`, from `least` to `most` in equal ratios.
pub(super) fn spread([least, most]: [u64; 2], number: usize, count: usize) -> u64 {
    if least == most || count < 2 {
        return least.max(most);
    }
    let part = number as f64 / (count - 1) as f64;
    (least.max(1) as f64 * (most.max(1) as f64 / least.max(1) as f64).powf(part)).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_with_their_units() {
        let read = |text| parse_bytes(text).ok();
        assert_eq!(["20", "20B", "20kB", "10MB", "8MiB", "1GiB"].map(read), [20, 20, 20_000, 10_000_000, 8 << 20, 1 << 30].map(Some));
        assert_eq!(["", "MB", "5 MB", "5mb", "-5", "99999999999GiB"].map(read), [None; 6]);
    }

    #[test]
    fn what_is_read_is_written_the_same() {
        for text in ["20B", "20kB", "8MiB", "1GiB", "1500MB"] {
            assert_eq!(text.parse::<Bytes>().unwrap().to_string(), text);
            assert_eq!(format!("{text}/s").parse::<Rate>().unwrap().to_string(), format!("{text}/s"));
        }
        assert!("10MB".parse::<Rate>().is_err() && "0/s".parse::<Rate>().is_err());
    }

    #[test]
    fn values_are_spread_in_equal_ratios() {
        assert_eq!([0, 1, 2].map(|number| spread([1000, 4000], number, 3)), [1000, 2000, 4000]);
        assert_eq!((spread([7, 7], 3, 9), spread([1, 9], 0, 1)), (7, 9));
    }
}
