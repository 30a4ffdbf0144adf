//! Keys and tokens: those of this node, in files that only their owner can read, and those that other tools keep.
//!
//! A file is made whole or not at all, and never replaced.

use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use larder_content::Secret;
use larder_node::PullKeys;
use larder_origin::HubConfig;

use super::variable;

/// The file of this node's key where no other is named.
pub(super) const KEY_FILE: &str = "identity.key";
/// The file of the token that the API asks for over TCP.
const TOKEN_FILE: &str = "api-token";
/// The longest file that is read as a key or token.
const MAX_BYTES: u64 = 4096;

/// The seed of this node's key. It is made if there is none, unless it is to be in a file of the operator's.
///
/// # Errors
/// The file cannot be read or made, or holds no key.
pub(super) fn identity(home: &Path, path: &Path) -> anyhow::Result<[u8; 32]> {
    let place = || format!("the key of this node, {}", path.display());
    let text = if path == home.join(KEY_FILE) {
        read_or_make(path, || hex::encode(larder_node::new_seed()) + "\n").with_context(place)?
    } else {
        read(path).with_context(place)?.with_context(|| {
            format!("{} is not there: name another file in peers.key, or none, and a key will be made in the store's folder", place())
        })?
    };
    seed(&text).with_context(place)
}

/// Reads a seed of 64 hex digits, or a Solana key file. What is wrong with it is told without a word of it.
fn seed(text: &str) -> anyhow::Result<[u8; 32]> {
    let text = text.trim();
    if text.starts_with('[') {
        return Ok(larder_node::solana_seed(text)?);
    }
    let mut seed = [0; 32];
    let Ok(()) = hex::decode_to_slice(text, &mut seed) else { bail!("it is neither 64 hex digits nor a Solana key file") };
    Ok(seed)
}

/// The token that the API asks for over TCP, made when it is first needed.
///
/// # Errors
/// The file cannot be read or made, or holds no token.
pub(super) fn api_token(home: &Path) -> anyhow::Result<Secret> {
    let path = home.join(TOKEN_FILE);
    let place = || format!("the token of the API, {}", path.display());
    let text = read_or_make(&path, || hex::encode(larder_node::new_seed()) + "\n").with_context(place)?;
    let token = text.trim();
    ensure!(token.len() >= 32, "{}: it has fewer than 32 characters: remove the file, and another will be made", place());
    ensure!(token.chars().all(|char| char.is_ascii_graphic()), "{}: it is to be one word of ASCII characters", place());
    Ok(Secret::new(token))
}

/// Makes the store's folder as the store itself does: nobody else can enter it.
///
/// # Errors
/// It cannot be made.
pub(crate) fn make_home(home: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(home).with_context(|| home.display().to_string())
}

fn read_or_make(path: &Path, make: impl FnOnce() -> String) -> anyhow::Result<String> {
    if let Some(text) = read(path)? {
        return Ok(text);
    }
    let folder = path.parent().context("it is in no folder")?;
    make_home(folder)?;
    let text = make();
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(text),
        // Another process made it meanwhile: that one counts.
        Err(failed) if failed.error.kind() == ErrorKind::AlreadyExists => read(path)?.context("it came and went"),
        Err(failed) => Err(failed.error.into()),
    }
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    let file = match std::fs::metadata(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    ensure!(file.is_file() && file.len() <= MAX_BYTES, "it is no file of at most {MAX_BYTES} bytes");
    if file.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "others can read this secret: take that from them with chmod 600");
    }
    String::from_utf8(std::fs::read(path)?).map(Some).map_err(|_| anyhow::anyhow!("it is not text in UTF-8"))
}

/// `HF_TOKEN`, else the file that the hub's own tools store it in.
pub(super) fn hub_token() -> Option<Secret> {
    if let Some(token) = variable("HF_TOKEN") {
        return Some(Secret::new(token.trim()));
    }
    if let Some(path) = variable("HF_TOKEN_PATH") {
        let text = std::fs::read_to_string(path).ok()?;
        return Some(Secret::new(text.trim())).filter(|token| !token.is_empty());
    }
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(variable("HOME")?).join(".cache")));
    let hf_home = variable("HF_HOME").map(PathBuf::from).or_else(|| cache.map(|cache| cache.join("huggingface")));
    HubConfig::stored_token(hf_home?)
}

/// The keys for `pull s3://…`, by the AWS conventions. Temporary ones are not used: no origin takes their session token.
///
/// # Errors
/// One key is set without the other.
pub(crate) fn aws_keys() -> anyhow::Result<Option<PullKeys>> {
    aws_keys_of(variable)
}

fn aws_keys_of(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<PullKeys>> {
    if variable("AWS_SESSION_TOKEN").is_some() {
        tracing::warn!("AWS_SESSION_TOKEN is not supported: the bucket is read without the keys in the environment");
        return Ok(None);
    }
    let region = variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION"));
    match (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        (Some(access_key_id), Some(secret_access_key)) => Ok(Some(PullKeys { region, access_key_id, secret_access_key })),
        (None, None) => Ok(None),
        (Some(_), None) => bail!("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY: set both, or neither to read without keys"),
        (None, Some(_)) => bail!("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID: set both, or neither to read without keys"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_key_is_made_once_and_read_by_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (home, path) = (folder.path().join("home"), folder.path().join("home").join(KEY_FILE));
        let seed = identity(&home, &path).unwrap();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&home), 0o700);
        assert_eq!(std::fs::read_to_string(&path).unwrap().trim(), hex::encode(seed));
        assert_eq!(identity(&home, &path).unwrap(), seed);
        let others: Vec<[u8; 32]> =
            (0..2).map(|other| folder.path().join(other.to_string())).map(|home| identity(&home, &home.join(KEY_FILE)).unwrap()).collect();
        assert!(others[0] != others[1] && others[0] != seed);
    }

    #[test]
    fn a_key_that_is_made_at_the_same_time_is_the_same_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let seeds: Vec<[u8; 32]> = std::thread::scope(|scope| {
            let makers: Vec<_> = (0..8).map(|_| scope.spawn(|| identity(folder.path(), &folder.path().join(KEY_FILE)).unwrap())).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(seeds.iter().all(|seed| *seed == seeds[0]));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_key_file_of_the_operators_is_never_made_and_what_is_wrong_in_it_is_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("own.key");
        let message = |path: &Path| format!("{:#}", identity(folder.path(), path).unwrap_err());
        assert!(message(&path).contains("peers.key"), "{}", message(&path));
        assert!(!path.exists());
        for wrong in ["", "5ec4e7", &"5ec4e7".repeat(50), &format!("[{}5ec4e7", "5,".repeat(63)), "\u{0}5ec4e7"] {
            std::fs::write(&path, wrong).unwrap();
            let message = message(&path);
            assert!(message.contains("own.key") && !message.contains("5ec4e7") && !message.contains("5,5"), "{message}");
        }
        std::fs::write(&path, vec![b'a'; 5000]).unwrap();
        assert!(message(&path).contains("at most 4096 bytes"));
        assert!(message(folder.path()).contains("no file"));
    }

    #[test]
    fn a_token_is_made_once_and_a_weak_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let token = api_token(folder.path()).unwrap();
        assert_eq!(token.expose().len(), 64);
        assert_eq!(api_token(folder.path()).unwrap().expose(), token.expose());
        assert_eq!(mode(&folder.path().join(TOKEN_FILE)), 0o600);
        for weak in ["", "short", "with a space between its many many words"] {
            std::fs::write(folder.path().join(TOKEN_FILE), weak).unwrap();
            let error = format!("{:#}", api_token(folder.path()).unwrap_err());
            assert!(error.contains(TOKEN_FILE) && (weak.is_empty() || !error.contains(weak)), "{error}");
        }
    }

    #[test]
    fn keys_of_the_environment_are_used_whole_or_not_at_all() {
        let keys = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned());
            aws_keys_of(find).map(|keys| keys.map(|keys| (keys.region, keys.access_key_id, keys.secret_access_key)))
        };
        let (id, secret, token) = (("AWS_ACCESS_KEY_ID", "i"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_SESSION_TOKEN", "t"));
        assert_eq!(keys(&[]).unwrap(), None);
        assert_eq!(keys(&[id, secret, ("AWS_DEFAULT_REGION", "r")]).unwrap(), Some((Some("r".into()), "i".into(), "s".into())));
        assert!(keys(&[id]).unwrap_err().to_string().starts_with("AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY"));
        assert!(keys(&[secret]).unwrap_err().to_string().starts_with("AWS_SECRET_ACCESS_KEY is set without AWS_ACCESS_KEY_ID"));
        // With their token temporary keys would be others: a server would call them wrong.
        assert_eq!(keys(&[id, secret, token]).unwrap(), None);
    }
}
