//! Decision trees: from a row of features to the leaves that it comes to.

use crate::error::OpError;
use crate::ir::numbers::filled;

/// How a feature is compared.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Test {
    LessOrEqual(f64),
    Less(f64),
    GreaterOrEqual(f64),
    Greater(f64),
    Equal(f64),
    NotEqual(f64),
    Member(Vec<f64>),
}

impl Test {
    fn holds(&self, x: f64) -> bool {
        match self {
            Test::LessOrEqual(split) => x <= *split,
            Test::Less(split) => x < *split,
            Test::GreaterOrEqual(split) => x >= *split,
            Test::Greater(split) => x > *split,
            Test::Equal(split) => x == *split,
            Test::NotEqual(split) => x != *split,
            Test::Member(set) => set.contains(&x),
        }
    }
}

/// Where a branch leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Branch {
    Node(usize),
    Leaf(usize),
}

#[derive(Clone, PartialEq, Debug)]
pub(super) struct Split {
    pub(super) feature: usize,
    pub(super) test: Test,
    /// A feature that is NaN takes the branch of a test that holds.
    pub(super) missing_holds: bool,
    pub(super) holds: Branch,
    pub(super) fails: Branch,
}

/// How the leaves of all trees come together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Aggregate {
    Average,
    Sum,
    Least,
    Greatest,
}

/// Trees over rows of features.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Trees {
    pub(super) splits: Vec<Split>,
    /// What each leaf says: targets and weights.
    pub(super) leaves: Vec<Vec<(usize, f64)>>,
    /// Where each tree begins.
    pub(super) roots: Vec<Branch>,
    pub(super) targets: usize,
    /// How the leaves of all trees come together.
    pub(super) aggregate: Aggregate,
}

impl Trees {
    /// Checks that all branches lead to nodes and leaves that there are, and weights to targets.
    pub(super) fn check(&self) -> Result<(), OpError> {
        let inside = |branch| match branch {
            Branch::Node(node) => node < self.splits.len(),
            Branch::Leaf(leaf) => leaf < self.leaves.len(),
        };
        if !self.splits.iter().all(|split| inside(split.holds) && inside(split.fails)) {
            return Err(OpError::constraint("branches", "nodes or leaves of the ensemble", "others"));
        }
        if !self.roots.iter().all(|&root| inside(root)) {
            return Err(OpError::constraint("roots", "nodes of the ensemble", "others"));
        }
        if self.leaves.iter().flatten().any(|&(target, _)| target >= self.targets) {
            return Err(OpError::constraint("targets", format!("below {}", self.targets), "others"));
        }
        Ok(())
    }

    /// The leaf that a row of features comes to from a root.
    fn leaf(&self, root: Branch, row: &[f64]) -> Result<&[(usize, f64)], OpError> {
        let mut at = root;
        // Whoever passes more nodes than there are goes in circles.
        for _ in 0..=self.splits.len() {
            let split = match at {
                Branch::Node(node) => self.splits.get(node),
                Branch::Leaf(leaf) => {
                    let leaf = self.leaves.get(leaf).ok_or(OpError::Internal("a leaf out of bounds"))?;
                    return Ok(leaf);
                }
            };
            let split = split.ok_or(OpError::Internal("a node out of bounds"))?;
            let &x = row.get(split.feature).ok_or_else(|| {
                OpError::constraint("features", format!("more than {}", split.feature), row.len())
            })?;
            let holds = split.test.holds(x) || split.missing_holds && x.is_nan();
            at = if holds { split.holds } else { split.fails };
        }
        Err(OpError::constraint("nodes", "trees", "a circle"))
    }

    /// The scores of a row, in place of zeros, and for each target whether a leaf names it.
    pub(super) fn scores(&self, row: &[f64], scores: &mut [f64]) -> Result<Vec<bool>, OpError> {
        let mut seen = filled(&[scores.len()], false)?;
        for &root in &self.roots {
            for &(target, weight) in self.leaf(root, row)? {
                let (score, seen) = (&mut scores[target], &mut seen[target]);
                *score = match self.aggregate {
                    Aggregate::Sum => *score + weight,
                    Aggregate::Average => *score + weight / self.roots.len() as f64,
                    Aggregate::Least if *seen => score.min(weight),
                    Aggregate::Greatest if *seen => score.max(weight),
                    Aggregate::Least | Aggregate::Greatest => weight,
                };
                *seen = true;
            }
        }
        Ok(seen)
    }
}
