//! What the engine makes of a model on a device.

use sardonyx::{Device, Fallback, Place, Session};
use serde_json::{Map, Value, json};

use crate::bind::{self, Opened};
use crate::cli::{DeviceArgs, PlanArgs, PrecisionArg, SizeArgs};
use crate::describe;
use crate::failure::Failure;
use crate::output::{Console, format};

/// A session that was built and not run.
pub struct Planned {
    device: Device,
    session: Session,
}

/// Plans a model; symbolic dimensions without a size become 1, with a warning.
///
/// # Errors
/// When the model cannot run there, or sizes do not fit.
pub fn plan(
    opened: &Opened,
    sizes: &SizeArgs,
    (arguments, plan): (&DeviceArgs, &PlanArgs),
    console: &Console,
) -> Result<Planned, Failure> {
    let device = bind::device(arguments)?;
    let signatures = opened.signatures()?;
    let mut sizes = opened.sizes(&signatures, sizes)?;
    let mut builder = bind::planned_builder(&device, &arguments.settings, plan, Fallback::Allow)?;
    for signature in &signatures {
        let (dims, defaulted) = sizes.choose(signature);
        for symbol in defaulted {
            console.warn(format!("dimension {symbol} is not given: 1 (set it with --dim {symbol}=N)"));
        }
        builder = builder.shape(&signature.name, &dims);
    }
    let session = opened.session(builder, console)?;
    Ok(Planned { device, session })
}

impl Planned {
    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The steps: which nodes each does, and where and how it runs.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn show_plan(
        &self,
        precision: PrecisionArg,
        document: &mut Map<String, Value>,
        console: &Console,
    ) -> Result<(), Failure> {
        let placement = self.session.placement();
        let (on_device, all) = placement.on_device();
        let info = self.device.info();
        console.line(format!(
            "plan    on {} {:?}: {} steps, {on_device}/{all} operators on the device",
            info.id,
            format::name(&info.name, 40),
            placement.steps.len()
        ))?;
        let mut steps = Vec::new();
        for (i, step) in placement.steps.iter().enumerate() {
            let nodes: Vec<String> = step.nodes.iter().map(|node| format::name(node, 40)).collect();
            let (place, kernels, reason) = match &step.place {
                Place::Device { kernels } => ("device", kernels.clone(), ""),
                Place::Cpu { reason } => ("cpu", Vec::new(), reason.as_str()),
                Place::View => ("view", Vec::new(), ""),
                _ => ("other", Vec::new(), ""),
            };
            let how = if kernels.is_empty() { reason.to_owned() } else { kernels.join(", ") };
            console.line(format!("{i:>6}  {:<22} {place:<6} {}", step.op, format::name(&how, 100)))?;
            console.line(format!("        from {}", format::name(&nodes.join(", "), 67)))?;
            steps.push(json!({"operator": step.op, "nodes": step.nodes.iter().map(|node| &**node).collect::<Vec<_>>(),
                              "place": place, "kernels": kernels, "reason": reason}));
        }
        for line in self.session.plan_text().lines() {
            console.detail(format::name(line, 400));
        }
        document.insert("device".to_owned(), describe::device(&self.device, precision));
        let mut plan = describe::plan(&placement, self.session.plan_digest());
        plan["step_list"] = Value::Array(steps);
        document.insert("plan".to_owned(), plan);
        Ok(())
    }

    /// Memory by use.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn show_memory(&self, document: &mut Map<String, Value>, console: &Console) -> Result<(), Failure> {
        let memory = self.session.memory();
        let rows = [
            ("device weights", memory.device_weights),
            ("device activations", memory.device_activations),
            ("  alive at once", memory.device_live),
            ("device staging", memory.device_staging),
            ("host activations", memory.host_activations),
            ("  alive at once", memory.host_live),
            ("host scratch", memory.host_scratch),
        ];
        console.line(format!("memory  {} for one run at a time", format::bytes(memory.total())))?;
        for (label, bytes) in rows {
            console.line(format!("        {label:<20} {:>10}", format::bytes(bytes)))?;
        }
        document.insert("memory_bytes".to_owned(), describe::memory(&self.session));
        Ok(())
    }
}
