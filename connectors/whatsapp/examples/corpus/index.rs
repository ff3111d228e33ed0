//! Folders of samples and their indexes.

use std::path::{Path, PathBuf};

/// Name of an index.
const INDEX: &str = "INDEX.tsv";

/// A folder or file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub(crate) struct Error {
    path: PathBuf,
    source: std::io::Error,
}

/// A sample.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its file.
    pub(crate) file: String,
    /// Kind of a webhook, or HTTP status of an answer; empty without an index.
    pub(crate) kind: String,
    /// What it should come to; empty without an index.
    pub(crate) expected: String,
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error { path, source }
}

/// The folders in `root`, by name; none if there is no `root`.
pub(crate) fn folders(root: &Path) -> Result<Vec<PathBuf>, Error> {
    if !root.is_dir() {
        return Ok(Vec::new());
    }
    let mut folders = children(root)?;
    folders.retain(|path| path.is_dir());
    Ok(folders)
}

/// The samples of a folder, from its index if it has one.
pub(crate) fn rows(folder: &Path) -> Result<Vec<Row>, Error> {
    let index = folder.join(INDEX);
    if !index.is_file() {
        let files = children(folder)?.into_iter().filter(|path| path.is_file());
        let name = |path: PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Ok(files
            .map(|path| Row { file: name(path), kind: String::new(), expected: String::new() })
            .collect());
    }
    let text = std::fs::read_to_string(&index).map_err(at(&index))?;
    let rows = text.lines().skip(1).filter(|line| !line.trim().is_empty()).map(|line| {
        let mut columns = line.split('\t').map(|column| column.trim().to_owned());
        let mut next = || columns.next().unwrap_or_default();
        let (file, _origin, kind, expected) = (next(), next(), next(), next());
        Row { file, kind, expected }
    });
    Ok(rows.collect())
}

/// The bytes of a sample.
pub(crate) fn body(folder: &Path, row: &Row) -> Result<Vec<u8>, Error> {
    let path = folder.join(&row.file);
    std::fs::read(&path).map_err(at(&path))
}

fn children(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = std::fs::read_dir(folder).map_err(at(folder))?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(at(folder))?;
    paths.sort();
    Ok(paths)
}
