//! Reads what a fuzzer makes up, and panics where a reader breaks its word or holds more memory than it may.
//!
//! `list` prints the targets, each with the folder of its files. `run TARGET` reads what the fuzzer gives, or standard input.
//! `measure TARGET FOLDER…` reads the files there, and prints the most that was held for one.

use std::path::Path;
use std::process::ExitCode;

use larder_content::fuzzing::Target;
use peak_alloc::PeakAlloc;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The crates' folders and targets.
const CRATES: [(&str, &[Target]); 6] = [
    ("content", larder_content::fuzzing::TARGETS),
    ("job", larder_job::fuzzing::TARGETS),
    ("larder", larder::fuzzing::TARGETS),
    ("origin", larder_origin::fuzzing::TARGETS),
    ("peers", larder_peers::fuzzing::TARGETS),
    ("store", larder_store::fuzzing::TARGETS),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["list"] => {
            for (folder, target) in all() {
                println!("{} crates/{folder}/fuzz/{}", target.name, target.name);
            }
        }
        ["run", name] => {
            let Some(target) = named(name) else { return ExitCode::FAILURE };
            afl::fuzz(true, |bytes| {
                let held = held(&target, bytes);
                let may = target.base_bytes + target.bytes_per_byte * bytes.len();
                assert!(held <= may, "{held} bytes are held for {}, and {may} may be", bytes.len());
            });
        }
        ["measure", name, ref folders @ ..] => {
            let Some(target) = named(name) else { return ExitCode::FAILURE };
            measure(&target, folders);
        }
        _ => return ExitCode::FAILURE,
    }
    ExitCode::SUCCESS
}

fn all() -> impl Iterator<Item = (&'static str, &'static Target)> {
    CRATES.into_iter().flat_map(|(folder, targets)| targets.iter().map(move |target| (folder, target)))
}

/// A target that has read nothing once: what is made for all inputs is there.
fn named(name: &str) -> Option<Target> {
    let target = all().map(|(_, target)| *target).find(|target| target.name == name)?;
    (target.run)(b"");
    Some(target)
}

/// The most bytes that were held at once while a target read these, beyond those that were held before.
fn held(target: &Target, bytes: &[u8]) -> usize {
    let before = HEAP.current_usage();
    HEAP.reset_peak_usage();
    (target.run)(bytes);
    HEAP.peak_usage().saturating_sub(before)
}

fn measure(target: &Target, folders: &[&str]) {
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(Path::new(folder)).ok()).flatten().filter_map(Result::ok);
    let inputs = files.filter_map(|file| std::fs::read(file.path()).ok());
    let all: Vec<(usize, usize)> = inputs.map(|bytes| (held(target, &bytes), bytes.len())).collect();
    let (most, of) = all.iter().max().copied().unwrap_or_default();
    let per_byte = |(held, bytes): &(usize, usize)| held.saturating_sub(target.base_bytes).div_ceil((*bytes).max(1));
    let slope = all.iter().map(per_byte).max().unwrap_or_default();
    let (base, may) = (target.base_bytes, target.bytes_per_byte);
    println!("{} inputs held at most {most} bytes (for {of}); beyond {base}, {slope} for each byte, of {may} that may be", all.len());
}
