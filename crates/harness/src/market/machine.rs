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

/// Memory that nothing needs, full of pages of a file that the kernel drops as soon as it is needed, as long as this lives.
///
/// Where the host of a virtual machine takes free memory back, the first use of each page of it costs several times what writing it does.
#[derive(Debug)]
pub struct FilledMemory(#[allow(dead_code, reason = "its pages go with it")] File);

impl FilledMemory {
    /// What stays free: the kernel keeps about so much for itself.
    const LEFT: u64 = 256 << 20;
    /// How much is read between two looks.
    const STEP: u64 = 32 << 20;

    /// Fills it with a file that has no name and takes no room, on the file system of `folder`.
    ///
    /// # Errors
    /// Fails if such a file cannot be made or read, if that fills no memory, or if the kernel does not tell how much there is.
    pub fn below(folder: &Path) -> anyhow::Result<Self> {
        let before = told("MemFree")?;
        let filled = Self::up_to(told("MemTotal")?, folder)?;
        let free = told("MemFree")?;
        // The kernel may drop some of it meanwhile.
        ensure!(
            free <= before / 2 + Self::LEFT,
            "{free} bytes of memory are still free: what is read below {} fills none",
            folder.display()
        );
        Ok(filled)
    }

    fn up_to(most: u64, folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        let path = folder.join("memory");
        let file = File::options().read(true).write(true).create_new(true).open(&path).with_context(|| path.display().to_string())?;
        fs::remove_file(&path).with_context(|| path.display().to_string())?;
        file.set_len(most).with_context(|| path.display().to_string())?;
        let mut rest = &file;
        while told("MemFree")? > Self::LEFT && std::io::copy(&mut Read::take(&mut rest, Self::STEP), &mut std::io::sink())? > 0 {}
        Ok(Self(file))
    }
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
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let text = "7 (a) b (c)) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 1 0 5 1 1";
        assert_eq!(ticks(text), Some(300));
        assert!(processor_seconds(std::process::id()).is_some());
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
        let filled = FilledMemory::up_to(3 << 20, folder.path()).unwrap();
        let file = filled.0.metadata().unwrap();
        assert_eq!((file.len(), std::os::unix::fs::MetadataExt::blocks(&file)), (3 << 20, 0));
        let at = std::io::Seek::stream_position(&mut &filled.0).unwrap();
        assert!(at == 3 << 20 || told("MemFree").unwrap() < 2 * FilledMemory::LEFT, "only {at} bytes were read");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn memory_is_read_in_bytes() {
        let memory = Memory::parse("Name:\tlarder\nVmHWM:\t    2048 kB\nVmRSS:\t 1024 kB\nRssAnon:\t     512 kB\n");
        assert_eq!(memory, Memory { resident: 1 << 20, own: 1 << 19, peak: 2 << 20 });
        assert!(Memory::of(std::process::id()).unwrap().peak > 0);
    }
}
