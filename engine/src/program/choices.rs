//! Kernels that somebody chose for steps, in the place of those that come first.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::dispatch::Candidate;
use sardonyx_ops::plan::PlanStep;

/// Names of kernels as [`Candidate::name`] gives them, by what the steps are known by.
#[derive(Clone, Default, Debug)]
pub(crate) struct Choices(Arc<HashMap<String, String>>);

/// What a step is known by: its operator, and the nodes it does.
fn key<'a>(op: &str, nodes: impl Iterator<Item = &'a str>) -> String {
    nodes.fold(op.to_owned(), |key, node| key + "\n" + node)
}

impl Choices {
    /// Of operators, nodes and kernels.
    pub(crate) fn new<'a>(steps: impl IntoIterator<Item = (&'a str, &'a [String], &'a [String])>) -> Choices {
        let mut choices: HashMap<String, Option<String>> = HashMap::new();
        for (op, nodes, kernels) in steps {
            let chosen = Some(kernels.join("+"));
            let known =
                choices.entry(key(op, nodes.iter().map(String::as_str))).or_insert_with(|| chosen.clone());
            // Steps that cannot be told apart keep what comes first for each.
            if *known != chosen {
                *known = None;
            }
        }
        Choices(Arc::new(choices.into_iter().filter_map(|(key, chosen)| Some((key, chosen?))).collect()))
    }

    /// Puts what was chosen for a step before the others. What is not there cannot be: whoever chose it is told by what
    /// the placement says.
    pub(super) fn prefer(&self, step: &PlanStep, candidates: &mut [Candidate]) {
        if self.0.is_empty() {
            return;
        }
        let chosen = self.0.get(&key(step.op.name(), step.nodes.iter().map(|node| &**node)));
        let at = chosen.and_then(|name| candidates.iter().position(|one| one.name() == *name));
        if let Some(at) = at {
            candidates[..=at].rotate_right(1);
        }
    }
}
