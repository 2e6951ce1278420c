//! Models over 16-bit floats, with f32 at the inputs and outputs.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use half::f16;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::{DType, Tensor};

use super::draft::{Draft, floats, int, int_of, label, made, proto};
use super::{Excluded, Layer, Summary};
use crate::error::{ImportError, UnsupportedFault};
use crate::onnx::{AttributeValue, NodeProto};

type Result<T> = std::result::Result<T, ImportError>;

/// Operators that stay in f32: ONNX has no f16 for them in all versions, or they make or quantize numbers.
const KEPT: [&str; 18] = [
    "BlackmanWindow",
    "CumSum",
    "DFT",
    "DequantizeLinear",
    "DynamicQuantizeLinear",
    "EyeLike",
    "HammingWindow",
    "HannWindow",
    "MelWeightMatrix",
    "Multinomial",
    "NonMaxSuppression",
    "QuantizeLinear",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
    "Range",
    "STFT",
];

/// Operators whose error is shown.
const SHOWN: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Gives f32 values and constants to f16. Inputs, outputs, and the nodes excluded keep f32, with `Cast` between.
/// Constants beyond the range of f16 become its largest number, with a warning that names them.
///
/// # Errors
/// [`ImportError::Unsupported`] for models with nested graphs; what inference of types finds wrong.
pub fn to_f16(draft: &mut Draft, excluded: &Excluded) -> Result<Summary> {
    if let Some(node) = draft.nodes().iter().find(|node| node.subgraphs().next().is_some()) {
        let detail = "nested graphs are not converted to f16";
        return Err(ImportError::unsupported(node.place(), UnsupportedFault::Variant, detail));
    }
    let facts = draft.facts()?;
    let outputs: HashSet<Arc<str>> = draft.model.graph.outputs.iter().map(|info| info.name.clone()).collect();
    let mut converter = Converter {
        facts,
        outputs,
        halves: HashMap::new(),
        singles: HashMap::new(),
        nodes: Vec::new(),
        summary: Summary::default(),
    };
    for node in std::mem::take(&mut draft.model.graph.nodes) {
        let kept =
            !node.domain.is_empty() || KEPT.contains(&&*node.op_type) || excluded.contains(&label(&node));
        match kept {
            true => converter.keep(draft, node)?,
            false => converter.convert(draft, node)?,
        }
    }
    draft.model.graph.nodes = converter.nodes;
    // Types of values between are for people; those of f32 would be wrong now.
    draft.model.graph.value_info.clear();
    draft.sweep();
    Ok(converter.summary)
}

struct Converter {
    facts: BTreeMap<Arc<str>, Fact>,
    outputs: HashSet<Arc<str>>,
    /// The f16 version of values of f32, by the name in the model.
    halves: HashMap<Arc<str>, Arc<str>>,
    /// The f32 version of values that are computed in f16.
    singles: HashMap<Arc<str>, Arc<str>>,
    nodes: Vec<NodeProto>,
    summary: Summary,
}

impl Converter {
    fn is_single(&self, draft: &Draft, name: &str) -> bool {
        match draft.constant(name) {
            Some(tensor) => tensor.dtype() == DType::F32,
            None => self.facts.get(name).is_some_and(|fact| fact.dtype == DType::F32),
        }
    }

    /// A node over f32.
    fn keep(&mut self, draft: &mut Draft, mut node: NodeProto) -> Result<()> {
        for input in &mut node.inputs {
            *input = self.single(draft, input);
        }
        self.nodes.push(node);
        Ok(())
    }

    /// A node over f16, except for the inputs that must be f32.
    fn convert(&mut self, draft: &mut Draft, mut node: NodeProto) -> Result<()> {
        for index in 0..node.inputs.len() {
            let Some(input) = node.inputs.get(index).filter(|name| !name.is_empty()).cloned() else {
                continue;
            };
            let name = match wants_single(&node.op_type, index) {
                true => self.single(draft, &input),
                false => self.half(draft, &input)?,
            };
            if let Some(place) = node.inputs.get_mut(index) {
                *place = name;
            }
        }
        let (f32_number, f16_number) = (i64::from(DType::F32.to_onnx()), i64::from(DType::F16.to_onnx()));
        match &*node.op_type {
            "Constant" => {
                self.nodes.push(node);
                return Ok(());
            }
            "Cast" if int_of(&node, "to", 0) == f32_number => {
                node.attributes.retain(|attribute| &*attribute.name != "to");
                node.attributes.push(int("to", f16_number));
            }
            "ConstantOfShape" => self.fill(draft, &mut node)?,
            _ => {}
        }
        let (name, mut after) = (label(&node), Vec::new());
        for output in &mut node.outputs {
            if output.is_empty() || !self.is_single(draft, output) {
                continue;
            }
            let named = output.clone();
            if self.outputs.contains(&named) {
                *output = draft.fresh(&format!("{named}_f16"));
                after.push(cast(draft, output, &named, DType::F32));
                self.singles.insert(named.clone(), named.clone());
            }
            self.halves.insert(named.clone(), output.clone());
            if SHOWN.contains(&&*node.op_type) {
                self.summary.layers.push(Layer {
                    node: name.clone(),
                    op: node.op_type.clone(),
                    float: named,
                    quantized: output.clone(),
                });
            }
        }
        self.nodes.push(node);
        self.nodes.extend(after);
        Ok(())
    }

    /// `ConstantOfShape` fills with f32 zeros unless told otherwise.
    fn fill(&mut self, draft: &Draft, node: &mut NodeProto) -> Result<()> {
        let value = node.outputs.first().filter(|output| self.is_single(draft, output)).cloned();
        let Some(name) = value else { return Ok(()) };
        let given = match node.attribute("value") {
            Some(AttributeValue::Tensor(value)) => crate::onnx::to_tensor(value, &Default::default())?,
            _ => made(Tensor::from_slice(&[1], &[0f32]))?,
        };
        let value = self.rounded(&name, &given)?;
        node.attributes = vec![crate::onnx::AttributeProto {
            name: "value".into(),
            value: AttributeValue::Tensor(Box::new(proto(&"".into(), &value))),
        }];
        Ok(())
    }

    /// The name of a value's f16 version, made if there is none; other types stay.
    fn half(&mut self, draft: &mut Draft, name: &Arc<str>) -> Result<Arc<str>> {
        if let Some(half) = self.halves.get(name) {
            return Ok(half.clone());
        }
        if !self.is_single(draft, name) {
            return Ok(name.clone());
        }
        let half = match draft.constant(name).cloned() {
            Some(tensor) => {
                let rounded = self.rounded(name, &tensor)?;
                draft.add(&format!("{name}_f16"), rounded)
            }
            None => {
                let half = draft.fresh(&format!("{name}_f16"));
                self.nodes.push(cast(draft, name, &half, DType::F16));
                half
            }
        };
        self.halves.insert(name.clone(), half.clone());
        Ok(half)
    }

    /// The name of a value's f32 version.
    fn single(&mut self, draft: &mut Draft, name: &Arc<str>) -> Arc<str> {
        if let Some(single) = self.singles.get(name) {
            return single.clone();
        }
        // What has been computed in f16 has no f32 version yet; inputs, constants and results of kept nodes are f32.
        let Some(half) = self.halves.get(name).filter(|half| *half == name).cloned() else {
            return name.clone();
        };
        let single = draft.fresh(&format!("{name}_f32"));
        self.nodes.push(cast(draft, &half, &single, DType::F32));
        self.singles.insert(name.clone(), single.clone());
        single
    }

    fn rounded(&mut self, name: &str, tensor: &Tensor) -> Result<Tensor> {
        let largest = f16::MAX.to_f32();
        let values = floats(tensor).unwrap_or_default();
        let beyond = values.iter().filter(|v| v.is_finite() && v.abs() > largest).count();
        if beyond > 0 {
            self.summary.warnings.push(format!(
                "{beyond} elements of {name:?} are beyond the range of f16 and became its largest number, 65504"
            ));
        }
        let round = |v: &f32| f16::from_f32(if v.is_finite() { v.clamp(-largest, largest) } else { *v });
        made(Tensor::from_vec(tensor.dims(), values.iter().map(round).collect::<Vec<f16>>()))
    }
}

/// Inputs that are f32 whatever the others are.
fn wants_single(op: &str, index: usize) -> bool {
    matches!((op, index), ("Resize", 1 | 2) | ("Upsample", 1))
}

fn cast(draft: &Draft, from: &Arc<str>, to: &Arc<str>, dtype: DType) -> NodeProto {
    let mut node = draft.node("Cast", &format!("{to}_cast"), &[from], &[to]);
    node.attributes = vec![int("to", dtype.to_onnx().into())];
    node
}

#[cfg(test)]
mod tests {
    use super::super::testing::{file, ops, products, value, weight, written};
    use super::*;
    use crate::onnx::testing::node;

    #[test]
    fn f32_at_the_border_f16_between() {
        let mut draft = Draft::from_bytes(products()).unwrap();
        let summary = to_f16(&mut draft, &Excluded::new()).unwrap();
        assert_eq!(ops(&draft), ["Cast", "MatMul", "Relu", "Gemm", "Cast"]);
        assert_eq!((summary.layers.len(), summary.warnings.len()), (2, 0));
        assert_eq!(&*summary.layers[1].quantized, "y_f16");
        let model = written(&draft);
        let types = |specs: &[crate::ValueSpec]| specs[0].dtype;
        assert_eq!((types(model.inputs()), types(model.outputs())), (Some(DType::F32), Some(DType::F32)));
        let facts = draft.facts().unwrap();
        assert_eq!(facts["r"].dtype, DType::F16);
        assert!(
            draft.model.graph.initializers.iter().all(|t| t.data_type == i64::from(DType::F16.to_onnx()))
        );
    }

    #[test]
    fn kept_nodes_and_large_constants() {
        let nodes = [
            node("Add", &["x", "big"], &["a"], &[]),
            node("Neg", &["a"], &["b"], &[]),
            node("Abs", &["b"], &["y"], &[]),
        ];
        let big = weight("big", &[2], |i| [1e6, f32::NEG_INFINITY][i]);
        let bytes = file(17, &nodes, &[big], &[value("x", &[2])], &[value("y", &[2])]);
        let mut draft = Draft::from_bytes(bytes).unwrap();
        let summary = to_f16(&mut draft, &Excluded::from(["b".into()])).unwrap();
        assert_eq!(ops(&draft), ["Cast", "Add", "Cast", "Neg", "Cast", "Abs", "Cast"]);
        assert!(summary.warnings[0].contains("1 elements of \"big\""), "{:?}", summary.warnings);
        let values = draft.constant("big_f16").unwrap().to_vec::<f16>().unwrap();
        assert_eq!(values, [f16::MAX, f16::NEG_INFINITY]);
        written(&draft);
    }
}
