//! SeaweedFS: a complete S3 server in one process.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::json;

use super::upload::Bucket;
use super::{Keys, VIRTUAL_HOST_DOMAIN, binary, scratch};
use crate::process::{Process, SECOND_PORT, free_port};
use crate::scratch::Scratch;

/// How long a start may take. It takes four seconds on a quiet machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a start is tried: another process may take a port in between.
const TRIES: u32 = 3;
/// The buckets there are.
const BUCKETS: [&str; 3] = ["pub", "publist0", "priv"];

/// A SeaweedFS that is killed when it is dropped, with buckets of every kind.
///
/// `pub` may be read and listed by anyone, `publist0` read but not listed, `priv` neither.
pub struct SeaweedFs {
    endpoint: String,
    address: SocketAddr,
    process: Process,
    folder: Scratch,
}

impl SeaweedFs {
    /// May do everything.
    pub const ADMIN: Keys = Keys { id: "labadmin", secret: "labadminsecret" };
    /// May read and list `priv`, and nothing else.
    pub const READER: Keys = Keys { id: "labreader", secret: "labreadersecret" };

    /// Starts it with an empty data folder, and waits until objects can be written and read.
    ///
    /// # Errors
    /// Fails if it is not installed, or does not get ready; then the end of its log is shown.
    pub fn start() -> anyhow::Result<Self> {
        let mut failure = None;
        for _ in 0..TRIES {
            match Self::try_start() {
                Ok(server) => return Ok(server),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.context("no try was made")?)
    }

    fn try_start() -> anyhow::Result<Self> {
        let weed = binary("weed")?;
        let folder = scratch()?;
        let path = |name: &str| folder.path(name).display().to_string();
        std::fs::create_dir(path("data"))?;
        std::fs::create_dir(path("logs"))?;
        std::fs::write(path("s3.json"), identities().to_string())?;
        let (port, master, volume, filer) = (free_port()?, free_port()?, free_port()?, free_port()?);
        folder.and_outside(&sockets(&[("s3", port), ("filer", filer), ("master", master), ("volume", volume)]))?;
        // SeaweedFS reports to its makers unless told not to, listens everywhere unless told where, and opens two ports
        // that clash between instances.
        let arguments = [
            format!("-logdir={}", path("logs")),
            "server".to_owned(),
            format!("-dir={}", path("data")),
            "-ip=127.0.0.1".to_owned(),
            "-ip.bind=127.0.0.1".to_owned(),
            "-master.telemetry=false".to_owned(),
            "-master.volumeSizeLimitMB=1024".to_owned(),
            "-volume.max=100".to_owned(),
            "-filer".to_owned(),
            "-s3".to_owned(),
            format!("-s3.port={port}"),
            "-s3.port.iceberg=0".to_owned(),
            "-s3.port.lance=0".to_owned(),
            format!("-s3.config={}", path("s3.json")),
            "-s3.iam=false".to_owned(),
            format!("-s3.domainName={VIRTUAL_HOST_DOMAIN}"),
            format!("-master.port={master}"),
            format!("-volume.port={volume}"),
            format!("-filer.port={filer}"),
        ];
        let process = Process::start(&weed, &arguments, File::create(path("log"))?)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { endpoint: format!("http://{address}"), address, process, folder };
        server.wait()?;
        Ok(server)
    }

    /// Waits until every bucket takes an object and gives it back.
    fn wait(&mut self) -> anyhow::Result<()> {
        let store = self.store()?;
        let started = Instant::now();
        let mut ready = BUCKETS.iter().peekable();
        while let Some(bucket) = ready.peek() {
            match store.try_out(bucket) {
                Ok(()) => drop(ready.next()),
                Err(_) if self.process.is_running() && started.elapsed() < START_TIMEOUT => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => {
                    let log = std::fs::read_to_string(self.folder.path("log")).unwrap_or_default();
                    let end: Vec<&str> = log.lines().rev().take(20).collect();
                    bail!("SeaweedFS did not get ready: {error:#}\n{}", end.into_iter().rev().collect::<Vec<_>>().join("\n"))
                }
            }
        }
        Ok(())
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Uploads to it, with the keys that may do everything.
    ///
    /// # Errors
    /// Fails if no thread can be started.
    pub fn store(&self) -> anyhow::Result<Bucket> {
        Bucket::new(&self.endpoint, Self::ADMIN)
    }
}

/// The sockets that SeaweedFS leaves behind, whatever it is told.
fn sockets(parts: &[(&str, u16)]) -> Vec<String> {
    let names = |(part, port): &(&str, u16)| [format!("{part}-{port}"), format!("{part}-grpc-{}", port + SECOND_PORT)];
    parts.iter().flat_map(names).map(|name| format!("/tmp/seaweedfs-{name}.sock")).collect()
}

fn identities() -> serde_json::Value {
    let key = |keys: Keys| json!([{"accessKey": keys.id, "secretKey": keys.secret}]);
    json!({"identities": [
        {"name": "admin", "credentials": key(SeaweedFs::ADMIN), "actions": ["Admin", "Read", "List", "Tagging", "Write"]},
        {"name": "reader", "credentials": key(SeaweedFs::READER), "actions": ["Read:priv", "List:priv"]},
        {"name": "anonymous", "actions": ["Read:pub", "List:pub", "Read:publist0"]},
    ]})
}
