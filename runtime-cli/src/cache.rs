//! Where compiled kernels are kept from one command to the next, and what came of it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcetera::BaseStrategy;
use sardonyx::{About, CacheUse, Event, Observer, SessionBuilder};

use crate::describe;
use crate::output::{Console, format};

/// The folder of a command.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: Option<PathBuf>,
}

/// What came of compiling in one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// Time spent compiling kernels, or finding them compiled.
    pub shaders: Duration,
    /// off, unsupported, hit, miss or refused; `None` when nothing was compiled.
    pub cache: Option<&'static str>,
    /// Why what was compiled could not be kept.
    unwritable: Option<String>,
}

/// Listens to a session.
#[derive(Debug, Default)]
struct Listener(Mutex<Compiled>);

/// What a session tells of its kernels.
#[derive(Clone, Debug)]
pub struct Watch(Arc<Listener>);

impl Cache {
    /// The folder that `--cache` names, or the user's own; none with `off`, and where users have no folders.
    pub fn new(argument: Option<&Path>) -> Cache {
        let own = || Some(etcetera::choose_base_strategy().ok()?.cache_dir().join("sardonyx"));
        match argument {
            None => Cache { folder: own() },
            Some(path) if path == "off" => Cache::off(),
            Some(path) => Cache { folder: Some(path.to_owned()) },
        }
    }

    /// No folder.
    pub fn off() -> Cache {
        Cache { folder: None }
    }

    /// The folder.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Lets a session use the folder, and listens to it.
    pub fn give(&self, builder: SessionBuilder) -> (SessionBuilder, Watch) {
        let watch = Watch(Arc::default());
        let builder = builder.observer(Arc::clone(&watch.0) as Arc<dyn Observer>);
        match &self.folder {
            Some(folder) => (builder.cache(folder), watch),
            None => (builder, watch),
        }
    }
}

impl Compiled {
    /// The time of the kernels, and what the folder had of them; `None` when nothing was compiled.
    pub fn to_text(&self) -> Option<String> {
        let cache = match self.cache? {
            "off" | "unsupported" => String::new(),
            word => format!(", cache {word}"),
        };
        Some(format!("shaders {}{cache}", format::duration(describe::ns(self.shaders))))
    }
}

impl Watch {
    /// What was told so far.
    pub fn compiled(&self) -> Compiled {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Warns when what was compiled could not be kept.
    pub fn warn(&self, console: &Console) {
        if let Some(why) = self.compiled().unwritable {
            console.warn(format!("compiled kernels are not kept: {why} (--cache DIR, or --cache off)"));
        }
    }
}

impl Observer for Listener {
    fn event(&self, _: &About<'_>, event: &Event<'_>) {
        self.hear(event);
    }
}

impl Listener {
    fn hear(&self, event: &Event<'_>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Compiled { cache, took, .. } => {
                seen.shaders += *took;
                seen.cache = Some(word(*cache));
            }
            Event::CacheUnwritable { folder, error } => {
                seen.unwritable = Some(format!("{}: {error}", folder.display()));
            }
            _ => {}
        }
    }
}

fn word(cache: CacheUse) -> &'static str {
    match cache {
        CacheUse::Off => "off",
        CacheUse::Hit => "hit",
        CacheUse::Miss => "miss",
        CacheUse::Refused => "refused",
        _ => "unsupported",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders() {
        assert_eq!(Cache::new(Some(Path::new("off"))).folder(), None);
        assert_eq!(Cache::new(Some(Path::new("a/b"))).folder(), Some(Path::new("a/b")));
        assert!(Cache::new(None).folder().is_none_or(|folder| folder.ends_with("sardonyx")));
    }

    #[test]
    fn a_session_is_listened_to() {
        let (_, watch) = Cache::off().give(sardonyx::Session::builder());
        assert_eq!(watch.compiled(), Compiled::default());
        let took = Duration::from_millis(2);
        for cache in [CacheUse::Off, CacheUse::Hit] {
            watch.0.hear(&Event::Compiled { kernels: 1, cache, took });
        }
        assert_eq!((watch.compiled().shaders, watch.compiled().cache), (2 * took, Some("hit")));
        assert!(watch.compiled().to_text().unwrap().ends_with("cache hit"));
    }
}
