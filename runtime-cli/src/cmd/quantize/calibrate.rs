//! What activations are like, their ranges and moments: the float model run on real inputs.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx::quantize::{AllMoments, Histogram, Method, Moments, Range};
use sardonyx::{Session, Tensor};

use super::{as_written, loss};
use crate::bind::Opened;
use crate::cmd::compare::named;
use crate::failure::{Failure, Fault};
use crate::input::Given;
use crate::output::Console;

/// Measures the ranges of these values. All but minimum and maximum takes a second pass over the inputs.
///
/// # Errors
/// When the model does not run, or a value is not among the results of its steps.
pub fn ranges(
    wanted: &[Arc<str>],
    opened: &Opened,
    samples: &[Vec<Given>],
    method: Method,
    console: &Console,
) -> Result<HashMap<Arc<str>, Range>, Failure> {
    let Some(first) = samples.first() else {
        return Err(Failure::new(Fault::Usage, "there are no inputs to measure with"));
    };
    let session = as_written(opened, first, console)?;
    let mut ranges: HashMap<Arc<str>, Range> = HashMap::new();
    let passes = if method == Method::MinMax { 1 } else { 2 };
    let measured = console.progress(samples.len() as u64 * passes, "inputs measured");
    for given in samples {
        each(&session, opened, given, wanted, &mut |name, values| {
            let range = ranges.get(name).copied().unwrap_or(Range::EMPTY);
            ranges.insert(name.clone(), range.with(values));
        })?;
        measured.advance();
    }
    if method != Method::MinMax {
        let mut seen: HashMap<Arc<str>, Histogram> =
            ranges.iter().map(|(name, range)| (name.clone(), Histogram::new(*range))).collect();
        for given in samples {
            each(&session, opened, given, wanted, &mut |name, values| {
                if let Some(histogram) = seen.get_mut(name) {
                    histogram.add(values);
                }
            })?;
            measured.advance();
        }
        ranges = seen.iter().map(|(name, histogram)| (name.clone(), histogram.range(method))).collect();
    }
    Ok(ranges)
}

/// The most memory that moments may take.
const MOST_MOMENTS: u64 = 4 << 30;

/// Measures the second moments of the inputs of products, whose rows have so many elements.
///
/// # Errors
/// When the model does not run, or the moments would take more than 4 GiB.
pub fn moments(
    wanted: &[(Arc<str>, usize)],
    opened: &Opened,
    samples: &[Vec<Given>],
    console: &Console,
) -> Result<AllMoments, Failure> {
    let Some(first) = samples.first() else { return Ok(AllMoments::new()) };
    let bytes = wanted.iter().try_fold(0usize, |sum, (_, k)| sum.checked_add(Moments::bytes(*k)?));
    let made = |(name, k): &(Arc<str>, usize)| Some((name.clone(), Moments::new(*k)?));
    let all = bytes.filter(|bytes| *bytes as u64 <= MOST_MOMENTS);
    let all = all.and_then(|_| wanted.iter().map(made).collect::<Option<AllMoments>>());
    let mut all = all.ok_or_else(|| {
        let message = "--compensate would take more than 4 GiB for the moments of this model's activations";
        Failure::new(Fault::Usage, message).help("leave the widest products out: --exclude NODES")
    })?;
    let names: Vec<Arc<str>> = wanted.iter().map(|(name, _)| name.clone()).collect();
    let session = as_written(opened, first, console)?;
    let measured = console.progress(samples.len() as u64, "inputs measured");
    for given in samples {
        each(&session, opened, given, &names, &mut |name, values| {
            if let Some(moments) = all.get_mut(name) {
                moments.add(values);
            }
        })?;
        measured.advance();
    }
    Ok(all)
}

/// Runs the model once and shows the wanted values.
fn each(
    session: &Session,
    opened: &Opened,
    given: &[Given],
    wanted: &[Arc<str>],
    show: &mut dyn FnMut(&Arc<str>, &[f32]),
) -> Result<(), Failure> {
    let (outputs, taps) = session.run_tapped(named(given)).map_err(|error| opened.failure(&error))?;
    let steps = loss::by_name(&taps);
    for name in wanted {
        let input = || given.iter().find(|given| given.name == **name).map(|given| &given.tensor);
        let output = || outputs.iter().find(|(output, _)| *output == &**name).map(|(_, tensor)| tensor);
        let value: Option<&Tensor> = steps.get(&**name).copied().or_else(input).or_else(output);
        if let Some(values) = value.and_then(|tensor| tensor.elements::<f32>().ok()) {
            show(name, &values);
        }
    }
    Ok(())
}
