//! Disks that are too small, full, read-only, foreign or spoilt.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use larder_content::CHUNK_BYTES;
use larder_harness::hub::{HubBuilder, Repo, Tree};
use serde_json::json;
use tempfile::TempDir;

use crate::crash::recorded;
use crate::files::{Files, MIB, REPO, names, paths, resource};
use crate::node::{Node, rounds, until};

/// A file system of its own, gone with the value.
pub(crate) struct Mount {
    folder: TempDir,
    image: Option<TempDir>,
}

impl Mount {
    /// A disk in memory. `None`, which is said aloud, for those who may not mount.
    pub(crate) fn tmpfs(bytes: u64) -> Option<Self> {
        Self::mounted(None, &["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
    }

    /// An ext4 file system in a file.
    fn ext4(bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image").display().to_string();
        std::fs::File::create(&image).unwrap().set_len(bytes).unwrap();
        if is_root() {
            run("mkfs.ext4", &["-q", "-m", "0", &image]);
        }
        Self::mounted(Some(folder), &["-o", "loop", &image])
    }

    fn mounted(image: Option<TempDir>, arguments: &[&str]) -> Option<Self> {
        if !is_root() {
            let test = std::thread::current().name().unwrap_or_default().to_owned();
            // Past the test runner, which shows what is printed only of tests that fail.
            let line = format!("SKIPPED in {test}: only root can mount a disk\n");
            std::io::stderr().write_all(line.as_bytes()).unwrap();
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        run("mount", &[arguments, &[folder.path().to_str().unwrap()]].concat());
        Some(Self { folder, image })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    fn make_read_only(&self) {
        run("mount", &["-o", "remount,ro", self.path().to_str().unwrap()]);
    }

    /// Fills it but for `left` bytes. What filled it can be removed.
    fn fill_but(&self, left: u64) -> PathBuf {
        let status = rustix::fs::statvfs(self.path()).unwrap();
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap();
        let mut free = status.f_bavail * status.f_frsize;
        while free > left {
            let part = (free - left).min(MIB);
            if file.write_all(&vec![0; usize::try_from(part).unwrap()]).is_err() {
                break;
            }
            let status = rustix::fs::statvfs(self.path()).unwrap();
            free = status.f_bavail * status.f_frsize;
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", &["-l", self.path().to_str().unwrap()]);
        drop(self.image.take());
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn some() -> Files {
    Files::of_sizes([("model.safetensors", 9 * MIB + 1), ("vocab.bin", 2 * MIB), ("sub/config.json", 700), ("sub/deep/a.txt", 5_000)])
}

#[test]
fn what_cannot_fit_is_refused_before_its_first_byte_with_what_it_needs_and_what_is_free() {
    let files = some();
    let hub = files.hub(400 * MIB);
    let quota = Node::new(&hub).with("LARDER_STORE_QUOTA_BYTES", "10000000");
    quota.prepare(resource(), "root").says(1, &["11.54 MB needed, but only 10.00 MB", "quota"]);
    let disk = Node::new(&hub).with("LARDER_STORE_FREE_FLOOR_BYTES", &(1u64 << 60).to_string());
    disk.prepare(resource(), "root").says(1, &["11.54 MB needed, but only 0 bytes", "on the disk of", "stay free"]);
    assert_eq!(hub.counts().content().requests, 0);
    assert!(!quota.folder().join("root").exists() && !disk.folder().join("root").exists());
    Node::new(&hub).with("LARDER_STORE_QUOTA_BYTES", "12000000").prepare(resource(), "root").ok();
}

#[test]
fn what_a_running_job_has_fetched_is_not_counted_as_room_that_it_needs_too() {
    let repo = |id, size| Repo::model(id).at("main", Tree::new().generated("model.bin", size));
    let hub = HubBuilder::new().repo(repo("org/large", 24 * MIB)).repo(repo("org/small", 9 * MIB)).rate(4 * MIB).start().unwrap();
    // Enough for both, but not for three quarters of the large one twice.
    let node = Node::new(&hub).with("LARDER_STORE_QUOTA_BYTES", &(42 * MIB).to_string());
    let job = |name: &str| node.job(name, json!([{"type": "HF", "repo": format!("org/{name}"), "target": "/data"}]));
    let mut large = node.start(&["prepare", &job("large")]);
    until("three quarters are there", || hub.counts().content().body_bytes > 18 * MIB || !large.is_running());
    let mut small = node.start(&["prepare", &job("small")]);
    until("the small one is let in", || hub.counts().file("models/org/small/model.bin").requests > 0 || !small.is_running());
    assert!(large.is_running(), "the small one came too late");
    small.wait().ok();
    large.wait().ok();
}

fn a_disk_that_fills_up_loses_nothing(mount: Option<Mount>) {
    let Some(mount) = mount else { return };
    let files = Files::of_sizes([("model.safetensors", 30 * MIB), ("a.bin", 3 * MIB), ("b.txt", 100_000), ("c.txt", 9_000)]);
    let hub = files.hub(20 * MIB);
    // One after another: of what is read side by side the store has taken the blocks, and it would not be the one to go short.
    let node = Node::new(&hub).with("LARDER_ORIGIN_READS_PER_FILE", "1").with("LARDER_STORE_QUOTA_BYTES", "1000000000");
    let node = node.at(mount.path().join("home"));
    let job = node.job("job", resource());
    let mut running = node.start(&["prepare", &job]);
    until("a third is there", || hub.counts().content().body_bytes > 10 * MIB || !running.is_running());
    let filler = mount.fill_but(3 * MIB);
    let full = running.wait();
    assert!(!full.stderr.contains("panicked"), "{}", full.stderr);
    full.says(1, &["needed, but only", "can be had on the disk of"]);
    // Still full: the same again, and no worse.
    let again = node.run(&["prepare", &job]);
    assert!(!again.stderr.contains("panicked"), "{}", again.stderr);
    again.says(1, &["needed, but only"]);
    std::fs::remove_file(filler).unwrap();
    let recorded = recorded(&node);
    assert!(recorded > 5 * MIB, "{recorded}");
    hub.counts().reset();
    let source = node.run(&["prepare", &job, "--json"]).ready()["mounts"][0]["source"].as_str().unwrap().to_owned();
    files.assert_laid(Path::new(&source));
    assert!(hub.counts().content().body_bytes <= files.bytes() - recorded);
}

#[test]
fn a_disk_in_memory_that_fills_up_in_the_middle_loses_no_recorded_chunk() {
    a_disk_that_fills_up_loses_nothing(Mount::tmpfs(64 * MIB));
}

#[test]
fn an_ext4_disk_that_fills_up_in_the_middle_loses_no_recorded_chunk() {
    a_disk_that_fills_up_loses_nothing(Mount::ext4(80 * MIB));
}

#[test]
fn a_read_only_store_is_said_to_be_read_only() {
    let files = some();
    let hub = files.hub(400 * MIB);
    let Some(mount) = Mount::tmpfs(64 * MIB) else { return };
    let used = Node::new(&hub).at(mount.path().join("used"));
    used.prepare(resource(), "root").ok();
    mount.make_read_only();
    hub.counts().reset();
    for home in ["used", "new"] {
        let node = Node::new(&hub).at(mount.path().join(home));
        node.prepare(resource(), "root").says(1, &[mount.path().to_str().unwrap(), "read-only"]);
    }
    assert_eq!(hub.counts().content().requests, 0);
    let node = Node::new(&hub);
    let target = mount.path().join("root").display().to_string();
    node.run(&["prepare", &node.job("job", resource()), "--root", &target]).says(1, &["read-only"]);
}

#[test]
fn a_home_that_is_no_folder_is_named() {
    let node = Node::of_endpoint("http://127.0.0.1:9");
    std::fs::write(node.home(), "a file").unwrap();
    node.run(&["resources"]).says(1, &[node.home().to_str().unwrap(), "is not a folder"]);
    assert_eq!(std::fs::read(node.home()).unwrap(), b"a file");
}

#[test]
fn a_target_on_another_file_system_is_copied_and_the_plan_says_so() {
    let files = some();
    let hub = files.hub(400 * MIB);
    let Some(mount) = Mount::tmpfs(64 * MIB) else { return };
    let node = Node::new(&hub);
    let (job, root) = (node.job("job", resource()), mount.path().join("root"));
    let with_root = |command: &str| node.run(&[command, &job, "--json", "--root", root.to_str().unwrap()]);
    let warnings = with_root("plan").ok().json["warnings"].to_string();
    assert!(warnings.contains(root.to_str().unwrap()) && warnings.contains("copied"), "{warnings}");
    let beside = node.run(&["plan", &job, "--json", "--root", node.folder().join("root").to_str().unwrap()]).ok();
    assert_eq!(beside.json["warnings"], json!([]));
    let lease = with_root("prepare").ready()["lease"].as_str().unwrap().to_owned();
    files.assert_laid(&root.join("data"));
    // Once more: what was copied stays, and is not copied again.
    let inode = || root.join("data/vocab.bin").metadata().unwrap().ino();
    let before = inode();
    with_root("prepare").ready();
    assert_eq!(inode(), before);
    node.run(&["release", &lease]).ok();
    files.assert_laid(&root.join("data"));
}

#[test]
fn a_target_that_is_too_small_for_copies_is_named_with_what_it_needs() {
    let hub = some().hub(400 * MIB);
    let Some(mount) = Mount::tmpfs(4 * MIB) else { return };
    let node = Node::new(&hub);
    let root = mount.path().join("root").display().to_string();
    let job = node.job("job", resource());
    node.run(&["prepare", &job, "--json", "--root", &root]).says(1, &["11.54 MB needed, but only 4", mount.path().to_str().unwrap()]);
    assert_eq!(paths(mount.path()), Vec::<PathBuf>::new());
}

#[test]
fn store_and_targets_together_take_the_disk_of_the_content_once() {
    let files = Files::of_sizes((0..100).map(|number| (format!("part-{number:03}.bin"), MIB)));
    let hub = files.hub(800 * MIB);
    let node = Node::new(&hub);
    node.prepare(resource(), "one").ok();
    node.prepare(resource(), "two").ok();
    node.run(&["prepare", &node.job("job", resource())]).ok();
    files.assert_laid(&node.folder().join("two/data"));
    let output = Command::new("du").args(["--summarize", "--block-size=1"]).arg(node.folder()).output().unwrap();
    let taken: u64 = String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap();
    assert!(taken <= files.bytes() + files.bytes() / 100, "{taken} bytes for {}", files.bytes());
}

/// Writes into a file that is not to be written to, and keeps its size.
fn spoil(path: &Path) {
    let mode = path.metadata().unwrap().permissions();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.write_all(b"spoilt").unwrap();
    file.set_permissions(mode).unwrap();
}

#[test]
fn a_blob_that_someone_wrote_to_is_never_laid_but_fetched_again() {
    let files = some();
    let hub = files.hub(400 * MIB);
    let node = Node::new(&hub);
    node.prepare(resource(), "root").ok();
    hub.counts().reset();
    // The file in the target is the blob itself, by another name.
    spoil(&node.folder().join("root/data/vocab.bin"));
    node.prepare(resource(), "other").ok();
    files.assert_laid(&node.folder().join("other/data"));
    // The whole of it, or the chunk that is spoilt if the others are known to be as they were.
    let fetched = hub.counts().content().body_bytes;
    assert!((CHUNK_BYTES..=2 * MIB).contains(&fetched), "{fetched}");
    assert_eq!(hub.counts().file(&format!("{REPO}/vocab.bin")).body_bytes, fetched);
    node.prepare(resource(), "root").ok();
    files.assert_laid(&node.folder().join("root/data"));
    assert_eq!(hub.counts().content().body_bytes, fetched);
}

#[test]
fn verify_finds_a_blob_that_someone_wrote_to_and_removes_it() {
    let files = some();
    let hub = files.hub(400 * MIB);
    let node = Node::new(&hub);
    node.prepare(resource(), "root").ok();
    spoil(&node.folder().join("root/data/vocab.bin"));
    let verified = node.run(&["verify", "--json"]).failed().json;
    assert_eq!((verified["files"].as_u64(), verified["damaged"].as_array().map(Vec::len)), (Some(3), Some(1)), "{verified}");
    assert!(recorded(&node) <= files.bytes() - CHUNK_BYTES);
    node.prepare(resource(), "root").ok();
    files.assert_laid(&node.folder().join("root/data"));
}

/// Prepares, spoils the index, and prepares again: nothing may be fetched again, in silence or with a word.
fn the_index_is_made_anew(spoil: impl Fn(&Path)) {
    let files = some();
    let hub = files.hub(400 * MIB);
    let node = Node::new(&hub);
    let lease = node.prepare(resource(), "root").ready()["lease"].as_str().unwrap().to_owned();
    hub.counts().reset();
    spoil(&node.home().join("index"));
    let again = node.prepare(resource(), "other").ok();
    assert!(!again.stderr.contains("panicked"), "{}", again.stderr);
    files.assert_laid(&node.folder().join("other/data"));
    assert_eq!(hub.counts().content().requests, 0);
    assert_eq!(recorded(&node), files.bytes());
    node.run(&["release", &lease]).ok();
    assert_eq!(names(&node.folder().join("root")), Vec::<String>::new());
}

#[test]
fn an_index_that_was_deleted_is_made_anew_from_the_blobs() {
    the_index_is_made_anew(|index| std::fs::remove_dir_all(index).unwrap());
}

#[test]
fn an_index_of_random_bytes_is_made_anew_from_the_blobs() {
    the_index_is_made_anew(|index| {
        for path in paths(index) {
            let mut bytes = vec![0; usize::try_from(path.metadata().unwrap().len()).unwrap()];
            fastrand::fill(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
    });
}

#[test]
fn an_index_that_was_cut_off_is_made_anew_from_the_blobs() {
    the_index_is_made_anew(|index| {
        for path in paths(index) {
            let half = path.metadata().unwrap().len() / 2;
            std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(half).unwrap();
        }
    });
}

#[test]
fn a_symbolic_link_in_a_target_is_never_followed() {
    let files = some();
    let hub = files.hub(400 * MIB);
    let node = Node::new(&hub);
    let outside = node.folder().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("precious"), "precious").unwrap();
    let root = |name: &str| node.folder().join(name).join("data");
    for name in ["file", "folder", "target"] {
        std::fs::create_dir_all(node.folder().join(name)).unwrap();
    }
    for name in ["file", "folder"] {
        std::fs::create_dir(root(name)).unwrap();
    }
    symlink(outside.join("precious"), root("file").join("vocab.bin")).unwrap();
    symlink(&outside, root("folder").join("sub")).unwrap();
    symlink(&outside, root("target")).unwrap();
    node.prepare(resource(), "file").ok();
    files.assert_laid(&root("file"));
    node.prepare(resource(), "folder").says(1, &[root("folder").join("sub").to_str().unwrap(), "symbolic link"]);
    node.prepare(resource(), "target").says(1, &[root("target").to_str().unwrap(), "symbolic link"]);
    assert_eq!(names(&outside), ["precious"]);
    assert_eq!(std::fs::read(outside.join("precious")).unwrap(), b"precious");
    // The root itself is the operator's to choose.
    std::fs::create_dir(node.folder().join("elsewhere")).unwrap();
    symlink(node.folder().join("elsewhere"), node.folder().join("root")).unwrap();
    node.prepare(resource(), "root").ok();
    files.assert_laid(&node.folder().join("elsewhere/data"));
}

#[test]
fn a_large_file_takes_little_memory() {
    let size = if rounds(1) > 1 { 8 << 30 } else { 1u64 << 30 };
    let hub = HubBuilder::new().repo(Repo::model("org/name").at("main", Tree::new().generated("model.safetensors", size))).start().unwrap();
    let node = Node::new(&hub);
    let done = node.prepare(resource(), "root").ok();
    assert_eq!(done.json["totals"]["bytes"], size);
    assert!(done.peak_bytes > MIB && done.peak_bytes < 200_000_000, "{} bytes of memory", done.peak_bytes);
}
