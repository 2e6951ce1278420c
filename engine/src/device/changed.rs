//! Kernels with other texts than their own, so that one can be tuned, or broken on purpose, without building anything.

use std::collections::BTreeMap;

use sardonyx_shaders::{Kernel, Source, table};
use wgpu::naga::{Module, TypeInner, front::wgsl, proc::Layouter};

use super::gpu::BoundKernel;
use crate::error::{Error, Result};

/// Texts that stand in for those of variants, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changed(BTreeMap<&'static str, String>);

fn unfit(name: &str, what: impl Into<String>) -> Error {
    Error::Kernel { name: name.to_owned(), what: what.into() }
}

impl Changed {
    /// Takes texts by the names of variants. One that is the variant's own changes nothing.
    pub(super) fn new(texts: impl IntoIterator<Item = (String, String)>) -> Result<Changed> {
        let mut changed = BTreeMap::new();
        for (name, text) in texts {
            let variant = table::find(&name).ok_or_else(|| unfit(&name, "there is no such kernel"))?;
            if text != variant.source {
                changed.insert(variant.name, text);
            }
        }
        Ok(Changed(changed))
    }

    /// The names of the variants with other texts.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.keys().copied()
    }

    /// The source of a kernel, from its own text or the one that stands in for it.
    ///
    /// # Errors
    /// When the other text is no WGSL, or asks for something else than the variant's own gets.
    pub(super) fn source(&self, bound: &BoundKernel) -> Result<Source> {
        let (kernel, name) = (&bound.kernel, bound.kernel.variant.name);
        let own = || kernel.source_with(&bound.bound);
        let Some(text) = self.0.get(name) else { return Ok(own()) };
        if let Some(knob) = missing_knob(kernel, text) {
            return Err(unfit(name, format!("there is no line \"const {knob} = value;\", which is set")));
        }
        let source = kernel.source_from(text, &bound.bound);
        let (wanted, got) = (interface(name, &own().wgsl)?, interface(name, &source.wgsl)?);
        match wanted.iter().zip(&got).find(|(wanted, got)| wanted != got) {
            Some((wanted, got)) => Err(unfit(name, format!("it must have {wanted}, and has {got}"))),
            None => Ok(source),
        }
    }
}

/// A knob that a kernel sets and a text does not have.
fn missing_knob(kernel: &Kernel, text: &str) -> Option<&'static str> {
    let has = |knob: &str| {
        let names = text.lines().filter_map(|line| line.strip_prefix("const ")?.split_once('='));
        names.map(|(name, _)| name.trim()).any(|name| name == knob)
    };
    kernel.knobs.iter().map(|(knob, _)| *knob).find(|knob| !has(knob))
}

/// What the engine relies on in a source: bindings, parameters, and the invocations of a workgroup.
fn interface(name: &str, source: &str) -> Result<[String; 3]> {
    let refused = |error: wgsl::ParseError| {
        let line = error.location(source).map_or(0, |place| place.line_number as usize);
        let text = source.lines().nth(line.saturating_sub(1)).unwrap_or_default().trim();
        unfit(name, format!("{}, in \"{text}\"", error.message()))
    };
    let module = wgsl::parse_str(source).map_err(refused)?;
    let globals = module.global_variables.iter().filter_map(|(_, variable)| {
        let binding = variable.binding?;
        Some(format!("{}:{} {:?}", binding.group, binding.binding, variable.space))
    });
    let bindings: Vec<String> = globals.collect();
    let main = module.entry_points.iter().find(|entry| entry.name == "main");
    let main = main.ok_or_else(|| unfit(name, "there is no entry point \"main\""))?;
    Ok([
        format!("the bindings {}", bindings.join(", ")),
        format!("the parameters {}", parameters(name, &module)?),
        format!("workgroups of {:?}", main.workgroup_size),
    ])
}

/// The fields of `Params`: name, offset, and size or type.
fn parameters(name: &str, module: &Module) -> Result<String> {
    let found = module.types.iter().find(|(_, ty)| ty.name.as_deref() == Some("Params"));
    let Some(TypeInner::Struct { members, .. }) = found.map(|(_, ty)| &ty.inner) else {
        return Err(unfit(name, "there is no struct Params"));
    };
    let mut layouter = Layouter::default();
    layouter.update(module.to_ctx()).map_err(|error| unfit(name, error.to_string()))?;
    let field = |member: &wgpu::naga::StructMember| {
        let kind = match &module.types[member.ty].inner {
            inner @ (TypeInner::Scalar(_) | TypeInner::Vector { .. }) => format!("{inner:?}"),
            _ => format!("{} bytes", layouter[member.ty].size),
        };
        format!("{} at {}: {kind}", member.name.as_deref().unwrap_or_default(), member.offset)
    };
    Ok(members.iter().map(field).collect::<Vec<_>>().join(", "))
}
