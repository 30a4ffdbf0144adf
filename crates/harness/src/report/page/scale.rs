//! Axes: which part of a line a value lies at, and the ticks that people count in.

use crate::report::words::{count, seconds, unit};

/// A line from the least to the most value, in equal steps or in equal ratios.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Scale {
    least: f64,
    most: f64,
    in_ratios: bool,
}

impl Scale {
    /// Where the value lies, from 0 to 1; what lies outside is at an end.
    pub(super) fn part(self, value: f64) -> f64 {
        let along = |value: f64| if self.in_ratios { value.max(self.least).ln() } else { value };
        let part = (along(value) - along(self.least)) / (along(self.most) - along(self.least));
        if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 }
    }
}

/// A scale with its ticks, and what they count.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Axis {
    pub(super) scale: Scale,
    pub(super) ticks: Vec<(f64, String)>,
    pub(super) title: String,
}

impl Axis {
    fn linear(most: f64, ticks: Vec<(f64, String)>, title: String) -> Self {
        Self { scale: Scale { least: 0.0, most, in_ratios: false }, ticks, title }
    }

    /// Seconds from 0, told in the unit that suits them.
    pub(super) fn time(most: f64, wanted: usize, what: &str) -> Self {
        let most = above_nothing(most);
        let (name, size, steps): (_, f64, &[f64]) = match most {
            ..120.0 => ("seconds", 1.0, &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0]),
            ..7200.0 => ("minutes", 60.0, &[1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0]),
            ..259_200.0 => ("hours", 3600.0, &[1.0, 2.0, 3.0, 4.0, 6.0, 12.0, 24.0]),
            _ => ("days", 86_400.0, &[1.0, 2.0, 7.0, 14.0]),
        };
        let suits = |step: &&f64| **step * wanted as f64 >= most / size;
        let step = if most / size < wanted as f64 { None } else { steps.iter().find(suits).copied() };
        let ticks = multiples(step.unwrap_or_else(|| round_step(most / size, wanted)), most / size);
        let ticks = ticks.into_iter().map(|tick| (tick * size, plain(tick))).collect();
        Self::linear(most, ticks, format!("{what}, {name}"))
    }

    /// Bytes from 0.
    pub(super) fn bytes(most: f64, wanted: usize, what: &str) -> Self {
        let most = above_nothing(most);
        let (name, size) = unit(most);
        let ticks = multiples(round_step(most / size, wanted), most / size);
        let ticks = ticks.into_iter().map(|tick| (tick * size, plain(tick))).collect();
        Self::linear(most * 1.04, ticks, format!("{name}{what}"))
    }

    /// Things that are counted, from 0.
    pub(super) fn count(most: u64, wanted: usize, what: &str) -> Self {
        let most = above_nothing(most as f64);
        let ticks = multiples(round_step(most, wanted).max(1.0), most);
        let ticks = ticks.into_iter().map(|tick| (tick, count(tick as u64))).collect();
        Self::linear(most * 1.04, ticks, what.to_owned())
    }

    /// From nothing to all.
    pub(super) fn share(what: &str) -> Self {
        let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|part| (part, format!("{:.0} %", part * 100.0)));
        Self::linear(1.04, ticks.to_vec(), what.to_owned())
    }

    /// Seconds in equal ratios, for those that differ much.
    pub(super) fn time_in_ratios(least: f64, most: f64, wanted: usize, what: &str) -> Self {
        let most = above_nothing(most);
        let least = least.clamp(most * 1e-6, most / 2.0);
        let round = [0.001, 0.01, 0.1, 1.0, 10.0, 60.0, 600.0, 3600.0, 36_000.0, 86_400.0, 864_000.0];
        let mut ticks: Vec<f64> = round.into_iter().filter(|tick| (least..=most).contains(tick)).collect();
        let every = ticks.len().div_ceil(wanted.max(1)).max(1);
        ticks = ticks.into_iter().rev().step_by(every).collect();
        ticks.reverse();
        let ticks = ticks.into_iter().map(|tick| (tick, short(tick))).collect();
        Self { scale: Scale { least, most, in_ratios: true }, ticks, title: format!("{what}, in equal ratios") }
    }
}

fn above_nothing(most: f64) -> f64 {
    if most.is_finite() && most > 0.0 { most } else { 1.0 }
}

/// A step of 1, 2 or 5 times a power of ten, of which at most so many reach `most`.
pub(super) fn round_step(most: f64, wanted: usize) -> f64 {
    let least = above_nothing(most) / wanted.max(1) as f64;
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= least * 0.999_999).unwrap_or(10.0 * power)
}

/// 0 and all multiples of a step up to `most`.
fn multiples(step: f64, most: f64) -> Vec<f64> {
    let last = (most / step + 1e-9).floor().clamp(0.0, 100.0) as u32;
    (0..=last).map(|number| f64::from(number) * step).collect()
}

/// A tick without zeros that say nothing.
fn plain(tick: f64) -> String {
    if tick >= 1000.0 {
        return count(tick.round() as u64);
    }
    let text = format!("{tick:.6}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A round time in one unit.
fn short(tick: f64) -> String {
    match tick {
        ..1.0 => format!("{} s", plain(tick)),
        _ => seconds(tick).replace(".0 s", " s").replace(".00 s", " s").replace("60 s", "1 min").replace("60 min", "1 h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn steps_are_round_and_never_more_than_wanted() {
        for (most, wanted, step) in [(55.8, 6, 10.0), (100.0, 5, 20.0), (0.3, 4, 0.1), (1.0, 1, 1.0), (7e12, 5, 2e12), (0.0, 4, 0.5)] {
            let found = round_step(most, wanted);
            assert!((found / step - 1.0).abs() < 1e-9, "{most}: {found}, not {step}");
        }
        for tenths in 1..5000 {
            let most = f64::from(tenths) / 10.0;
            let ticks = multiples(round_step(most, 5), most).len();
            assert!((3..=6).contains(&ticks), "{most}: {ticks}");
        }
    }

    #[test]
    fn times_are_counted_in_the_unit_that_suits_them() {
        assert_eq!(labels(&Axis::time(55.8, 6, "time")), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(Axis::time(55.8, 6, "time").title, "time, seconds");
        assert_eq!(labels(&Axis::time(600.0, 6, "time")), ["0", "2", "4", "6", "8", "10"]);
        let day = Axis::time(86_400.0, 8, "time");
        assert_eq!((labels(&day), day.title.as_str()), (vec!["0", "3", "6", "9", "12", "15", "18", "21", "24"], "time, hours"));
        assert_eq!(labels(&Axis::time(0.5, 5, "time")), ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]);
        assert_eq!(labels(&Axis::time_in_ratios(0.2, 4000.0, 8, "wait")), ["1 s", "10 s", "1 min", "10 min", "1 h"]);
    }

    #[test]
    fn bytes_and_counts_have_ticks_in_one_unit() {
        let axis = Axis::bytes(4.1e9, 5, "");
        assert_eq!((labels(&axis), axis.title.as_str()), (vec!["0", "1", "2", "3", "4"], "GB"));
        assert_eq!(labels(&Axis::count(2, 5, "jobs")), ["0", "1", "2"]);
    }

    #[test]
    fn values_lie_between_the_ends_even_if_there_is_nothing() {
        let axis = Axis::time(100.0, 5, "");
        assert_eq!([-5.0, 0.0, 25.0, 500.0, f64::NAN].map(|value| axis.scale.part(value)), [0.0, 0.0, 0.25, 1.0, 0.0]);
        let ratios = Axis::time_in_ratios(10.0, 1000.0, 5, "").scale;
        assert!((ratios.part(100.0) - 0.5).abs() < 1e-9 && ratios.part(0.0) == 0.0);
        for most in [0.0, f64::NAN, f64::INFINITY, -1.0] {
            assert!(Axis::bytes(most, 5, "").scale.part(0.0) == 0.0 && Axis::time_in_ratios(most, most, 5, "").scale.part(9.0) <= 1.0);
        }
    }
}
