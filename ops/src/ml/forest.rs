//! [TreeEnsembleClassifier](https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html) and
//! [TreeEnsembleRegressor](https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleRegressor.html): trees as lists of
//! nodes that name their tree.

use std::collections::HashMap;
use std::sync::Arc;

use super::rows::Rows;
use super::scores::{After, Classes, largest};
use super::trees::{Aggregate, Branch, Split, Test, Trees};
use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::Dim;
use crate::ir::dtype::DType;
use crate::ir::fact::Fact;
use crate::ir::numbers::{filled, float_tensor, floats};
use crate::ir::tensor::Tensor;
use crate::ir::view::View;
use crate::operator::Operator;

/// For each row the sums, or least, or greatest, of what the leaves say about each target.
#[derive(Clone, PartialEq, Debug)]
pub struct TreeEnsembleRegressor {
    trees: Trees,
    base: Vec<f64>,
    after: After,
}

/// For each row a class, and the scores of all classes.
#[derive(Clone, PartialEq, Debug)]
pub struct TreeEnsembleClassifier {
    trees: Trees,
    base: Vec<f64>,
    after: After,
    classes: Classes,
    /// Of two classes the leaves speak about one only: whether their weights are shares of it.
    one_of_two: Option<bool>,
}

pub(super) fn regressor(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let targets = spec.attributes.int("n_targets")?.and_then(|&n| usize::try_from(n).ok());
    let targets = targets.filter(|&n| n > 0);
    let targets =
        targets.ok_or(OpError::Attribute { name: "n_targets", expected: "a number of 1 or more" })?;
    let aggregate = match spec.attributes.str_or("aggregate_function", "SUM".to_owned())?.as_str() {
        "AVERAGE" => Aggregate::Average,
        "SUM" => Aggregate::Sum,
        "MIN" => Aggregate::Least,
        "MAX" => Aggregate::Greatest,
        _ => {
            let expected = "AVERAGE, SUM, MIN or MAX";
            return Err(OpError::Attribute { name: "aggregate_function", expected });
        }
    };
    let names = ["target_treeids", "target_nodeids", "target_ids", "target_weights"];
    let trees = trees(spec, names, targets, aggregate)?;
    let after = After::from_spec(spec)?;
    Ok(Arc::new(TreeEnsembleRegressor { trees, base: base(spec, targets)?, after }))
}

pub(super) fn classifier(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(1, 1, "1")?;
    let classes = Classes::from_spec(spec, "classlabels_int64s")?;
    let names = ["class_treeids", "class_nodeids", "class_ids", "class_weights"];
    let trees = trees(spec, names, classes.len(), Aggregate::Sum)?;
    let mut said = trees.leaves.iter().flatten();
    let first = said.clone().next().map_or(0, |&(class, _)| class);
    let one_of_two = (classes.len() == 2 && said.clone().all(|&(class, _)| class == first))
        .then(|| said.all(|&(_, weight)| weight >= 0.0));
    let after = After::from_spec(spec)?;
    let base = base(spec, classes.len())?;
    Ok(Arc::new(TreeEnsembleClassifier { trees, base, after, classes, one_of_two }))
}

/// A list of floats in either of two attributes.
fn numbers(spec: &NodeSpec<'_>, list: &'static str, tensor: &'static str) -> Result<Vec<f64>, OpError> {
    if let Some(tensor) = spec.attributes.tensor(tensor)? {
        return floats(&tensor.view());
    }
    Ok(spec.attributes.floats(list)?.unwrap_or_default().iter().map(|&x| f64::from(x)).collect())
}

fn base(spec: &NodeSpec<'_>, targets: usize) -> Result<Vec<f64>, OpError> {
    let base = numbers(spec, "base_values", "base_values_as_tensor")?;
    // Of two classes the base may be that of one.
    match base.len() {
        0 => filled(&[targets], 0.0),
        1 if targets == 2 => Ok(vec![base[0], 0.0]),
        count if count == targets => Ok(base),
        count => Err(OpError::constraint("base_values", targets, count)),
    }
}

fn trees(
    spec: &NodeSpec<'_>,
    [leaf_trees, leaf_nodes, leaf_ids, leaf_weights]: [&'static str; 4],
    targets: usize,
    aggregate: Aggregate,
) -> Result<Trees, OpError> {
    let attributes = spec.attributes;
    let list = |name: &'static str| attributes.ints(name).map(Option::unwrap_or_default);
    let (tree_ids, node_ids) = (list("nodes_treeids")?, list("nodes_nodeids")?);
    let (features, holds, fails) =
        (list("nodes_featureids")?, list("nodes_truenodeids")?, list("nodes_falsenodeids")?);
    let modes = attributes.strs("nodes_modes")?.unwrap_or_default();
    let values = numbers(spec, "nodes_values", "nodes_values_as_tensor")?;
    let missing = list("nodes_missing_value_tracks_true")?;
    // For performance only.
    numbers(spec, "nodes_hitrates", "nodes_hitrates_as_tensor")?;
    let count = modes.len();
    let lengths = [tree_ids.len(), node_ids.len(), features.len(), holds.len(), fails.len(), values.len()];
    if lengths != [count; 6] || !(missing.is_empty() || missing.len() == count) {
        return Err(OpError::constraint("nodes_*", format!("{count} entries each"), format!("{lengths:?}")));
    }
    // Where each node of the file ends up.
    let mut places: HashMap<(i64, i64), Branch> = HashMap::with_capacity(count);
    let (mut inner, mut ends) = (0, 0);
    for (at, mode) in modes.iter().enumerate() {
        let next = if mode == "LEAF" { &mut ends } else { &mut inner };
        let place = if mode == "LEAF" { Branch::Leaf(*next) } else { Branch::Node(*next) };
        *next += 1;
        if places.insert((tree_ids[at], node_ids[at]), place).is_some() {
            let got = format!("node {} of tree {} twice", node_ids[at], tree_ids[at]);
            return Err(OpError::constraint("nodes_nodeids", "each once in a tree", got));
        }
    }
    let place = |tree: i64, node: i64| {
        let found = places.get(&(tree, node)).copied();
        found.ok_or_else(|| {
            OpError::constraint("nodes", "those of its tree", format!("{node} in tree {tree}"))
        })
    };
    let mut roots = Vec::new();
    let mut splits = Vec::with_capacity(inner);
    let mut last = None;
    for (at, mode) in modes.iter().enumerate() {
        let tree = tree_ids[at];
        if last != Some(tree) {
            roots.push(place(tree, node_ids[at])?);
            last = Some(tree);
        }
        let value = values[at];
        let test = match mode.as_str() {
            "LEAF" => continue,
            "BRANCH_LEQ" => Test::LessOrEqual(value),
            "BRANCH_LT" => Test::Less(value),
            "BRANCH_GTE" => Test::GreaterOrEqual(value),
            "BRANCH_GT" => Test::Greater(value),
            "BRANCH_EQ" => Test::Equal(value),
            "BRANCH_NEQ" => Test::NotEqual(value),
            _ => return Err(OpError::Attribute { name: "nodes_modes", expected: "LEAF or a comparison" }),
        };
        let fail = OpError::Attribute { name: "nodes_featureids", expected: "numbers of 0 or more" };
        splits.push(Split {
            feature: usize::try_from(features[at]).map_err(|_| fail)?,
            test,
            missing_holds: missing.get(at).is_some_and(|&tracks| tracks != 0),
            holds: place(tree, holds[at])?,
            fails: place(tree, fails[at])?,
        });
    }
    let mut leaves: Vec<Vec<(usize, f64)>> = vec![Vec::new(); ends];
    let (leaf_trees, leaf_nodes, ids) = (list(leaf_trees)?, list(leaf_nodes)?, list(leaf_ids)?);
    let tensor =
        if leaf_weights == "class_weights" { "class_weights_as_tensor" } else { "target_weights_as_tensor" };
    let weights = numbers(spec, leaf_weights, tensor)?;
    if [leaf_trees.len(), leaf_nodes.len(), ids.len()] != [weights.len(); 3] {
        return Err(OpError::constraint("leaves", format!("{} weights", weights.len()), ids.len()));
    }
    for (at, &weight) in weights.iter().enumerate() {
        let Branch::Leaf(leaf) = place(leaf_trees[at], leaf_nodes[at])? else {
            return Err(OpError::constraint("weights", "at leaves", "at another node"));
        };
        let fail = OpError::Attribute { name: leaf_ids, expected: "numbers of 0 or more" };
        leaves[leaf].push((usize::try_from(ids[at]).map_err(|_| fail)?, weight));
    }
    let trees = Trees { splits, leaves, roots, targets, aggregate };
    trees.check()?;
    Ok(trees)
}

impl Operator for TreeEnsembleRegressor {
    fn name(&self) -> &'static str {
        "TreeEnsembleRegressor"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let batch = Rows::infer(inputs)?;
        Ok(vec![Fact::new(DType::F32, vec![batch, Dim::Known(self.trees.targets)])])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let rows = Rows::new(inputs)?;
        let dims = [rows.count, self.trees.targets];
        let mut scores = filled(&dims, 0.0)?;
        for (row, scores) in rows.iter().zip(scores.chunks_mut(self.trees.targets)) {
            self.trees.scores(row, scores)?;
            scores.iter_mut().zip(&self.base).for_each(|(score, base)| *score += base);
            self.after.apply(scores)?;
        }
        Ok(vec![float_tensor(DType::F32, &dims, &scores)?])
    }
}

impl Operator for TreeEnsembleClassifier {
    fn name(&self) -> &'static str {
        "TreeEnsembleClassifier"
    }

    fn infer(&self, inputs: &[Option<&Fact>], outputs: usize) -> Result<Vec<Fact>, OpError> {
        let batch = Rows::infer(inputs)?;
        let classes = Fact::new(self.classes.dtype(), vec![batch.clone()]);
        let scores = Fact::new(DType::F32, vec![batch, Dim::Known(self.classes.len())]);
        Ok([classes, scores].into_iter().take(outputs.max(1)).collect())
    }

    fn reference(&self, inputs: &[Option<View<'_>>], outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let rows = Rows::new(inputs)?;
        let dims = [rows.count, self.classes.len()];
        let mut all = filled(&dims, 0.0)?;
        let mut chosen = Vec::with_capacity(rows.count);
        for (row, scores) in rows.iter().zip(all.chunks_mut(self.classes.len())) {
            let seen = self.trees.scores(row, scores)?;
            scores.iter_mut().zip(&self.base).for_each(|(score, base)| *score += base);
            if let Some(is_share) = self.one_of_two {
                // The weights stand at whichever class the leaves name.
                let score: f64 = scores.iter().sum();
                chosen.push(usize::from(score > if is_share { 0.5 } else { 0.0 }));
                scores.copy_from_slice(&self.after.of_two(score, is_share));
                continue;
            }
            // A class that no leaf names is chosen last.
            let ranked = scores.iter().zip(&seen).zip(&self.base);
            let known =
                |((&score, &seen), &base)| if seen || base != 0.0 { score } else { f64::NEG_INFINITY };
            chosen.push(largest(ranked.map(known)));
            self.after.apply(scores)?;
        }
        let results = [self.classes.tensor(&chosen)?, float_tensor(DType::F32, &dims, &all)?];
        Ok(results.into_iter().take(outputs.max(1)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::attributes::{Attribute, Attributes};

    /// Two trees over one feature: `x ≤ 0`, and one that is a leaf.
    fn spec_of(more: Vec<(&'static str, Attribute)>) -> Attributes {
        let ints = |all: &[i64]| Attribute::Ints(all.to_vec());
        let words = |all: &[&str]| Attribute::Strs(all.iter().map(|s| s.to_string()).collect());
        let mut attributes = Attributes::default();
        for (name, value) in [
            ("nodes_treeids", ints(&[0, 0, 0, 7])),
            ("nodes_nodeids", ints(&[0, 1, 2, 0])),
            ("nodes_featureids", ints(&[0, 0, 0, 0])),
            ("nodes_modes", words(&["BRANCH_LEQ", "LEAF", "LEAF", "LEAF"])),
            ("nodes_values", Attribute::Floats(vec![0.0; 4])),
            ("nodes_truenodeids", ints(&[1, 0, 0, 0])),
            ("nodes_falsenodeids", ints(&[2, 0, 0, 0])),
        ]
        .into_iter()
        .chain(more)
        {
            attributes.insert(name, value);
        }
        attributes
    }

    type Make = fn(&NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError>;

    fn run(make: Make, attributes: &Attributes, x: &[f32]) -> Result<Vec<Tensor>, OpError> {
        let (inputs, outputs) = (&[true], &[true, true]);
        let op = make(&NodeSpec { op_type: "", opset: 3, inputs, outputs, attributes })?;
        assert!(attributes.unread().is_empty(), "{:?}", attributes.unread());
        let x = Tensor::from_slice(&[x.len(), 1], x).unwrap();
        op.reference(&[Some(x.view())], 2)
    }

    #[test]
    fn trees_are_summed_over_a_base() {
        let ints = |all: &[i64]| Attribute::Ints(all.to_vec());
        let mut attributes = spec_of(vec![
            ("n_targets", Attribute::Int(1)),
            ("target_treeids", ints(&[0, 0, 7])),
            ("target_nodeids", ints(&[1, 2, 0])),
            ("target_ids", ints(&[0, 0, 0])),
            ("target_weights", Attribute::Floats(vec![1.0, 2.0, 10.0])),
            ("base_values", Attribute::Floats(vec![0.5])),
        ]);
        let y = run(regressor, &attributes, &[-1.0, 1.0]).unwrap().remove(0);
        assert_eq!(y.to_vec::<f32>().unwrap(), [11.5, 12.5]);
        attributes.insert("target_nodeids", ints(&[1, 9, 0]));
        assert!(run(regressor, &attributes, &[0.0]).is_err(), "no such node");
        attributes.insert("target_nodeids", ints(&[1, 0, 0]));
        assert!(run(regressor, &attributes, &[0.0]).is_err(), "a node that is no leaf");
    }

    #[test]
    fn leaves_may_speak_about_one_class_of_two() {
        let ints = |all: &[i64]| Attribute::Ints(all.to_vec());
        let mut attributes = spec_of(vec![
            ("class_treeids", ints(&[0, 0])),
            ("class_nodeids", ints(&[1, 2])),
            ("class_ids", ints(&[0, 0])),
            ("class_weights", Attribute::Floats(vec![0.25, 0.75])),
            ("classlabels_int64s", ints(&[3, 4])),
        ]);
        let all = run(classifier, &attributes, &[-1.0, 1.0]).unwrap();
        assert_eq!(all[0].to_vec::<i64>().unwrap(), [3, 4]);
        assert_eq!(all[1].to_vec::<f32>().unwrap(), [0.75, 0.25, 0.25, 0.75]);
        // Weights on both sides of zero are distances.
        attributes.insert("class_weights", Attribute::Floats(vec![-1.0, 2.0]));
        let all = run(classifier, &attributes, &[-1.0, 1.0]).unwrap();
        assert_eq!(all[0].to_vec::<i64>().unwrap(), [3, 4]);
        assert_eq!(all[1].to_vec::<f32>().unwrap(), [1.0, -1.0, -2.0, 2.0]);
        attributes.insert("class_ids", ints(&[0, 1]));
        let all = run(classifier, &attributes, &[-1.0, 1.0]).unwrap();
        assert_eq!(all[0].to_vec::<i64>().unwrap(), [3, 4], "a class that no leaf names comes last");
        assert_eq!(all[1].to_vec::<f32>().unwrap(), [-1.0, 0.0, 0.0, 2.0]);
    }
}
