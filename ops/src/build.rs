//! From a node of a model to an operator.

use std::sync::Arc;

use crate::error::OpError;
use crate::ir::attributes::Attributes;
use crate::operator::Operator;

/// A node as a constructor sees it.
#[derive(Clone, Copy, Debug)]
pub struct NodeSpec<'a> {
    /// The operator's name.
    pub op_type: &'a str,
    /// The version of the operator set that the node's domain is imported at.
    pub opset: i64,
    /// For each input, whether it is given.
    pub inputs: &'a [bool],
    /// For each output, whether it is wanted.
    pub outputs: &'a [bool],
    /// Attributes.
    pub attributes: &'a Attributes,
}

/// Makes an operator of a node.
pub type Build = fn(&NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError>;

/// A row of the operator table.
#[derive(Clone, Copy, Debug)]
pub struct OperatorRow {
    /// Operator domain; empty for the standard one.
    pub domain: &'static str,
    /// The operator's name there.
    pub name: &'static str,
    /// First opset in which this constructor is right. The row with the largest one not above the node's opset is taken.
    pub since: i64,
    /// The constructor.
    pub build: Build,
}

impl NodeSpec<'_> {
    /// Checks the number of inputs, absent ones in between counted.
    ///
    /// # Errors
    /// When there are fewer than `least` or more than `most`, or one of the first `least` is absent.
    pub fn expect_inputs(&self, least: usize, most: usize, expected: &'static str) -> Result<(), OpError> {
        let got = self.inputs.len();
        if got > most || got < least || !self.inputs.iter().take(least).all(|&given| given) {
            return Err(OpError::Arity { what: "inputs", expected, got });
        }
        Ok(())
    }

    /// Whether input `index` is given.
    pub fn has_input(&self, index: usize) -> bool {
        self.inputs.get(index).copied().unwrap_or(false)
    }
}
