//! The way of a goal: resolve, look at home, fetch, lay, report.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::{StreamExt, TryFutureExt, TryStreamExt, stream};
use larder_content::{FileKey, Holding, NodeId, OriginFile, ProofKind, RelativePath, Resource, Scope, Subject};
use larder_engine::{GroupId, MarketId};
use larder_origin::{Access, Listing, OriginError, Origins};
use larder_peers::Sighting;
use larder_store::{Blob, KnownResource, LedgerBytes, Reservation, Store};

use crate::fetch::{FetchError, Fetched, Room, ShareWith, Wanted};
use crate::goal::{Goal, Row, Want};
use crate::home::{self, Home};
use crate::lay;
use crate::market::SPOKEN_OF_BYTES;
use crate::progress::{Meter, Progress};
use crate::read::Source;
use crate::report::{MountReport, Report, ResourceReport, Sources, Totals};
use crate::resolve::{resolve, resolve_anew};
use crate::{Node, NodeError, Patience};

/// Resources that are listed at once.
const LISTINGS: usize = 16;
/// Resources whose files are fetched at once: their reads take turns, so that all of them move.
const RESOURCES: usize = 64;
/// Files of one resource whose access is shown at once.
const PROBES: usize = 16;

/// One resource, listed.
pub(crate) struct Listed {
    pub(crate) listing: Listing,
    home: Vec<Home>,
}

/// One resource, all its files in the store.
pub(crate) struct Gathered {
    pub(crate) id: String,
    pub(crate) files: Vec<GatheredFile>,
}

impl Gathered {
    /// Where its bytes came from.
    fn sources(&self) -> Sources {
        let bytes: u64 = self.files.iter().map(|file| file.blob.size()).sum();
        let (peers, origin) = self.files.iter().fold((0, 0), |(peers, origin), file| (peers + file.peer_bytes, origin + file.origin_bytes));
        Sources { cache: bytes - peers - origin, peers, origin }
    }
}

/// One file in the store.
pub(crate) struct GatheredFile {
    pub(crate) path: RelativePath,
    pub(crate) blob: Blob,
    peer_bytes: u64,
    origin_bytes: u64,
}

/// What works on one goal.
pub(crate) struct Pipeline<'a> {
    node: &'a Node,
    origins: Arc<Origins>,
    progress: &'a Progress,
    started: Instant,
    /// The market of the job, and its patience.
    market: Option<MarketId>,
    patience: Patience,
}

impl<'a> Pipeline<'a> {
    /// # Errors
    /// If the goal is for a market that the node is not in.
    pub(crate) fn new(node: &'a Node, origins: Arc<Origins>, progress: &'a Progress, goal: &Goal) -> Result<Self, NodeError> {
        let market = node.markets.named(goal.market.as_deref())?;
        let patience = goal.patience.unwrap_or(node.patience);
        Ok(Self { node, origins, progress, started: Instant::now(), market, patience })
    }

    pub(crate) async fn run(&self, goal: Goal) -> Result<Report, NodeError> {
        let meters: Vec<_> = goal.wants.iter().map(|want| self.progress.meter(want.address.clone())).collect();
        let listings = stream::iter(0..goal.wants.len()).map(|number| self.list(&goal.wants[number], &meters[number]));
        let mut listed: Vec<Listed> = listings.buffered(LISTINGS).try_collect().await?;
        lay::check_sizes(&goal, &listed)?;
        let room = self.admit(&goal, &mut listed).await?;
        let gathering = stream::iter(listed.into_iter().enumerate()).map(|(number, listed)| {
            let gathered = self.gather(&goal.wants[number], listed, &meters[number], &room);
            gathered.map_ok(move |gathered| (number, gathered))
        });
        let gathered: BTreeMap<usize, Gathered> = gathering.buffer_unordered(RESOURCES).try_collect().await?;
        let gathered: Vec<Gathered> = gathered.into_values().collect();
        let laid = lay::lay(self.node, &goal, &gathered).await?;
        Ok(self.report(&goal, &gathered, laid))
    }

    async fn list(&self, want: &Want, meter: &Meter) -> Result<Listed, NodeError> {
        let listing = resolve(self.node, &self.origins, want).await?;
        self.look(want, listing, meter).await
    }

    async fn look(&self, want: &Want, listing: Listing, meter: &Meter) -> Result<Listed, NodeError> {
        meter.listed(listing.manifest.bytes());
        let private = self.origins.has_credentials(&want.resource);
        let look = move |store: &Store| home::look(store, listing.manifest.files(), private).map(|home| Listed { listing, home });
        self.node.blocking(look).await
    }

    /// Makes room for what is to come, or refuses before the first byte of it. What is wanted twice comes once: the first has
    /// the room for it.
    async fn admit(&self, goal: &Goal, listed: &mut [Listed]) -> Result<Arc<Reservation>, NodeError> {
        let (mut seen, mut missing, mut wanted) = (HashSet::new(), 0_u64, Vec::new());
        for Listed { listing, home } in &mut *listed {
            for (file, home) in listing.manifest.files().iter().zip(home) {
                if let Home::Missing { bytes } = home {
                    *bytes = if seen.insert(file.key(Scope::Public)) { *bytes } else { 0 };
                    missing = missing.saturating_add(*bytes);
                    wanted.extend([Scope::Public, Scope::Private].map(|scope| file.key(scope)));
                }
            }
        }
        let bytes = missing.saturating_add(lay::bytes_to_copy(goal, listed, self.node.store()));
        self.node.blocking(move |store| store.admit(bytes, &wanted, SystemTime::now())).await.map(Arc::new)
    }

    /// Brings all files of a resource into the store.
    async fn gather(&self, want: &Want, listed: Listed, meter: &Arc<Meter>, room: &Arc<Reservation>) -> Result<Gathered, NodeError> {
        let Listed { mut listing, home } = listed;
        let gathered = match self.gather_listed(want, &listing, home, meter, room).await {
            Err(NodeError::Fetch { place, source }) if is_not_as_listed(&source) => {
                tracing::info!(resource = want.address, "what it has is not what it listed: it is listed anew");
                let anew = resolve_anew(self.node, &self.origins, want).await?;
                if anew == listing && !is_changed(&source) {
                    return Err(NodeError::Fetch { place, source });
                }
                let found = self.look(want, anew, meter).await?;
                listing = found.listing;
                self.gather_listed(want, &listing, found.home, meter, room).await?
            }
            other => other?,
        };
        meter.completed();
        let known = KnownResource {
            id: gathered.id.clone(),
            address: want.address.clone(),
            bytes: gathered.files.iter().map(|file| file.blob.size()).sum(),
            files: gathered.files.len() as u64,
            used: SystemTime::now(),
            public: !listing.needed_credentials && gathered.files.iter().all(|file| file.blob.scope() == Scope::Public),
        };
        let from = gathered.sources();
        let spent = LedgerBytes { cache: from.cache, peers: from.peers, origin: from.origin };
        if known.public {
            self.node.markets.announce(Subject::of_resource(&known.id), Holding::Complete);
        }
        self.node.blocking(move |store| store.record_resource(&known).and_then(|()| store.add_to_ledger(&known.id, spent))).await?;
        Ok(gathered)
    }

    async fn gather_listed(
        &self,
        want: &Want,
        listing: &Listing,
        home: Vec<Home>,
        meter: &Arc<Meter>,
        room: &Arc<Reservation>,
    ) -> Result<Gathered, NodeError> {
        let scope = self.scope(want, listing, &home).await;
        let (resource, group) = (Arc::new(want.resource.clone()), self.node.fetcher.new_group());
        let around = if scope == Scope::Public && !listing.needed_credentials { self.look_around(listing, &home).await } else { None };
        let fetch = Fetch { pipeline: self, want, resource, scope, group, meter, room, around };
        let files = fetch.all(listing.manifest.files(), home).await?;
        Ok(Gathered { id: listing.id.clone(), files })
    }

    /// Says that a resource is being fetched, and sees who else has it or is at it.
    async fn look_around(&self, listing: &Listing, home: &[Home]) -> Option<Around> {
        let market_id = self.market?;
        let market = self.node.markets.get(market_id)?;
        let files = listing.manifest.files().iter().zip(home);
        let missing: Vec<&OriginFile> = files.filter(|(_, home)| !matches!(home, Home::Public(_))).map(|(file, _)| file).collect();
        if missing.is_empty() {
            return None;
        }
        let resource = Subject::of_resource(&listing.id);
        market.announce(resource, Holding::Fetching);
        let spoken_of = missing.iter().filter(|file| file.size >= SPOKEN_OF_BYTES).map(|file| Subject::from(file.key(Scope::Public)));
        let subjects: Vec<Subject> = std::iter::once(resource).chain(spoken_of).collect();
        let mut seen: HashMap<Subject, Vec<(NodeId, Holding)>> = HashMap::new();
        let began = Instant::now();
        for Sighting { subject, node, holding } in market.look(&subjects).await {
            seen.entry(subject).or_default().push((node, holding));
        }
        Some(Around { market: market_id, patience: self.patience.limit(), resource, seen, looked: began.elapsed() })
    }

    /// Whether what is missing may be read by anyone: found out by reading the first byte of it without credentials.
    async fn scope(&self, want: &Want, listing: &Listing, home: &[Home]) -> Scope {
        if !self.origins.has_credentials(&want.resource) {
            return Scope::Public;
        }
        let missing = listing.manifest.files().iter().zip(home).find(|(file, home)| file.size > 0 && !matches!(home, Home::Public(_)));
        let Some((file, _)) = missing else { return Scope::Public };
        match self.source(&Arc::new(want.resource.clone()), file, Access::Anonymous).probe().await {
            Ok(()) => Scope::Public,
            Err(error) => {
                tracing::debug!(resource = want.address, %error, "private: not to be read without credentials");
                Scope::Private
            }
        }
    }

    fn source(&self, resource: &Arc<Resource>, file: &OriginFile, access: Access) -> Source {
        Source {
            origins: self.origins.clone(),
            resource: resource.clone(),
            file: Arc::new(file.clone()),
            access,
            pace: self.node.pace.clone(),
        }
    }

    fn report(&self, goal: &Goal, gathered: &[Gathered], laid: lay::Laid) -> Report {
        let source = |mount: usize| laid.sources[mount].display().to_string();
        let mut seen = std::collections::BTreeSet::new();
        let resources = goal.rows.iter().map(|row| row_report(goal, row, &gathered[row.want], source(row.mount), seen.insert(row.want)));
        let resources: Vec<ResourceReport> = resources.collect();
        let mounts = goal.mounts.iter().enumerate().map(|(number, mount)| MountReport {
            op: mount.op.clone(),
            target: mount.target.clone(),
            source: source(number),
            readonly: !mount.writable,
        });
        Report {
            state: "ready".into(),
            lease: laid.lease,
            elapsed_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            totals: Totals::of(&resources),
            mounts: mounts.collect(),
            resources,
            warnings: goal.warnings.iter().cloned().chain(gathered.iter().filter_map(warn_of_unproven)).collect(),
        }
    }
}

/// One row. What a job wants twice came from the origin once: the `first` row has it.
fn row_report(goal: &Goal, row: &Row, gathered: &Gathered, source: String, first: bool) -> ResourceReport {
    let mount = &goal.mounts[row.mount];
    let bytes = gathered.files.iter().map(|file| file.blob.size()).sum();
    let from = if first { gathered.sources() } else { Sources { cache: bytes, ..Sources::default() } };
    let mut proof: BTreeMap<String, u64> = BTreeMap::new();
    for file in &gathered.files {
        *proof.entry(file.blob.proof().to_string()).or_default() += 1;
    }
    ResourceReport {
        op: row.op.clone(),
        kind: row.kind.to_owned(),
        id: gathered.id.clone(),
        target: mount.target.clone(),
        source,
        readonly: !mount.writable,
        files: gathered.files.len() as u64,
        bytes,
        from,
        proof,
    }
}

/// What an operator should know of files that nothing proves.
fn warn_of_unproven(gathered: &Gathered) -> Option<String> {
    let unproven = gathered.files.iter().filter(|file| file.blob.proof() == ProofKind::None).count();
    (unproven > 0)
        .then(|| format!("{}: of {unproven} files the origin says nothing that proves their bytes: they are as it sent them", gathered.id))
}

/// What fetches the files of one resource.
struct Fetch<'a> {
    pipeline: &'a Pipeline<'a>,
    want: &'a Want,
    resource: Arc<Resource>,
    scope: Scope,
    group: GroupId,
    meter: &'a Arc<Meter>,
    room: &'a Arc<Reservation>,
    around: Option<Around>,
}

/// Who else is at a resource.
struct Around {
    market: MarketId,
    patience: Option<f64>,
    resource: Subject,
    seen: HashMap<Subject, Vec<(NodeId, Holding)>>,
    looked: Duration,
}

impl Around {
    /// With whom a file of the resource is fetched.
    fn share(&self, key: FileKey) -> ShareWith {
        let seen = |subject| self.seen.get(&subject).into_iter().flatten().copied();
        let known = seen(Subject::from(key)).chain(seen(self.resource)).filter(|(_, holding)| *holding != Holding::Gone);
        let Self { market, patience, resource, looked, .. } = *self;
        ShareWith { market, patience, resource, known: known.collect(), looked }
    }
}

impl Fetch<'_> {
    /// Brings `listed` into the store, given what of it is there, and orders it by path.
    async fn all(&self, listed: &[OriginFile], home: Vec<Home>) -> Result<Vec<GatheredFile>, NodeError> {
        let (mut files, mut shown, mut away) = (Vec::with_capacity(listed.len()), Vec::new(), Vec::new());
        for (number, home) in home.into_iter().enumerate() {
            match home {
                Home::Public(blob) => files.push(self.taken(&listed[number], blob)),
                Home::Private(blob) if self.scope == Scope::Private => shown.push((number, blob)),
                // What has become public is fetched as such.
                Home::Private(_) => away.push((number, 0)),
                Home::Missing { bytes } => away.push((number, bytes)),
            }
        }
        let files_at_once = self.pipeline.node.fetcher.files_at_once();
        let shown = stream::iter(shown).map(|(number, blob)| self.take_private(&listed[number], blob)).buffer_unordered(PROBES);
        let away = stream::iter(away).map(|(number, bytes)| self.file(&listed[number], bytes)).buffer_unordered(files_at_once);
        let mut coming = pin!(shown.chain(away));
        while let Some(file) = coming.try_next().await? {
            files.push(file);
        }
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(files)
    }

    /// A file that was in the store.
    fn taken(&self, file: &OriginFile, blob: Blob) -> GatheredFile {
        self.meter.add_cache(file.size);
        GatheredFile { path: file.path.clone(), blob, peer_bytes: 0, origin_bytes: 0 }
    }

    /// Takes a private file that is in the store, after a byte of it was read with the job's own credentials.
    async fn take_private(&self, file: &OriginFile, blob: Blob) -> Result<GatheredFile, NodeError> {
        self.show_access(file).await.map_err(|error| self.failed(Arc::new(error)))?;
        Ok(self.taken(file, blob))
    }

    /// Fetches a file, for which room for `bytes` is kept. One that turns out to be private among public ones is read with
    /// credentials.
    async fn file(&self, file: &OriginFile, bytes: u64) -> Result<GatheredFile, NodeError> {
        let room = Arc::new(Room::new(self.room.clone(), bytes));
        let fetched = match self.fetch(file, self.scope, &room).await {
            Err(error) if self.scope == Scope::Public && is_denied(&error) && self.pipeline.origins.has_credentials(&self.resource) => {
                self.fetch(file, Scope::Private, &room).await
            }
            other => other,
        };
        let Fetched { blob, peer_bytes, origin_bytes } = fetched.map_err(|error| self.failed(error))?;
        room.keep(0);
        Ok(GatheredFile { path: file.path.clone(), blob, peer_bytes, origin_bytes })
    }

    async fn fetch(&self, file: &OriginFile, scope: Scope, room: &Arc<Room>) -> Result<Fetched, Arc<FetchError>> {
        if file.size == 0 {
            let (store, file) = (self.pipeline.node.store().clone(), file.clone());
            // It says nothing that its listing does not say, so it is public.
            let sealed = tokio::task::spawn_blocking(move || store.put_empty(&file, Scope::Public)).await;
            let sealed = sealed.map_err(|panic| FetchError::Defect(panic.to_string()))?;
            let blob = sealed.map_err(|error| FetchError::of_empty(error, &self.want.address))?;
            return Ok(Fetched { blob, peer_bytes: 0, origin_bytes: 0 });
        }
        let access = match scope {
            Scope::Public => Access::Anonymous,
            Scope::Private => {
                // Someone else may be fetching it, or have left it half done: this job's own credentials must open it.
                self.show_access(file).await?;
                Access::Credentials
            }
        };
        let wanted = Wanted {
            file: file.clone(),
            scope,
            access,
            resource: self.resource.clone(),
            origins: self.pipeline.origins.clone(),
            pace: self.pipeline.node.pace.clone(),
            share: self.around.as_ref().filter(|_| scope == Scope::Public).map(|around| around.share(file.key(scope))),
            group: self.group,
            meter: self.meter.clone(),
            room: room.clone(),
        };
        self.pipeline.node.fetcher.fetch(wanted).await
    }

    /// Reads a byte of a private file with the job's own credentials.
    async fn show_access(&self, file: &OriginFile) -> Result<(), FetchError> {
        self.pipeline.source(&self.resource, file, Access::Credentials).probe().await.map_err(FetchError::Origin)
    }

    fn failed(&self, source: Arc<FetchError>) -> NodeError {
        NodeError::Fetch { place: self.want.place.clone(), source }
    }
}

/// Whether the origin has another version than it listed.
fn is_changed(error: &FetchError) -> bool {
    matches!(error, FetchError::Origin(OriginError::Changed { .. }))
}

/// Whether it may be the listing that is wrong.
fn is_not_as_listed(error: &FetchError) -> bool {
    let of_origin = || matches!(error, FetchError::Origin(OriginError::Missing { .. } | OriginError::Invalid { .. }));
    is_changed(error) || of_origin() || matches!(error, FetchError::Corrupt { .. })
}

/// Whether credentials may help.
fn is_denied(error: &FetchError) -> bool {
    matches!(error, FetchError::Origin(OriginError::Denied { .. } | OriginError::Gated { .. } | OriginError::Missing { .. }))
}
