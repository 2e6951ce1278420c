//! Events for a host that counts and logs: what was planned, what ran and how long, what fell back, what failed.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::error::Error;
use crate::placement::PlacedStep;
use crate::values::Times;

/// Takes events. It is called on the thread that runs, so it should not keep it.
pub trait Observer: Send + Sync {
    /// Something happened in a session.
    fn event(&self, event: &Event<'_>);
}

/// Something that happened in a session. Events hold names and numbers, never values of tensors.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A part of a model was planned and compiled for new sizes.
    Planned {
        /// The device.
        device: &'a str,
        /// The model's operators that run on the device.
        on_device: usize,
        /// The model's operators.
        operators: usize,
        /// Launches of kernels in one run.
        dispatches: usize,
        /// The time that it took.
        took: Duration,
    },
    /// A step of what was planned runs on the CPU although the device is a GPU.
    Fallback {
        /// The device.
        device: &'a str,
        /// The step, with the reason.
        step: &'a PlacedStep,
    },
    /// Kernels were compiled for a device. It comes before the [`Event::Planned`] whose time it is a part of.
    Compiled {
        /// The device.
        device: &'a str,
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
        /// The device.
        device: &'a str,
        /// Where its time went.
        times: Times,
    },
    /// A run ended with an error.
    Failed {
        /// The device.
        device: &'a str,
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

/// An observer, or nobody.
#[derive(Clone, Default)]
pub(crate) struct Observed(pub(crate) Option<Arc<dyn Observer>>);

impl Observed {
    /// Tells an event, which is made only when somebody listens.
    pub(crate) fn tell<'a>(&self, event: impl FnOnce() -> Event<'a>) {
        if let Some(observer) = &self.0 {
            observer.event(&event());
        }
    }
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "observed" } else { "unobserved" })
    }
}
