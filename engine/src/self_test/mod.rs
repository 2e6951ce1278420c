//! Whether a device computes what it should: every kernel on small problems, against the references.
//!
//! Drivers miscompile, and the wrong numbers look like any others. What is found here can be left out on this one
//! machine: [`Device::without_kernels`].

mod cases;

use std::sync::Arc;

use sardonyx_ops::ir::numbers;
use sardonyx_ops::restricted::Restricted;
use sardonyx_ops::{OpError, Tensor};
use sardonyx_shaders::Capabilities;

use crate::bound::PlanSession;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::program;
use crate::session::{Fallback, Precision};
use cases::Case;

/// A kernel on one problem.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct KernelTest {
    /// The kernel's name as placements give it, those of several launches joined by `+`.
    pub kernel: String,
    /// The operator and the dimensions of its inputs.
    pub problem: String,
    /// How floats were stored.
    pub precision: Precision,
    /// The largest difference to the reference, as a part of the reference's largest magnitude.
    pub error: f64,
    /// What is wrong, for people; `None` when nothing is.
    pub fault: Option<String>,
}

impl Device {
    /// Runs every kernel that fits the device on small problems, with floats of 32 and, where there are, 16 bits, and
    /// compares the results with the references: within 1e-4 of the largest magnitude, 2e-2 with 16 bits, and exactly
    /// for whatever is no float. Takes seconds, most of them for compiling. `done` is called after each
    /// problem. The CPU has no such kernels, and no tests.
    ///
    /// # Errors
    /// When a reference cannot be computed, or the device is lost or hangs.
    pub fn self_test(&self, done: &mut dyn FnMut()) -> Result<Vec<KernelTest>> {
        let Some(caps) = self.capabilities() else { return Ok(Vec::new()) };
        let fault = |source: OpError| Error::Internal(format!("a problem of the self-test: {source}"));
        let cases = cases::all().map_err(fault)?;
        let precisions: &[Precision] =
            if caps.f16 { &[Precision::Model, Precision::F16] } else { &[Precision::Model] };
        let mut tests = Vec::new();
        for case in &cases {
            let want = case.reference().map_err(fault)?;
            for &precision in precisions {
                for kernel in case.kernels(&want, caps, precision) {
                    tests.extend(self.test(case, &want, kernel, precision)?);
                }
            }
            done();
        }
        Ok(tests)
    }

    /// `None` when the device's limits do not let the kernel run.
    fn test(
        &self,
        case: &Case,
        want: &[Tensor],
        kernel: String,
        precision: Precision,
    ) -> Result<Option<KernelTest>> {
        let (mut plan, given) = case.plan(want);
        for step in &mut plan.steps {
            step.op = Arc::new(Restricted { op: Arc::clone(&step.op), kernel: kernel.clone() });
        }
        let run = || {
            let session = PlanSession::new(plan, self, Fallback::Deny, precision)?;
            session.poison()?;
            session.run(&given)
        };
        let (error, fault) = match run() {
            Ok(got) => compared(&got, want, precision),
            Err(Error::Unsupported { .. }) => return Ok(None),
            Err(error) if error.retryable() => return Err(error),
            Err(error) => (f64::INFINITY, Some(error.to_string())),
        };
        Ok(Some(KernelTest { kernel, problem: case.name(), precision, error, fault }))
    }
}

/// The largest error of all results, and what is wrong with it.
fn compared(got: &[Tensor], want: &[Tensor], precision: Precision) -> (f64, Option<String>) {
    let mut worst = 0.0f64;
    let mut fault = None;
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let error = difference(got, want).unwrap_or(f64::INFINITY);
        let allowed = match want.dtype().is_float() {
            true if precision == Precision::F16 => 2e-2,
            true => 1e-4,
            false => 0.0,
        };
        worst = worst.max(error);
        if error > allowed {
            fault = fault.or(Some(format!("output {index} is off by {error:.1e} of its largest magnitude")));
        }
    }
    (worst, fault)
}

/// The largest difference as a part of the largest magnitude; infinite where one is no number.
fn difference(got: &Tensor, want: &Tensor) -> Option<f64> {
    let all = |tensor: &Tensor| -> Option<Vec<f64>> {
        match tensor.dtype().is_float() {
            true => numbers::floats(&tensor.view()).ok(),
            false => Some(numbers::integers(&tensor.view()).ok()?.into_iter().map(|x| x as f64).collect()),
        }
    };
    if (got.dtype(), got.dims()) != (want.dtype(), want.dims()) {
        return None;
    }
    let (got, want) = (all(got)?, all(want)?);
    let largest = want.iter().fold(f64::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let apart = |(got, want): (&f64, &f64)| match (got - want).abs() {
        apart if apart.is_finite() => apart / largest,
        _ => f64::INFINITY,
    };
    Some(got.iter().zip(&want).map(apart).fold(0.0, f64::max))
}

impl Case {
    /// The names of the kernels that can do it, best first.
    fn kernels(&self, want: &[Tensor], caps: &Capabilities, precision: Precision) -> Vec<String> {
        let (plan, _) = self.plan(want);
        program::candidates(&plan, 0, caps, precision)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sardonyx_shaders::table::VARIANTS;

    use super::*;

    #[test]
    fn every_kernel_is_tested_on_some_device() {
        let wide = Capabilities { f16: true, workgroup_memory: 32 << 10, ..Capabilities::BASELINE };
        let devices = [
            Capabilities { subgroups: Some((32, 32)), ..wide.clone() },
            Capabilities { subgroups: Some((8, 8)), hides_latency: false, ..wide.clone() },
            Capabilities { hides_latency: false, ..wide },
            Capabilities::BASELINE,
        ];
        let mut tested = BTreeSet::new();
        for case in cases::all().unwrap() {
            let want = case.reference().unwrap();
            for (caps, precision) in
                devices.iter().flat_map(|caps| [(caps, Precision::Model), (caps, Precision::F16)])
            {
                let names = case.kernels(&want, caps, precision);
                assert!(!names.is_empty(), "{}: no kernel", case.name());
                tested.extend(names.iter().flat_map(|name| name.split('+').map(str::to_owned)));
            }
        }
        let missing: Vec<&str> =
            VARIANTS.iter().map(|variant| variant.name).filter(|name| !tested.contains(*name)).collect();
        assert!(missing.is_empty(), "no problem of the self-test is done by {missing:?}");
    }

    #[test]
    fn differences() {
        let tensor = |values: &[f32]| Tensor::from_slice(&[values.len()], values).unwrap();
        assert_eq!(difference(&tensor(&[1.0, 4.0]), &tensor(&[2.0, 4.0])), Some(0.25));
        assert_eq!(difference(&tensor(&[f32::NAN, 4.0]), &tensor(&[2.0, 4.0])), Some(f64::INFINITY));
        assert_eq!(difference(&tensor(&[1.0]), &tensor(&[1.0, 2.0])), None);
        let (error, fault) = compared(&[tensor(&[1.0, 4.0])], &[tensor(&[2.0, 4.0])], Precision::Model);
        assert!(error == 0.25 && fault.unwrap().contains("output 0"));
        assert_eq!(compared(&[tensor(&[4.0])], &[tensor(&[4.0])], Precision::F16), (0.0, None));
    }
}
