//! Expressions for people: `relu(acc + x0)` style calls.

use std::fmt;

use super::{Expr, ExprNode, Scalar};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut texts: Vec<String> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let text = match node {
                ExprNode::Accumulator => "acc".to_owned(),
                ExprNode::Operand(index) => format!("x{index}"),
                ExprNode::Constant(_, Scalar::Float(value)) => format!("{value}"),
                ExprNode::Constant(_, Scalar::Int(value)) => format!("{value}"),
                ExprNode::Call { function, args, params } => {
                    let args = args.iter().map(|&arg| texts[arg].clone());
                    let params = params.iter().map(|param| format!("{param}"));
                    format!("{}({})", function.name, args.chain(params).collect::<Vec<_>>().join(", "))
                }
                ExprNode::Cast { arg, to } => format!("{to}({})", texts[*arg]),
            };
            texts.push(text);
        }
        let results: Vec<&str> = self.results.iter().map(|&result| texts[result].as_str()).collect();
        f.write_str(&results.join("; "))
    }
}
