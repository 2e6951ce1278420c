//! Expressions for people: `relu(add(acc, x0))`. A value that is read more than once is written once and named:
//! `t0 = sigmoid(x0); mul(x0, t0)`.

use std::fmt;

use super::{Expr, ExprNode, Scalar};

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut uses = vec![0usize; self.nodes.len()];
        let read = self.nodes.iter().flat_map(|node| node.args()).chain(&self.results);
        read.for_each(|&node| uses[node] += 1);
        let mut texts: Vec<String> = Vec::with_capacity(self.nodes.len());
        let mut named = 0;
        for (node, &uses) in self.nodes.iter().zip(&uses) {
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
            // Without names, a chain of values that are read twice would double its text at each.
            if uses > 1 && !node.args().is_empty() {
                write!(f, "t{named} = {text}; ")?;
                texts.push(format!("t{named}"));
                named += 1;
            } else {
                texts.push(text);
            }
        }
        let results: Vec<&str> = self.results.iter().map(|&result| texts[result].as_str()).collect();
        f.write_str(&results.join("; "))
    }
}
