//! A folder where later processes find what earlier ones made. Nothing in it is ever needed, and nothing is believed
//! unchecked: what is absent, damaged or made by others is made anew.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest, Sha256};

/// What every entry begins with: a word, and the version of this form.
const MAGIC: [u8; 12] = *b"sardonyx\x01\0\0\0";
/// Magic, key, length of the content, and the digest of the content.
const HEADER: usize = MAGIC.len() + DIGEST + 8 + DIGEST;
const DIGEST: usize = 32;
/// The largest content of an entry, and the most bytes of all entries together.
const LARGEST: usize = 64 << 20;
const MOST: u64 = 256 << 20;
/// What a process leaves behind when it is killed while writing is older than this.
const ABANDONED: Duration = Duration::from_secs(600);
const PREFIX: &str = "sardonyx-";
const ENTRY: &str = ".bin";
const PART: &str = ".part";

/// A folder of entries, which processes share without locks.
#[derive(Clone, Debug)]
pub(crate) struct CacheFolder {
    path: PathBuf,
}

/// What an entry is found under: the digest of everything that it depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Key([u8; DIGEST]);

/// What is in the folder under a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    /// What was written, whole.
    Found(Vec<u8>),
    Absent,
    /// Something that is damaged, of another version, too large, or cannot be read.
    Refused,
}

impl Key {
    /// The key of these parts, in this order.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Key {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Key(digest.finalize().into())
    }
}

impl CacheFolder {
    /// The folder need not be there: it is made with the first entry.
    pub(crate) fn new(path: &Path) -> CacheFolder {
        CacheFolder { path: path.to_owned() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn file(&self, key: &Key) -> PathBuf {
        let name: String = key.0.iter().map(|byte| format!("{byte:02x}")).collect();
        self.path.join(format!("{PREFIX}{name}{ENTRY}"))
    }

    /// What is there under a key.
    pub(crate) fn read(&self, key: &Key) -> Entry {
        let file = self.file(key);
        match fs::metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Entry::Absent,
            // Opening a pipe would wait for its writer.
            Ok(found) if found.is_file() && found.len() <= (HEADER + LARGEST) as u64 => {}
            _ => return Entry::Refused,
        }
        content(&file, key).map_or(Entry::Refused, Entry::Found)
    }

    /// Puts an entry in the place of what is there under its key: others see the old one or the whole new one. The
    /// oldest entries go when there are too many.
    ///
    /// # Errors
    /// When the content is too large, or the folder or file cannot be made or written.
    pub(crate) fn write(&self, key: &Key, content: &[u8]) -> io::Result<()> {
        if content.len() > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the entry is too large"));
        }
        make_folder(&self.path)?;
        let mut file = tempfile::Builder::new().prefix(PREFIX).suffix(PART).tempfile_in(&self.path)?;
        file.write_all(&header(key, content))?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.file(key))?;
        self.tidy()
    }

    /// Removes what killed processes left, and the oldest entries beyond the size of the folder.
    fn tidy(&self) -> io::Result<()> {
        let now = SystemTime::now();
        let mut entries = Vec::new();
        for found in fs::read_dir(&self.path)? {
            let found = found?;
            let name = found.file_name();
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            // Another process may have removed it since.
            let Ok(meta) = found.metadata() else { continue };
            let Ok(written) = meta.modified() else { continue };
            if name.ends_with(ENTRY) {
                entries.push((written, meta.len(), found.path()));
            } else if name.ends_with(PART) && now.duration_since(written).is_ok_and(|age| age > ABANDONED) {
                // Whoever comes next tries again.
                let _ = fs::remove_file(found.path());
            }
        }
        entries.sort_by_key(|(written, _, _)| std::cmp::Reverse(*written));
        let mut total = 0;
        for (_, bytes, path) in entries {
            total += bytes;
            if total > MOST {
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

/// Makes a folder, and those above it, that only its owner can read or write.
fn make_folder(path: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn header(key: &Key, content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u64).to_le_bytes();
    [&MAGIC[..], &key.0, &length, &Sha256::digest(content)].concat()
}

/// The content of a file, if all of it is as it was written under this key.
fn content(file: &Path, key: &Key) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    // The file may have grown since it was looked at.
    File::open(file).ok()?.take((HEADER + LARGEST) as u64).read_to_end(&mut bytes).ok()?;
    let content = bytes.get(HEADER..)?;
    (bytes.get(..HEADER)? == header(key, content)).then(|| content.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> (tempfile::TempDir, CacheFolder, Key) {
        let scratch = tempfile::tempdir().unwrap();
        let folder = CacheFolder::new(&scratch.path().join("a/b"));
        (scratch, folder, Key::of([&b"engine"[..], b"driver"]))
    }

    fn files(folder: &CacheFolder) -> Vec<String> {
        let names = fs::read_dir(folder.path()).unwrap();
        names.map(|file| file.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn what_is_written_is_read_and_replaced() {
        let (_scratch, folder, key) = folder();
        assert_eq!(folder.read(&key), Entry::Absent);
        for content in [&b"one"[..], b"", &[7; 100_000]] {
            folder.write(&key, content).unwrap();
            assert_eq!(folder.read(&key), Entry::Found(content.to_vec()));
        }
        assert_eq!(folder.read(&Key::of([&b"enginedriver"[..]])), Entry::Absent, "parts are kept apart");
        assert_eq!(files(&folder).len(), 1);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (_scratch, folder, key) = folder();
        folder.write(&key, &[0x5A; 200]).unwrap();
        let file = folder.file(&key);
        let sound = fs::read(&file).unwrap();
        for bit in 0..sound.len() * 8 {
            let mut damaged = sound.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&file, damaged).unwrap();
            assert_eq!(folder.read(&key), Entry::Refused, "bit {bit}");
        }
        for length in 0..sound.len() {
            fs::write(&file, &sound[..length]).unwrap();
            assert_eq!(folder.read(&key), Entry::Refused, "{length} bytes");
        }
        fs::write(&file, [&sound[..], b"x"].concat()).unwrap();
        assert_eq!(folder.read(&key), Entry::Refused, "longer");
        let mut huge = sound.clone();
        huge[MAGIC.len() + DIGEST..][..8].fill(0xFF);
        fs::write(&file, huge).unwrap();
        assert_eq!(folder.read(&key), Entry::Refused, "a length beyond everything");
        folder.write(&key, b"again").unwrap();
        assert_eq!(folder.read(&key), Entry::Found(b"again".to_vec()));
    }

    #[test]
    fn entries_of_others_and_what_is_no_file_are_refused() {
        let (_scratch, folder, key) = folder();
        let other = Key::of([&b"engine"[..], b"other driver"]);
        folder.write(&other, b"theirs").unwrap();
        fs::rename(folder.file(&other), folder.file(&key)).unwrap();
        assert_eq!(folder.read(&key), Entry::Refused);
        fs::remove_file(folder.file(&key)).unwrap();
        fs::create_dir(folder.file(&key)).unwrap();
        assert_eq!(folder.read(&key), Entry::Refused);
        assert!(folder.write(&key, b"x").is_err());
        assert!(folder.write(&other, &vec![0; LARGEST + 1]).is_err());
        assert_eq!(files(&folder).len(), 1, "nothing is left behind");
        // Wider than any entry, although it takes no room on disk.
        File::create(folder.file(&other)).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(folder.read(&other), Entry::Refused);
    }

    #[test]
    fn the_folder_stays_within_its_size() {
        let (_scratch, folder, key) = folder();
        folder.write(&key, b"old").unwrap();
        let age = |path: &Path, seconds: u64| {
            let when = SystemTime::now() - Duration::from_secs(seconds);
            File::options().write(true).open(path).unwrap().set_modified(when).unwrap();
        };
        age(&folder.file(&key), 1000);
        let large = folder.path().join(format!("{PREFIX}large{ENTRY}"));
        File::create(&large).unwrap().set_len(MOST - HEADER as u64 - 3).unwrap();
        age(&large, 100);
        let part = folder.path().join(format!("{PREFIX}x{PART}"));
        fs::write(&part, b"killed").unwrap();
        age(&part, ABANDONED.as_secs() + 1);
        let [strange, fresh] = ["notes.txt", "sardonyx-y.part"].map(|name| folder.path().join(name));
        fs::write(&strange, b"not ours").unwrap();
        fs::write(&fresh, b"being written").unwrap();
        let new = Key::of([&b"new"[..]]);
        folder.write(&new, b"new").unwrap();
        assert_eq!(folder.read(&key), Entry::Absent, "the oldest goes");
        assert!(large.exists() && folder.read(&new) == Entry::Found(b"new".to_vec()));
        assert!(strange.exists() && fresh.exists() && !part.exists());
    }

    #[test]
    fn readers_and_writers_at_once_see_whole_entries() {
        let (_scratch, folder, key) = folder();
        std::thread::scope(|scope| {
            for writer in 0..4u8 {
                let folder = &folder;
                scope.spawn(move || {
                    for round in 0..20 {
                        folder.write(&key, &vec![writer; 5000 + round]).unwrap();
                        let Entry::Found(content) = folder.read(&key) else { panic!("refused") };
                        assert!(content.len() >= 5000 && content.iter().all(|byte| *byte == content[0]));
                    }
                });
            }
        });
        assert_eq!(files(&folder).len(), 1);
    }
}
