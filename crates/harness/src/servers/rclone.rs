//! `rclone serve s3`: a weak server that ignores `If-Match` and part numbers, and answers ranges with 200.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Keys, binary, scratch};
use crate::process::{Process, free_port};
use crate::scratch::Scratch;

/// How long a start may take.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// An rclone that serves a folder as S3 until it is dropped.
pub struct RcloneS3 {
    endpoint: String,
    address: SocketAddr,
    _process: Process,
    _folder: Scratch,
}

impl RcloneS3 {
    /// Serves `root`: each folder in it is a bucket. Without keys anyone may do everything.
    ///
    /// # Errors
    /// Fails if it is not installed, or does not listen in time; then its log is shown.
    pub fn start(root: &Path, keys: Option<Keys>) -> anyhow::Result<Self> {
        let rclone = binary("rclone")?;
        let folder = scratch()?;
        let log = folder.path("log");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let mut arguments: Vec<String> =
            ["serve", "s3", "--config", "/dev/null", "--dir-cache-time", "0s", "--addr"].map(str::to_owned).into();
        arguments.push(address.to_string());
        if let Some(keys) = keys {
            arguments.extend(["--auth-key".to_owned(), format!("{},{}", keys.id, keys.secret)]);
        }
        arguments.push(root.to_str().context("the folder's name is not UTF-8")?.to_owned());
        let mut process = Process::start(&rclone, &arguments, File::create(&log)?)?;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if !process.is_running() || started.elapsed() > START_TIMEOUT {
                bail!("rclone does not listen at {address}: {}", std::fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { endpoint: format!("http://{address}"), address, _process: process, _folder: folder })
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
}
