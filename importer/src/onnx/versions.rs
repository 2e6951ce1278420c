//! Format version and operator sets: which version of its operator every node means.

use std::sync::Arc;

use foldhash::{HashMap, HashSet};

use super::attribute::{AttributeProto, AttributeValue};
use super::model::{FunctionProto, ModelProto, NodeProto, OperatorSetId};
use crate::error::{ImportError, InvalidFault, ParseFault, Place, UnsupportedFault};

type Result<T> = std::result::Result<T, ImportError>;

/// What a call names of a local function: domain, name, overload.
pub(super) type FunctionKey = (Arc<str>, Arc<str>, Arc<str>);

/// The operator sets that apply to a graph or function body.
pub(super) struct Imports(HashMap<Arc<str>, i64>);

impl Imports {
    fn new(imports: &[OperatorSetId]) -> Result<Imports> {
        let mut table = HashMap::default();
        for OperatorSetId { domain, version } in imports {
            let fail = |detail| Err(ImportError::invalid(Place::model(), InvalidFault::Opset, detail));
            if *version < 1 {
                return fail(format!("version {version} of domain {domain:?}"));
            }
            // The same import twice, as the two spellings of ONNX's own domain give it, does no harm.
            if let Some(other) = table.insert(domain.clone(), *version)
                && other != *version
            {
                return fail(format!("domain {domain:?} is imported as version {other} and {version}"));
            }
        }
        Ok(Imports(table))
    }

    fn of_function(function: &FunctionProto) -> Result<Imports> {
        Imports::new(&function.opset_imports).map_err(|error| error.within(|| function.place()))
    }

    pub fn get(&self, domain: &str) -> Option<i64> {
        self.0.get(domain).copied()
    }
}

impl FunctionProto {
    pub(super) fn key(&self) -> FunctionKey {
        (self.domain.clone(), self.name.clone(), self.overload.clone())
    }

    /// The function in words of an error message.
    pub(super) fn place(&self) -> Place {
        Place {
            node: Some(self.name.clone()),
            op: self.name.clone(),
            domain: self.domain.clone(),
            ..Place::default()
        }
    }
}

impl NodeProto {
    pub(super) fn key(&self) -> FunctionKey {
        (self.domain.clone(), self.op_type.clone(), self.overload.clone())
    }
}

/// Checks the versions of a model, and sets [`NodeProto::opset`] everywhere, in functions too.
pub(super) fn resolve(model: &mut ModelProto) -> Result<()> {
    check_format(model)?;
    let local: HashSet<FunctionKey> = model.functions.iter().map(FunctionProto::key).collect();
    for function in &mut model.functions {
        let imports = Imports::of_function(function)?;
        resolve_nodes(&mut function.nodes, &imports, &local, true)?;
    }
    let imports = if model.opset_imports.is_empty() && model.ir_version < 3 {
        // Operator sets came with IR version 3; before, there was one.
        Imports(HashMap::from_iter([(Arc::default(), 1)]))
    } else {
        Imports::new(&model.opset_imports)?
    };
    resolve_nodes(&mut model.graph.nodes, &imports, &local, false)
}

fn check_format(model: &ModelProto) -> Result<()> {
    let missing =
        |detail: &'static str| Err(ImportError::invalid(Place::model(), InvalidFault::Missing, detail));
    match model.ir_version {
        0 if !model.has_graph => return Err(ImportError::Parse { what: ParseFault::NotOnnx, offset: 0 }),
        0 => return missing("ir_version"),
        version if version < 0 => {
            return Err(ImportError::invalid(
                Place::model(),
                InvalidFault::Parameter,
                format!("ir_version is {version}"),
            ));
        }
        version if version > ModelProto::MAX_IR_VERSION => {
            return Err(ImportError::unsupported(
                Place::model(),
                UnsupportedFault::IrVersion,
                format!("{version}; the newest known is {}", ModelProto::MAX_IR_VERSION),
            ));
        }
        _ => {}
    }
    if !model.has_graph {
        return missing("graph");
    }
    if model.opset_imports.is_empty() && model.ir_version >= 3 {
        return missing("opset_import");
    }
    Ok(())
}

fn resolve_nodes(
    nodes: &mut [NodeProto],
    imports: &Imports,
    local: &HashSet<FunctionKey>,
    in_function: bool,
) -> Result<()> {
    for node in nodes {
        if node.op_type.is_empty() {
            return Err(ImportError::invalid(node.place(), InvalidFault::Missing, "op_type"));
        }
        node.opset = match imports.get(&node.domain) {
            Some(version) => version,
            // A call of a local function is replaced, so its version has no meaning.
            None if local.contains(&node.key()) => 0,
            None => {
                let detail = format!("domain {:?} is not imported", node.domain);
                return Err(ImportError::invalid(node.place(), InvalidFault::Opset, detail));
            }
        };
        if let Some(twice) = repeated_name(&node.attributes) {
            let detail = format!("attribute {twice:?} is given twice");
            return Err(ImportError::invalid(node.place(), InvalidFault::DuplicateName, detail));
        }
        for attribute in &node.attributes {
            if !in_function && let AttributeValue::Reference { name, .. } = &attribute.value {
                let detail = format!("reference to {name:?} outside of a function");
                return Err(ImportError::invalid(node.place(), InvalidFault::Attribute, detail));
            }
        }
        for graph in node.subgraphs_mut() {
            resolve_nodes(&mut graph.nodes, imports, local, in_function)?;
        }
    }
    Ok(())
}

/// A name that two attributes have.
fn repeated_name(attributes: &[AttributeProto]) -> Option<&Arc<str>> {
    // Nearly all nodes have a handful: no table for them.
    if attributes.len() <= 16 {
        let mut rest = attributes;
        while let Some((first, others)) = rest.split_first() {
            if others.iter().any(|other| other.name == first.name) {
                return Some(&first.name);
            }
            rest = others;
        }
        return None;
    }
    let mut names: HashSet<&str> = HashSet::default();
    attributes.iter().map(|attribute| &attribute.name).find(|name| !names.insert(name))
}

#[cfg(test)]
mod tests {
    use crate::onnx::testing::{Model, bytes, code, int, node, read};

    fn with_imports(ir: u64, imports: &[(&str, u64)], nodes: Vec<Vec<u8>>) -> Vec<u8> {
        let mut model = Model::new(&["x"], nodes, &["y"]);
        model.ir_version = ir;
        model.imports = imports.iter().map(|(domain, version)| (domain.to_string(), *version)).collect();
        model.encode()
    }

    fn relu() -> Vec<Vec<u8>> {
        vec![node("Relu", &["x"], &["y"], &[])]
    }

    #[test]
    fn versions_that_work() {
        let opset = |file: Vec<u8>| read(file).unwrap().graph.nodes[0].opset;
        assert_eq!(opset(with_imports(8, &[("", 17)], relu())), 17);
        assert_eq!(opset(with_imports(8, &[("ai.onnx", 17)], relu())), 17);
        assert_eq!(opset(with_imports(8, &[("ai.onnx", 17), ("", 17)], relu())), 17);
        assert_eq!(opset(with_imports(2, &[], relu())), 1);
        assert_eq!(opset(with_imports(14, &[("other", 2), ("", 28)], relu())), 28);
    }

    #[test]
    fn versions_that_do_not() {
        assert_eq!(code(with_imports(3, &[], relu())), "SDX-0201");
        assert_eq!(code(with_imports(0, &[("", 17)], relu())), "SDX-0201");
        assert_eq!(code(with_imports(15, &[("", 17)], relu())), "SDX-0301");
        assert_eq!(code(with_imports(u64::MAX, &[("", 17)], relu())), "SDX-0214");
        assert_eq!(code(with_imports(8, &[("", 17), ("ai.onnx", 18)], relu())), "SDX-0211");
        assert_eq!(code(with_imports(8, &[("", 0)], relu())), "SDX-0211");
        assert_eq!(code(with_imports(8, &[("x", 1)], relu())), "SDX-0211");
        assert_eq!(code(with_imports(8, &[("", 17)], vec![node("", &["x"], &["y"], &[])])), "SDX-0201");
        assert_eq!(code(bytes(50, b"nothing known")), "SDX-0102");
        assert_eq!(code([int(1, 8), bytes(8, &int(2, 17))].concat()), "SDX-0201", "no graph");
        assert_eq!(code(vec![]), "SDX-0102");
        let reference = [bytes(1, b"alpha"), bytes(21, b"alpha"), int(20, 1)].concat();
        let leaky = node("LeakyRelu", &["x"], &["y"], &[reference]);
        assert_eq!(code(with_imports(8, &[("", 17)], vec![leaky])), "SDX-0207");
        let alpha = [bytes(1, b"alpha"), int(3, 1), int(20, 2)].concat();
        let twice = node("LeakyRelu", &["x"], &["y"], &[alpha.clone(), alpha]);
        assert_eq!(code(with_imports(8, &[("", 17)], vec![twice])), "SDX-0202");
    }
}
