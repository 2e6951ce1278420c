//! Products over 8-bit integers whose activations are measured in each run: DynamicQuantizeLinear and MatMulInteger.

use std::collections::HashMap;
use std::sync::Arc;

use sardonyx_ops::{DType, Tensor};

use super::draft::{Draft, int, label, made};
use super::matrix::Product;
use super::rounding::{signed_code, symmetric_scale};
use super::{Excluded, Layer, Summary};
use crate::error::{ImportError, Place, UnsupportedFault};

type Result<T> = std::result::Result<T, ImportError>;

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicOptions {
    /// Each column has a scale of its own.
    pub per_channel: bool,
}

/// Quantized weights: codes and scale.
type Weight = (Arc<str>, Arc<str>);

/// Quantized activations: codes, scale, zero point.
type Activation = (Arc<str>, Arc<str>, Arc<str>);

/// Gives `MatMul` and `Gemm` with a constant matrix to integers: `y = Cast(MatMulInteger(q(x), q(w))) * (sx * sw)`.
/// Weights are signed and symmetric. Products that read the same activations share their quantization.
///
/// # Errors
/// [`ImportError::Unsupported`] when the model's operator set is older than DynamicQuantizeLinear (11).
pub fn dynamic_int8(draft: &mut Draft, options: &DynamicOptions, excluded: &Excluded) -> Result<Summary> {
    if draft.version("").is_none_or(|version| version < 11) {
        let detail = "DynamicQuantizeLinear needs operator set 11; export the model with a newer one";
        return Err(ImportError::unsupported(Place::model(), UnsupportedFault::Operator, detail));
    }
    let mut summary = Summary::default();
    let mut weights: HashMap<(Arc<str>, bool), Weight> = HashMap::new();
    let mut activations: HashMap<Arc<str>, Activation> = HashMap::new();
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut draft.model.graph.nodes) {
        let name = label(&node);
        let product = Product::of(draft, &node).filter(|_| !excluded.contains(&name));
        let (Some(product), Some(x), Some(y)) = (product, node.inputs.first(), node.outputs.first()) else {
            nodes.push(node);
            continue;
        };
        let key = (product.weight.clone(), product.transposed);
        let weight = match weights.get(&key) {
            Some(known) => known.clone(),
            None => {
                let made = round(draft, &product, options.per_channel)?;
                weights.insert(key, made.clone());
                made
            }
        };
        let activation = match activations.get(x) {
            Some(known) => known.clone(),
            None => {
                let part = |draft: &mut Draft, what: &str| draft.fresh(&format!("{x}_{what}"));
                let made = (part(draft, "quantized"), part(draft, "scale"), part(draft, "zero_point"));
                let outputs = [&made.0, &made.1, &made.2];
                let name = format!("{x}_QuantizeLinear");
                nodes.push(draft.node("DynamicQuantizeLinear", &name, &[x], &outputs));
                activations.insert(x.clone(), made.clone());
                made
            }
        };
        let mut value = |what: &str| draft.fresh(&format!("{y}_{what}"));
        let (sums, floats, scale, product_y) =
            (value("sums"), value("floats"), value("scale"), value("product"));
        let result = if product.bias.is_some() { &product_y } else { y };
        let inputs = [&activation.0, &weight.0, &activation.2];
        nodes.push(draft.node("MatMulInteger", &format!("{name}_quant"), &inputs, &[&sums]));
        let mut cast = draft.node("Cast", &format!("{name}_cast"), &[&sums], &[&floats]);
        cast.attributes = vec![int("to", DType::F32.to_onnx().into())];
        nodes.push(cast);
        nodes.push(draft.node("Mul", &format!("{name}_scales"), &[&activation.1, &weight.1], &[&scale]));
        nodes.push(draft.node("Mul", &name, &[&floats, &scale], &[result]));
        if let Some(bias) = &product.bias {
            nodes.push(draft.node("Add", &format!("{name}_bias"), &[result, bias], &[y]));
        }
        summary.layers.push(Layer {
            node: name,
            op: node.op_type.clone(),
            float: y.clone(),
            quantized: y.clone(),
        });
    }
    draft.model.graph.nodes = nodes;
    draft.sweep();
    Ok(summary)
}

/// Codes [K, N] and one scale, or one for each column.
fn round(draft: &mut Draft, product: &Product, per_channel: bool) -> Result<Weight> {
    let columns = draft.constant(&product.weight).and_then(|tensor| product.columns(tensor));
    let columns = columns.unwrap_or_default();
    let (k, n) = (product.k, product.n);
    let scales: Vec<f32> = match per_channel {
        true => columns.chunks(k).map(|column| symmetric_scale(column.iter().copied())).collect(),
        false => vec![symmetric_scale(columns.iter().copied())],
    };
    let mut codes = vec![0i8; columns.len()];
    for (c, (column, scale)) in columns.chunks(k).zip(scales.iter().cycle()).enumerate() {
        let places = codes.iter_mut().skip(c).step_by(n);
        places.zip(column).for_each(|(place, value)| *place = signed_code(*value, *scale));
    }
    let dims: &[usize] = if per_channel { &[n] } else { &[] };
    let (codes, scales) = (made(Tensor::from_vec(&[k, n], codes))?, made(Tensor::from_vec(dims, scales))?);
    let stem = &product.weight;
    Ok((draft.add(&format!("{stem}_quantized"), codes), draft.add(&format!("{stem}_scale"), scales)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ops, products, written};
    use super::*;

    #[test]
    fn products_over_integers() {
        for per_channel in [false, true] {
            let mut draft = Draft::from_bytes(products()).unwrap();
            let options = DynamicOptions { per_channel };
            let summary = dynamic_int8(&mut draft, &options, &Excluded::new()).unwrap();
            assert_eq!(summary.layers.len(), 2);
            let product = ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul"];
            assert_eq!(ops(&draft), [&product[..], &["Relu"], &product, &["Add"]].concat());
            written(&draft);
            let (codes, scale) = (draft.constant("v_quantized").unwrap(), draft.constant("v_scale").unwrap());
            assert_eq!((codes.dims(), scale.len()), (&[3, 4][..], if per_channel { 4 } else { 1 }));
            let (codes, scale) = (codes.to_vec::<i8>().unwrap(), scale.to_vec::<f32>().unwrap());
            for (i, code) in codes.iter().enumerate() {
                let (k, n) = (i / 4, i % 4);
                let want = (n * 3 + k) as f32 - 5.5;
                let step = scale[n % scale.len()];
                assert!((f32::from(*code) * step - want).abs() <= step * 0.501);
            }
        }
    }

    #[test]
    fn old_models_are_refused() {
        let old = super::super::testing::file(9, &[], &[], &[], &[]);
        assert!(Draft::from_bytes(old).is_err(), "no outputs");
        let mut draft = Draft::from_bytes(products()).unwrap();
        draft.model.opset_imports[0].version = 10;
        let error = dynamic_int8(&mut draft, &DynamicOptions { per_channel: true }, &Excluded::new());
        assert_eq!(error.unwrap_err().code(), "SDX-0302");
    }
}
