//! What the kernel tells of this machine's load and of a process' memory.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};

/// What the kernel calls a tick is the same on all of its machines: `sysconf(_SC_CLK_TCK)`.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processor time of all cores since the machine was started, in ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    idle: u64,
    all: u64,
}

impl Processor {
    /// As it is now.
    ///
    /// # Errors
    /// Fails if the kernel does not tell.
    pub fn now() -> anyhow::Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("/proc/stat")?;
        Self::parse(&text).context("/proc/stat has no line cpu")
    }

    /// Source: proc(5). The first eight numbers are user, nice, system, idle, iowait, irq, softirq, steal; guests' time is in
    /// user already.
    fn parse(text: &str) -> Option<Self> {
        let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).filter_map(|number| number.parse().ok()).collect();
        Some(Self { idle: ticks.get(3)? + ticks.get(4)?, all: ticks.iter().sum() })
    }

    /// The part of the time since `earlier` in which cores were busy: 1 is all of them, always.
    #[must_use]
    pub fn busy_since(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all);
        let idle = self.idle.saturating_sub(earlier.idle);
        if all == 0 { 0.0 } else { all.saturating_sub(idle) as f64 / all as f64 }
    }
}

/// What stays free when memory is filled: the kernel keeps about so much for itself.
const LEFT_BYTES: u64 = 256 << 20;
/// How much is filled between two looks.
const STEP_BYTES: u64 = 32 << 20;

/// Fills the memory that nothing needs with pages of a file, which takes no room in `folder`. The kernel drops them as soon as memory is needed, or
/// when the file is closed.
///
/// Where the host of a virtual machine takes free memory back, the first use of each page of it costs several times what writing it does.
///
/// # Errors
/// Fails if such a file cannot be made or read, if that fills no memory, or if the kernel does not tell how much there is.
pub fn fill_memory(folder: &Path) -> anyhow::Result<File> {
    let (most, before) = (told("MemTotal")?, told("MemFree")?);
    let file = fill(folder, most)?;
    let free = told("MemFree")?;
    // The kernel may drop some of it meanwhile.
    let is_filled = free <= before / 2 + LEFT_BYTES;
    ensure!(is_filled, "{free} bytes of memory are still free: what is read below {} fills none", folder.display());
    Ok(file)
}

fn fill(folder: &Path, most: u64) -> anyhow::Result<File> {
    let mut file = tempfile::tempfile_in(folder).with_context(|| folder.display().to_string())?;
    file.set_len(most).with_context(|| folder.display().to_string())?;
    while told("MemFree")? > LEFT_BYTES && std::io::copy(&mut Read::take(&mut file, STEP_BYTES), &mut std::io::sink())? > 0 {}
    Ok(file)
}

/// What the kernel says of this machine's memory, in bytes.
fn told(name: &str) -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("/proc/meminfo")?;
    bytes(&text, name).with_context(|| format!("/proc/meminfo has no line {name}"))
}

/// A number of bytes as the kernel tells it. Source: proc(5): `MemFree:  1024 kB`.
fn bytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// The memory of one process, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Memory {
    /// What it has in memory now, with what it maps of files.
    pub resident: u64,
    /// The same without what it maps of files.
    pub own: u64,
    /// The most that `resident` was.
    pub peak: u64,
}

impl Memory {
    /// That of a process; `None` if there is no such.
    #[must_use]
    pub fn of(process: u32) -> Option<Self> {
        Some(Self::parse(&fs::read_to_string(format!("/proc/{process}/status")).ok()?))
    }

    fn parse(text: &str) -> Self {
        let bytes = |name: &str| bytes(text, name).unwrap_or(0);
        Self { resident: bytes("VmRSS"), own: bytes("RssAnon"), peak: bytes("VmHWM") }
    }
}

/// How many descriptors a process has open; `None` if there is no such process.
#[must_use]
pub fn descriptors(process: u32) -> Option<u64> {
    entries(process, "fd")
}

/// How many threads a process has; `None` if there is no such process.
#[must_use]
pub fn threads(process: u32) -> Option<u64> {
    entries(process, "task")
}

fn entries(process: u32, folder: &str) -> Option<u64> {
    Some(fs::read_dir(format!("/proc/{process}/{folder}")).ok()?.count() as u64)
}

/// The processor seconds that a process has taken; `None` if there is no such.
#[must_use]
pub fn processor_seconds(process: u32) -> Option<f64> {
    ticks(&fs::read_to_string(format!("/proc/{process}/stat")).ok()?).map(|ticks| ticks as f64 / TICKS_PER_SECOND)
}

/// Source: proc(5): fields 14 and 15, of user and of system, after the name in brackets, which may hold anything.
fn ticks(text: &str) -> Option<u64> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use std::io::Seek;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(ticks(text), Some(300));
        assert!(processor_seconds(std::process::id()).is_some());
    }

    #[test]
    fn threads_and_descriptors_are_those_of_the_process() {
        let own = std::process::id();
        let _file = tempfile::tempfile().unwrap();
        assert!(threads(own) > Some(0) && descriptors(own) > Some(3));
        assert_eq!((descriptors(u32::MAX), threads(u32::MAX)), (None, None));
    }

    #[test]
    fn a_processor_is_busy_when_it_neither_idles_nor_waits() {
        let earlier = Processor::parse("cpu  100 0 100 700 100 0 0 0 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n").unwrap();
        let later = Processor::parse("cpu  130 10 130 720 100 5 5 0 60 0\n").unwrap();
        assert!((later.busy_since(&earlier) - 0.8).abs() < 1e-9);
        assert!(later.busy_since(&later).abs() < 1e-9);
        assert_eq!(Processor::parse("intr 5"), None);
    }

    #[test]
    fn memory_is_filled_with_a_file_that_takes_no_room_and_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = fill(folder.path(), 3 << 20).unwrap();
        let status = file.metadata().unwrap();
        assert_eq!((status.len(), status.blocks()), (3 << 20, 0));
        let read = file.stream_position().unwrap();
        assert!(read == 3 << 20 || told("MemFree").unwrap() < 2 * LEFT_BYTES, "only {read} bytes were read");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let memory = Memory::parse("Name:\tlarder\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nRssAnon:\t     512 kB\n");
        assert_eq!(memory, Memory { resident: 1 << 20, own: 1 << 19, peak: 2 << 20 });
        assert!(Memory::of(std::process::id()).unwrap().peak > 0);
    }
}
