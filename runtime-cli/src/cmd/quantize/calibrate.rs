//! The ranges of activations: the float model run on real inputs.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx::quantize::{Histogram, Method, Range, StaticPlan};
use sardonyx::{Session, Tensor};

use super::{as_written, loss};
use crate::bind::Opened;
use crate::cmd::compare::named;
use crate::failure::{Failure, Fault};
use crate::input::Given;
use crate::output::Console;

/// Measures what a plan wants to know. All but minimum and maximum takes a second pass over the inputs.
///
/// # Errors
/// When the model does not run, or a value is not among the results of its steps.
pub fn ranges(
    plan: &StaticPlan,
    opened: &Opened,
    samples: &[Vec<Given>],
    method: Method,
    console: &Console,
) -> Result<HashMap<Arc<str>, Range>, Failure> {
    let wanted = plan.measured();
    let Some(first) = samples.first() else {
        return Err(Failure::new(Fault::Usage, "there are no inputs to measure with"));
    };
    let session = as_written(opened, first, console)?;
    let mut ranges: HashMap<Arc<str>, Range> = HashMap::new();
    let passes = if method == Method::MinMax { 1 } else { 2 };
    let measured = console.progress(samples.len() as u64 * passes, "inputs measured");
    for given in samples {
        each(&session, opened, given, &wanted, &mut |name, values| {
            let range = ranges.get(name).copied().unwrap_or(Range::EMPTY);
            ranges.insert(name.clone(), range.with(values));
        })?;
        measured.advance();
    }
    if method != Method::MinMax {
        let mut seen: HashMap<Arc<str>, Histogram> =
            ranges.iter().map(|(name, range)| (name.clone(), Histogram::new(*range))).collect();
        for given in samples {
            each(&session, opened, given, &wanted, &mut |name, values| {
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
