//! The cache outside the checkout: server jars, tools and port reservations, shared by every process of the
//! user and safe to fill from several at once.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The cache directory: `$SLUICE_CACHE`, else `~/.cache/sluice`. Made if missing.
///
/// # Errors
/// When neither variable is set or the directory cannot be made.
pub fn dir() -> Result<PathBuf> {
    let dir = match std::env::var_os("SLUICE_CACHE") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => PathBuf::from(std::env::var_os("HOME").context("neither SLUICE_CACHE nor HOME is set")?)
            .join(".cache")
            .join("sluice"),
    };
    std::fs::create_dir_all(&dir).with_context(|| format!("make the cache directory {}", dir.display()))?;
    Ok(dir)
}

/// The directory `name` in the cache, filled by `fill` if no process has filled it before. `fill` writes to a
/// directory beside it that is renamed once complete, under a lock, so a half-filled entry is never seen and
/// two processes do the work once.
///
/// # Errors
/// What `fill` answers, or when the cache cannot be written.
pub fn filled(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    filled_in(&dir()?, name, fill)
}

fn filled_in(cache: &Path, name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let entry = cache.join(name);
    if entry.is_dir() {
        return Ok(entry);
    }
    let parent = entry.parent().context("a cache entry has a parent")?;
    std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
    let _lock = lock(&cache.join("fill.lock"))?;
    if entry.is_dir() {
        return Ok(entry);
    }
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(parent)
        .with_context(|| format!("make a directory in {}", parent.display()))?;
    fill(partial.path())?;
    std::fs::rename(partial.path(), &entry)
        .with_context(|| format!("move the filled directory to {}", entry.display()))?;
    Ok(entry)
}

/// Waits for the lock on `path`; it is free again when the file is dropped or its process ends.
///
/// # Errors
/// When the file cannot be made or locked.
pub fn lock(path: &Path) -> Result<File> {
    let file = open(path)?;
    file.lock().with_context(|| format!("lock {}", path.display()))?;
    Ok(file)
}

/// The lock on `path`, or `None` when another process or thread holds it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<File>> {
    let file = open(path)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("lock {}", path.display()))
        }
    }
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn an_entry_wanted_by_many_at_once_is_filled_once() {
        let cache = tempfile::tempdir().unwrap();
        let fills = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let entry = filled_in(cache.path(), "jars/kafka", |dir| {
                        fills.fetch_add(1, Ordering::SeqCst);
                        std::fs::write(dir.join("one"), "1")?;
                        Ok(())
                    })
                    .unwrap();
                    assert_eq!(std::fs::read_to_string(entry.join("one")).unwrap(), "1");
                });
            }
        });
        assert_eq!(fills.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn an_entry_whose_filling_failed_is_filled_by_the_next() {
        let cache = tempfile::tempdir().unwrap();
        let failed = filled_in(cache.path(), "jars/kafka", |dir| {
            std::fs::write(dir.join("half"), "")?;
            anyhow::bail!("the network is down")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the network is down");
        let entry =
            filled_in(cache.path(), "jars/kafka", |dir| Ok(std::fs::write(dir.join("all"), "")?)).unwrap();
        assert!(entry.join("all").exists() && !entry.join("half").exists());
    }
}
