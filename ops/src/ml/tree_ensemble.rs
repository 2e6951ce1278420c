//! [TreeEnsemble](https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html): what the leaves of decision trees
//! say together.

use std::sync::Arc;

use super::scores::After;
use super::trees::{Aggregate, Branch, Split, Test, Trees};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats, integers};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::movement::sizes::{required, view};
use crate::operator::Operator;

/// For each row of features the scores of all targets. A target that no leaf names has the score 0.
#[derive(Clone, PartialEq, Debug)]
pub struct TreeEnsemble {
    trees: Trees,
    after: After,
}

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let attributes = spec.attributes;
    let aggregate = match attributes.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Least,
        3 => Aggregate::Greatest,
        _ => return Err(OpError::Attribute { name: "aggregate_function", expected: "a number from 0 to 3" }),
    };
    let after = After::from_number(attributes.int_or("post_transform", 0)?)?;
    let fail = OpError::Attribute { name: "n_targets", expected: "a number of 1 or more" };
    let targets = attributes.int("n_targets")?.and_then(|&n| usize::try_from(n).ok()).filter(|&n| n > 0);
    let targets = targets.ok_or(fail)?;
    // For performance only.
    attributes.tensor("nodes_hitrates")?;
    let splits = splits(spec)?;
    let leaves = leaves(spec)?;
    let roots = indices(spec, "tree_roots")?.into_iter().map(Branch::Node).collect();
    let trees = Trees { splits, leaves, roots, targets, aggregate };
    trees.check()?;
    Ok(Arc::new(TreeEnsemble { trees, after }))
}

/// A list of numbers of 0 or more.
fn indices(spec: &NodeSpec<'_>, name: &'static str) -> Result<Vec<usize>, OpError> {
    let fail = OpError::Attribute { name, expected: "a list of numbers of 0 or more" };
    let all = spec.attributes.ints(name)?.ok_or(fail.clone())?;
    all.iter().map(|&n| usize::try_from(n)).collect::<Result<_, _>>().map_err(|_| fail)
}

/// A tensor of floats.
fn numbers(spec: &NodeSpec<'_>, name: &'static str) -> Result<Vec<f64>, OpError> {
    let fail = OpError::Attribute { name, expected: "a tensor of floats" };
    floats(&spec.attributes.tensor(name)?.ok_or(fail.clone())?.view()).map_err(|_| fail)
}

fn splits(spec: &NodeSpec<'_>) -> Result<Vec<Split>, OpError> {
    let attributes = spec.attributes;
    let fail = OpError::Attribute { name: "nodes_modes", expected: "a tensor of numbers from 0 to 6" };
    let modes = integers(&attributes.tensor("nodes_modes")?.ok_or(fail.clone())?.view())?;
    let (features, values) = (indices(spec, "nodes_featureids")?, numbers(spec, "nodes_splits")?);
    let (holds, holds_leaf) = (indices(spec, "nodes_truenodeids")?, indices(spec, "nodes_trueleafs")?);
    let (fails, fails_leaf) = (indices(spec, "nodes_falsenodeids")?, indices(spec, "nodes_falseleafs")?);
    let missing = match attributes.ints("nodes_missing_value_tracks_true")? {
        Some(all) if !all.is_empty() => all.to_vec(),
        _ => filled(&[modes.len()], 0)?,
    };
    let lengths =
        [features.len(), values.len(), holds.len(), holds_leaf.len(), fails.len(), fails_leaf.len()];
    if lengths != [modes.len(); 6] || missing.len() != modes.len() {
        return Err(OpError::constraint("nodes_*", format!("{} entries each", modes.len()), "others"));
    }
    // Sets end with NaN; the last one may end with the list.
    let members = match attributes.tensor("membership_values")? {
        Some(tensor) => floats(&tensor.view())?,
        None => Vec::new(),
    };
    let mut sets = members.split(|x| x.is_nan());
    let branch = |at: usize, leaf: usize| if leaf != 0 { Branch::Leaf(at) } else { Branch::Node(at) };
    let mut all = Vec::new();
    for (i, &mode) in modes.iter().enumerate() {
        let value = values[i];
        let test = match mode {
            0 => Test::LessOrEqual(value),
            1 => Test::Less(value),
            2 => Test::GreaterOrEqual(value),
            3 => Test::Greater(value),
            4 => Test::Equal(value),
            5 => Test::NotEqual(value),
            6 => {
                let expected = "a set for each node that tests membership";
                let fail = OpError::Attribute { name: "membership_values", expected };
                Test::Member(sets.next().filter(|_| !members.is_empty()).ok_or(fail)?.to_vec())
            }
            _ => return Err(fail),
        };
        all.push(Split {
            feature: features[i],
            test,
            missing_holds: missing[i] != 0,
            holds: branch(holds[i], holds_leaf[i]),
            fails: branch(fails[i], fails_leaf[i]),
        });
    }
    Ok(all)
}

fn leaves(spec: &NodeSpec<'_>) -> Result<Vec<Vec<(usize, f64)>>, OpError> {
    let (ids, weights) = (indices(spec, "leaf_targetids")?, numbers(spec, "leaf_weights")?);
    if ids.len() != weights.len() {
        return Err(OpError::constraint("leaf_targetids", format!("{} targets", weights.len()), ids.len()));
    }
    Ok(ids.into_iter().zip(weights).map(|leaf| vec![leaf]).collect())
}

impl Operator for TreeEnsemble {
    fn name(&self) -> &'static str {
        "TreeEnsemble"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let x = required(inputs, 0)?;
        if !x.dtype.is_float() {
            return Err(OpError::Type { input: 0, expected: "a float", got: x.dtype });
        }
        let batch = match x.shape.as_deref() {
            Some([batch, _]) => batch.clone(),
            Some(other) => return Err(OpError::constraint("input", "2 dimensions", other.len())),
            None => Dim::named("TreeEnsemble.batch"),
        };
        Ok(vec![Fact::new(x.dtype, vec![batch, Dim::Known(self.trees.targets)])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let x = view(inputs, 0)?;
        let &[batch, features] = x.dims else {
            return Err(OpError::constraint("input", "2 dimensions", x.dims.len()));
        };
        let values = floats(&x)?;
        let dims = [batch, self.trees.targets];
        let mut scores = filled(&dims, 0.0)?;
        for (index, scores) in scores.chunks_mut(self.trees.targets).enumerate() {
            let row = values.get(index * features..(index + 1) * features);
            self.trees.scores(row.ok_or(OpError::Internal("fewer features than rows"))?, scores)?;
            self.after.apply(scores)?;
        }
        Ok(vec![float_tensor(x.dtype, &dims, &scores)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    /// Like the official case of one tree: `x0 ≤ 3.2` leads to `x0 ≤ 1.2`, else to `x0 ≤ 4.2`.
    fn tree() -> Vec<(&'static str, Attribute)> {
        let floats = |all: &[f64]| Attribute::Tensor(Tensor::from_slice(&[all.len()], all).unwrap());
        let ints = |all: &[i64]| Attribute::Ints(all.to_vec());
        vec![
            ("aggregate_function", Attribute::Int(1)),
            ("post_transform", Attribute::Int(0)),
            ("n_targets", Attribute::Int(2)),
            ("leaf_targetids", ints(&[0, 1, 0, 1])),
            ("leaf_weights", floats(&[5.23, 12.12, -12.23, 7.21])),
            ("nodes_featureids", ints(&[0, 0, 0])),
            ("nodes_modes", Attribute::Tensor(Tensor::from_slice(&[3], &[0u8; 3]).unwrap())),
            ("nodes_splits", floats(&[3.2, 1.2, 4.2])),
            ("nodes_truenodeids", ints(&[1, 0, 1])),
            ("nodes_trueleafs", ints(&[0, 1, 1])),
            ("nodes_falsenodeids", ints(&[2, 2, 3])),
            ("nodes_falseleafs", ints(&[0, 1, 1])),
            ("tree_roots", ints(&[0])),
        ]
    }

    fn run(changes: Vec<(&'static str, Attribute)>, x: &[f64]) -> Result<Vec<f64>, OpError> {
        let mut attributes = Attributes::default();
        tree().into_iter().chain(changes).for_each(|(name, value)| attributes.insert(name, value));
        let (inputs, outputs) = (&[true], &[true]);
        let spec = NodeSpec { op_type: "TreeEnsemble", opset: 5, inputs, outputs, attributes: &attributes };
        let op = build(&spec)?;
        assert!(attributes.unread().is_empty());
        let x = Tensor::from_slice(&[x.len() / 2, 2], x).unwrap();
        Ok(op.reference(&[Some(x.view())], 1)?.remove(0).to_vec().unwrap())
    }

    #[test]
    fn leaves_are_found_and_summed() {
        let x = [1.2, 3.4, -0.12, 1.66, 4.14, 1.77];
        assert_eq!(run(vec![], &x).unwrap(), [5.23, 0.0, 5.23, 0.0, 0.0, 12.12]);
        let twice = ("tree_roots", Attribute::Ints(vec![0, 1]));
        assert_eq!(run(vec![twice.clone()], &[4.14, 0.0]).unwrap(), [-12.23, 12.12]);
        let least = ("aggregate_function", Attribute::Int(2));
        assert_eq!(run(vec![twice, least], &[2.0, 0.0]).unwrap(), [-12.23, 0.0]);
        let softmax = ("post_transform", Attribute::Int(3));
        assert_eq!(run(vec![softmax], &[1.0, 0.0]).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn sets_and_missing_values() {
        let members = [1.0, 7.0, f64::NAN];
        let members = Attribute::Tensor(Tensor::from_slice(&[3], &members).unwrap());
        let modes = Attribute::Tensor(Tensor::from_slice(&[3], &[6u8, 0, 0]).unwrap());
        let track = ("nodes_missing_value_tracks_true", Attribute::Ints(vec![0, 0, 1]));
        let changes = vec![("nodes_modes", modes.clone()), ("membership_values", members), track];
        // Members go to node 1, all else to node 2, where NaN goes with those up to 4.2.
        let x = [7.0, 0.0, 3.0, 0.0, f64::NAN, 0.0];
        assert_eq!(run(changes, &x).unwrap(), [-12.23, 0.0, 0.0, 12.12, 0.0, 12.12]);
        assert!(run(vec![("nodes_modes", modes)], &x).is_err());
    }

    #[test]
    fn broken_trees_are_refused() {
        let ints = |all: &[i64]| Attribute::Ints(all.to_vec());
        let x = [1.0, 0.0];
        assert!(run(vec![("nodes_truenodeids", ints(&[0, 0, 1]))], &x).is_err(), "a circle");
        assert!(run(vec![("nodes_truenodeids", ints(&[9, 0, 1]))], &x).is_err());
        assert!(run(vec![("tree_roots", ints(&[3]))], &x).is_err());
        assert!(run(vec![("nodes_featureids", ints(&[2, 0, 0]))], &x).is_err());
        assert!(run(vec![("leaf_targetids", ints(&[0, 1, 0, 2]))], &x).is_err());
        assert!(run(vec![("nodes_falseleafs", ints(&[0, 1]))], &x).is_err());
    }
}
