//! Where a model's operators would run, found out without weights on the device or compiled kernels.

use std::sync::Arc;

use sardonyx_importer::Work;

use crate::error::Result;
use crate::placement::{Place, PlacedStep, Placement};
use crate::program;
use crate::session::{SessionBuilder, unwound};

/// Where the operators of a model would run.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Coverage {
    /// Where those go that can be planned now. It counts no dispatches.
    pub placement: Placement,
    /// Node and operator of those whose plan waits for what a run finds out. Some may turn out to be done while planning.
    pub waiting: Vec<(Arc<str>, &'static str)>,
}

impl SessionBuilder {
    /// Says where the operators of a model would run with these settings, whatever [`SessionBuilder::fallback`] says.
    ///
    /// # Errors
    /// As [`SessionBuilder::build`], except for what concerns memory and drivers; when the size of an input is not known.
    pub fn check(self, model: &crate::Model) -> Result<Coverage> {
        let (device, settings, options) = (self.opened()?, self.settings(), self.options.clone());
        let facts = self.input_facts(model)?;
        unwound(|| {
            let graph = sardonyx_importer::prepare(model.graph(), &options)?.graph;
            let stage = sardonyx_importer::plan(&graph, &facts, &options)?;
            let placement = match stage.work {
                Work::Compiled(plan) => program::placement(plan, &device, &settings),
                Work::Evaluate { node, reason, .. } => Placement {
                    steps: vec![PlacedStep {
                        op: node.op.name(),
                        nodes: vec![node.name],
                        place: Place::Cpu { reason: reason.to_owned() },
                        refused: Vec::new(),
                    }],
                    dispatches: 0,
                    gpu: device.gpu().is_some(),
                },
            };
            let waiting = stage.rest.into_iter().flat_map(|rest| rest.graph.nodes);
            Ok(Coverage { placement, waiting: waiting.map(|node| (node.name, node.op.name())).collect() })
        })
    }
}
