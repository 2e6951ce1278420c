//! Events for a host that counts and logs: what was planned, what ran and how long, what fell back, what failed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::digest::Digest;
use crate::error::Error;
use crate::memory::MemoryPlan;
use crate::model::Model;
use crate::placement::PlacedStep;
use crate::values::Times;

/// Takes events. It is called on the thread that runs, so it should not keep it.
pub trait Observer: Send + Sync {
    /// Something happened in a session.
    fn event(&self, about: &About<'_>, event: &Event<'_>);
}

/// What an event is about.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct About<'a> {
    /// The device's id.
    pub device: &'a str,
    /// The model. Its digest is made when it is asked for.
    pub model: &'a Model,
    /// The plan that was made or that ran, as [`crate::Session::plan_digest`] names it; `None` where there is none yet.
    pub plan: Option<Digest>,
}

/// Something that happened in a session. Events hold names and numbers, never values of tensors.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A part of a model was planned and compiled for new sizes.
    Planned {
        /// The model's operators that run on the device.
        on_device: usize,
        /// The model's operators.
        operators: usize,
        /// Launches of kernels in one run.
        dispatches: usize,
        /// What it needs of memory.
        memory: MemoryPlan,
        /// The time that it took.
        took: Duration,
    },
    /// A step of what was planned runs on the CPU although the device is a GPU.
    Fallback {
        /// The step, with the reason.
        step: &'a PlacedStep,
    },
    /// Kernels were compiled for a device. It comes before the [`Event::Planned`] whose time it is a part of.
    Compiled {
        /// How many.
        kernels: usize,
        /// Whether compiled code was in the folder of [`crate::SessionBuilder::cache`].
        cache: CacheUse,
        /// The time that it took, with reading and writing the folder.
        took: Duration,
    },
    /// What was compiled could not be kept in the folder of [`crate::SessionBuilder::cache`]. Nothing else suffers.
    CacheUnwritable {
        /// The folder.
        folder: &'a Path,
        /// Why.
        error: &'a std::io::Error,
    },
    /// A run ended well.
    Ran {
        /// Where its time went.
        times: Times,
        /// Parts of the model that were planned for it, because their sizes were new.
        planned: usize,
    },
    /// A session could not be built, or a run ended with an error.
    Failed {
        /// The error; its code is stable.
        error: &'a Error,
    },
}

/// What came of looking for compiled kernels in a folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum CacheUse {
    /// There is no folder.
    Off,
    /// The device gives no compiled code: only Vulkan does, when the feature `PIPELINE_CACHE` is enabled.
    Unsupported,
    /// The code of these kernels was there.
    Hit,
    /// It was not there.
    Miss,
    /// Something else was there, or it was damaged, and was not used.
    Refused,
}

/// Those who are told.
#[derive(Clone, Default)]
pub(crate) struct Observers(Vec<Arc<dyn Observer>>);

impl Observers {
    pub(crate) fn add(&mut self, observer: Arc<dyn Observer>) {
        self.0.push(observer);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells an event, which is made only when somebody listens.
    pub(crate) fn tell<'a>(&self, told: impl FnOnce() -> (About<'a>, Event<'a>)) {
        if self.is_empty() {
            return;
        }
        let (about, event) = told();
        self.0.iter().for_each(|observer| observer.event(&about, &event));
    }
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} observers", self.0.len())
    }
}
