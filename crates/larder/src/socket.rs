//! The socket of a store: where the process that holds the store is asked to carry out the commands of others.
//!
//! It lies in the store's folder, which only its owner can enter. What is answered is one JSON object a line: progress now and
//! then, and what came of the order at the end.

use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use futures::StreamExt;
use tokio::net::UnixListener;

use crate::command::{Order, Telling};

/// The longest path that a socket can have.
const MAX_SOCKET_PATH: usize = 100;
/// How long a process that works on an order may tell nothing before it counts as gone.
const SILENCE: Duration = Duration::from_secs(5);

/// The place of a store's socket. It is reached through the open folder where its path would be too long.
struct Place {
    path: PathBuf,
    /// Keeps the folder open while the path leads through it.
    _folder: Option<std::fs::File>,
}

impl Place {
    fn of(home: &Path) -> std::io::Result<Self> {
        let path = home.join("socket");
        if path.as_os_str().len() <= MAX_SOCKET_PATH {
            return Ok(Self { path, _folder: None });
        }
        let folder = std::fs::File::open(home)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/socket", folder.as_raw_fd()));
        Ok(Self { path, _folder: Some(folder) })
    }
}

/// Listens at the store's socket. Only who holds the store's lock may call this: a socket that lies there is left over from a
/// crash.
///
/// # Errors
/// It cannot be made.
pub(crate) fn listen(home: &Path) -> anyhow::Result<UnixListener> {
    let place = Place::of(home)?;
    let _ = std::fs::remove_file(&place.path);
    UnixListener::bind(&place.path).with_context(|| format!("the socket in {}", home.display()))
}

/// How it ended that another process was asked to carry out an order.
pub(crate) enum Joined {
    /// The order is carried out, and its last word told.
    Answered,
    /// Nobody answers at the socket.
    Nobody,
    /// The answer ended without a last word: the process has ended, or something in it has.
    Ended,
    /// The answer is none that is known here.
    NotUnderstood,
}

/// Has the process that holds the store carry out an order, and passes on what it tells.
pub(crate) async fn join(home: &Path, order: &Order, tell: &mut impl FnMut(Telling)) -> Joined {
    let Ok((answer, _place)) = send(home, order).await else { return Joined::Nobody };
    if !answer.status().is_success() {
        return Joined::NotUnderstood;
    }
    let (mut body, mut buffer) = (answer.bytes_stream(), Vec::new());
    while let Some(Ok(bytes)) = body.next().await {
        buffer.extend_from_slice(&bytes);
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let Ok(telling) = serde_json::from_slice(&line) else { return Joined::NotUnderstood };
            let last = !matches!(telling, Telling::Progress(_));
            tell(telling);
            if last {
                return Joined::Answered;
            }
        }
    }
    Joined::Ended
}

async fn send(home: &Path, order: &Order) -> anyhow::Result<(reqwest::Response, Place)> {
    let place = Place::of(home)?;
    // No TLS is spoken on a socket, but a client is not made without someone who could.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().unix_socket(place.path.as_path()).no_proxy().read_timeout(SILENCE).build()?;
    Ok((client.post("http://larder/v1/orders").json(order).send().await?, place))
}
