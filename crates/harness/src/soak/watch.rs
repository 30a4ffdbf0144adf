//! What is looked at every ten seconds of a soak, every minute, and once all is over.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder_content::ContentId;
use larder_harness::market::{Memory, descriptors, threads, wait_for};
use rustix::process::Signal;
use serde_json::Value;

use super::Soak;
use super::account::Promise;
use super::growth::Sample;
use super::plan::{NODES, TRUSTED};
use super::secrets::files_below;

/// Seconds between two samples, and between two searches for secrets.
const SAMPLE_EVERY_S: f64 = 10.0;
const SEARCH_EVERY_S: f64 = 60.0;
/// What a store may have over its quota: files end within blocks.
const SLACK_BYTES: u64 = 16 << 20;
/// How long all daemons may take to end.
const ENDED_WITHIN: Duration = Duration::from_secs(8);
/// What is asked for at each sample, since nothing of it may show the token.
const TOLD: [&str; 5] = ["/metrics", "/v1/status", "/v1/jobs", "/v1/peers", "/v1/ledger"];
/// Where content is, in a store.
const CONTENT: [&str; 3] = ["blobs", "private", "partial"];

/// What was seen last.
#[derive(Debug, Default)]
pub(super) struct Watch {
    sample_s: f64,
    search_s: f64,
    /// The blobs of each node.
    blobs: BTreeMap<usize, BTreeSet<PathBuf>>,
}

impl Soak {
    /// Looks at all that is due.
    pub(super) fn sample_if_due(&mut self) -> anyhow::Result<()> {
        let now_s = self.now_s();
        if now_s >= self.watch.sample_s {
            self.watch.sample_s = now_s + SAMPLE_EVERY_S;
            for number in (0..NODES).filter(|number| self.members[*number].is_up()).collect::<Vec<_>>() {
                self.sample(number)?;
                for path in TOLD {
                    self.ask(number, "GET", path, "")?;
                }
            }
        }
        if now_s >= self.watch.search_s {
            self.watch.search_s = now_s + SEARCH_EVERY_S;
            (0..NODES).try_for_each(|number| self.search(number, false))?;
        }
        Ok(())
    }

    fn sample(&mut self, number: usize) -> anyhow::Result<()> {
        let (at_s, node) = (self.now_s(), self.node(number)?);
        let (home, process) = (node.home(), node.daemon().map(|daemon| daemon.id()));
        let of = |count: fn(u32) -> Option<u64>| process.and_then(count).unwrap_or(0);
        let resident_bytes = of(|process| Some(Memory::of(process)?.resident));
        let mut sample = Sample { at_s, resident_bytes, descriptors: of(descriptors), threads: of(threads), ..Sample::default() };
        let (mut seen, mut blobs) = (HashSet::new(), BTreeSet::new());
        for path in files_below(&home)? {
            let Ok(status) = std::fs::metadata(&path) else { continue };
            let inside = path.strip_prefix(&home).unwrap_or(&path);
            let bytes = if seen.insert(status.ino()) { status.blocks() * 512 } else { 0 };
            match CONTENT.iter().position(|folder| inside.starts_with(folder)) {
                Some(kind) => {
                    sample.content_bytes += bytes;
                    blobs.extend((kind < 2).then_some(path));
                }
                None => {
                    sample.beside_bytes += bytes;
                    // One for each large blob.
                    sample.files += u64::from(!inside.starts_with("hashes"));
                }
            }
        }
        let most = self.goods.quota_bytes + SLACK_BYTES;
        if sample.content_bytes > most {
            let what = format!("node {number} holds {} bytes, at most {most} with what blocks take", sample.content_bytes);
            self.broke(Promise::Quota, &what);
        }
        let before = self.watch.blobs.insert(number, blobs).unwrap_or_default();
        let gone = before.difference(&self.watch.blobs[&number]).count() as u64;
        self.account.add("blobs seen to go", gone);
        let line = self.members[number].line;
        self.account.lines[line].samples.push(sample);
        Ok(())
    }

    /// Releases the leases of jobs that nobody knows of any more: those of a daemon that was stopped in the middle.
    pub(super) fn release_strays(&mut self, number: usize) -> anyhow::Result<()> {
        let Some((_, text)) = self.ask(number, "GET", "/v1/resources", "")? else { return Ok(()) };
        let told: Value = serde_json::from_str(&text).unwrap_or_default();
        let held: HashSet<&str> = self.jobs.iter().filter(|job| job.may_hold()).map(|job| job.name.as_str()).collect();
        let leases = told["leases"].as_array().into_iter().flatten();
        let strays = leases.filter(|lease| !held.contains(lease["job"].as_str().unwrap_or_default()));
        let strays: Vec<String> = strays.filter_map(|lease| lease["lease"].as_str().map(str::to_owned)).collect();
        for lease in strays {
            self.ask(number, "POST", &format!("/v1/leases/{lease}/release"), "")?;
            self.account.count("leases of stopped jobs released");
        }
        Ok(())
    }

    /// Searches all files of a node for secrets; what it keeps as content only if `all`.
    fn search(&mut self, number: usize, all: bool) -> anyhow::Result<()> {
        let node = self.node(number)?;
        let (home, folder, name) = (node.home(), node.folder().to_owned(), node.name().to_owned());
        let skip = |path: &Path| {
            !all && (path.starts_with(folder.join("roots")) || CONTENT.iter().any(|inside| path.starts_with(home.join(inside))))
        };
        // Trees are looked at when jobs end; the blobs that they share blocks with are looked at here.
        let is_guarded = |path: &Path| {
            let own = ["private", "partial"].iter().any(|inside| path.starts_with(home.join(inside)));
            TRUSTED.contains(&number) && (own || path.starts_with(folder.join("roots")))
        };
        for path in self.secrets.shown_below(&folder, &skip, &is_guarded)? {
            self.broke(Promise::Secrets, &format!("{name}: {} holds what is secret", path.display()));
        }
        self.account.count("searches for secrets");
        Ok(())
    }

    /// Has each node verify its store, ends it, and looks at all that it leaves.
    pub(super) fn last_look(&mut self) -> anyhow::Result<()> {
        for number in 0..NODES {
            self.release_strays(number)?;
            self.wait_until_idle(number)?;
            let verified: Value = serde_json::from_str(&self.node(number)?.tell(&["verify", "--json"].map(String::from))?)?;
            self.account.add("damaged blobs that were not used since", verified["damaged"].as_array().map_or(0, Vec::len) as u64);
        }
        for number in 0..NODES {
            self.node(number)?.daemon().into_iter().for_each(|daemon| daemon.signal(Signal::TERM));
        }
        for number in 0..NODES {
            let node = self.node(number)?;
            let ended = node.daemon().map(|daemon| wait_for("a daemon to end", ENDED_WITHIN, || daemon.ended()));
            if !ended.is_some_and(|ended| ended.is_ok_and(|status| status.success())) {
                let what = format!("{} does not end well: {}", node.name(), node.told());
                self.broke(Promise::Daemons, &what);
            }
            self.look_at_blobs(number)?;
            self.search(number, true)?;
        }
        self.read_logs()?;
        let sent = self.goods.hub.counts().content().body_bytes;
        self.account.add("bytes that the origin sent", sent);
        Ok(())
    }

    /// A node of which nobody wants anything does nothing.
    fn wait_until_idle(&mut self, number: usize) -> anyhow::Result<()> {
        let mut told = String::new();
        let idle = wait_for("a node to be idle", Duration::from_secs(30), || {
            told = self.ask(number, "GET", "/metrics", "")?.map(|(_, text)| text).unwrap_or_default();
            let is_zero = |name: &str| told.lines().any(|line| line == format!("{name} 0"));
            let states = ["queued", "running"].map(|state| format!("larder_jobs{{state=\"{state}\"}}"));
            Ok((is_zero("larder_fetching_files") && states.iter().all(|state| is_zero(state))).then_some(()))
        });
        if idle.is_err() {
            let kept: Vec<&str> =
                told.lines().filter(|line| line.starts_with("larder_jobs") || line.starts_with("larder_fetching")).collect();
            self.broke(Promise::Jobs, &format!("node {number} works on though nobody wants anything: {kept:?}"));
        }
        Ok(())
    }

    /// Each blob of a store that was verified is what its name says.
    fn look_at_blobs(&mut self, number: usize) -> anyhow::Result<()> {
        let home = self.node(number)?.home();
        for path in [files_below(&home.join("blobs"))?, files_below(&home.join("private"))?].concat() {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let content = name.rsplit('.').next().unwrap_or_default();
            if ContentId::of(&std::fs::read(&path)?).to_string() != content {
                self.broke(Promise::Content, &format!("node {number} keeps {} that is not what its name says", path.display()));
            }
        }
        Ok(())
    }

    /// Looks through all logs: whom nodes banned, and whether anything in them broke.
    fn read_logs(&mut self) -> anyhow::Result<()> {
        let honest: Vec<String> = self.market.everyone().map(|node| node.peer().to_owned()).collect();
        for number in 0..NODES {
            let folder = self.node(number)?.folder().to_owned();
            let logs = files_below(&folder)?.into_iter().filter(|path| path.extension().is_some_and(|extension| extension == "log"));
            for log in logs.collect::<Vec<_>>() {
                let text = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
                for line in text.lines() {
                    if line.contains("panicked") || line.contains("a defect of Larder") {
                        self.broke(Promise::Daemons, &format!("{}: {line}", log.display()));
                    }
                    if line.contains("it lied") {
                        self.account.count("bans of liars");
                        if honest.iter().any(|peer| line.contains(peer)) {
                            self.broke(Promise::Blame, &format!("{}: {line}", log.display()));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}
