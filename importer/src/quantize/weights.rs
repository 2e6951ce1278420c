//! Weights in blocks of 4 or 8 bits: `MatMul` and `Gemm` with a constant matrix become `com.microsoft` MatMulNBits
//! (<https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MatMulNBits>).

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use sardonyx_ops::Tensor;

use super::compensate::{AllMoments, Compensation, Moments, rounded};
use super::draft::{Draft, int, label, made};
use super::matrix::Product;
use super::{Excluded, Layer, Summary};
use crate::error::ImportError;

type Result<T> = std::result::Result<T, ImportError>;

/// How weights are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockOptions {
    /// Bits of a code: 4 or 8.
    pub bits: u32,
    /// Weights along K that share a scale: a power of two from 16.
    pub block: usize,
    /// Blocks have no zero points.
    pub symmetric: bool,
}

/// The operands of MatMulNBits besides the activations.
#[derive(Clone)]
struct Packed {
    codes: Arc<str>,
    scales: Arc<str>,
    zeros: Option<Arc<str>>,
}

/// The inputs of the products that [`weights_only`] would change, with the length of their rows, each once.
pub fn inputs_of_products(draft: &Draft, excluded: &Excluded) -> Vec<(Arc<str>, usize)> {
    let mut all: Vec<(Arc<str>, usize)> = Vec::new();
    for node in draft.nodes() {
        let product = Product::of(draft, node).filter(|_| !excluded.contains(&label(node)));
        if let (Some(product), Some(x)) = (product, node.inputs.first())
            && !all.iter().any(|(known, _)| known == x)
        {
            all.push((x.clone(), product.k));
        }
    }
    all
}

/// Rounds the weights of products: to the nearest code, or where `moments` has their input, so that the errors make up for
/// each other. A matrix that several products read is packed once, for the first of them.
///
/// # Errors
/// [`ImportError::Invalid`] when a packed tensor cannot be made.
pub fn weights_only(
    draft: &mut Draft,
    options: &BlockOptions,
    moments: &AllMoments,
    excluded: &Excluded,
) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut packed: HashMap<(Arc<str>, bool), Packed> = HashMap::new();
    let mut nodes = Vec::new();
    for node in std::mem::take(&mut draft.model.graph.nodes) {
        let name = label(&node);
        let product = Product::of(draft, &node).filter(|_| !excluded.contains(&name));
        let (Some(product), Some(x), Some(y)) = (product, node.inputs.first(), node.outputs.first()) else {
            nodes.push(node);
            continue;
        };
        let key = (product.weight.clone(), product.transposed);
        let operands = match packed.get(&key) {
            Some(known) => known.clone(),
            None => {
                let made = pack(draft, &product, options, moments.get(x))?;
                packed.insert(key, made.clone());
                made
            }
        };
        // What `Gemm` adds is added by a node of its own: not all runtimes take MatMulNBits with a bias.
        let result = if product.bias.is_some() { draft.fresh(&format!("{y}_product")) } else { y.clone() };
        let mut inputs = vec![x, &operands.codes, &operands.scales];
        inputs.extend(&operands.zeros);
        let mut product_node = draft.node("MatMulNBits", &name, &inputs, &[&result]);
        product_node.domain = "com.microsoft".into();
        product_node.opset = 1;
        product_node.attributes = vec![
            int("K", product.k as i64),
            int("N", product.n as i64),
            int("bits", options.bits.into()),
            int("block_size", options.block as i64),
        ];
        nodes.push(product_node);
        if let Some(bias) = &product.bias {
            nodes.push(draft.node("Add", &format!("{name}_bias"), &[&result, bias], &[y]));
        }
        summary.layers.push(Layer {
            node: name,
            op: node.op_type.clone(),
            float: y.clone(),
            quantized: y.clone(),
        });
    }
    draft.model.graph.nodes = nodes;
    if !summary.layers.is_empty() {
        draft.import("com.microsoft", 1);
    }
    draft.sweep();
    Ok(summary)
}

/// Packs a matrix: codes [N, blocks, block * bits / 8], the first of two in the low half of a byte; scales [N, blocks];
/// zero points [N, ceil(blocks * bits / 8)], packed likewise. Codes behind the end of K stand for 0.
fn pack(
    draft: &mut Draft,
    product: &Product,
    options: &BlockOptions,
    moments: Option<&Moments>,
) -> Result<Packed> {
    let columns = draft.constant(&product.weight).and_then(|tensor| product.columns(tensor));
    let columns = columns.unwrap_or_default();
    let BlockOptions { bits, block, symmetric } = *options;
    let blocks = product.k.div_ceil(block);
    let per_byte = (8 / bits) as usize;
    let pack = |codes: &[u8]| -> Vec<u8> {
        let byte = |codes: &[u8]| {
            codes.iter().rev().fold(0, |byte, code| if bits == 8 { *code } else { byte << 4 | code })
        };
        codes.chunks(per_byte).map(byte).collect()
    };
    let (mut bytes, mut scales, mut zeros) = (Vec::new(), Vec::new(), Vec::new());
    let compensation = moments.filter(|moments| moments.depth() == product.k).and_then(Compensation::new);
    let rounded = columns
        .par_chunks(product.k)
        .map(|column| rounded(column, block, (bits, symmetric), compensation.as_ref()))
        .collect::<Vec<_>>();
    for (groups, all) in rounded {
        for (group, codes) in groups.iter().zip(all.chunks(block)) {
            let mut codes = codes.to_vec();
            codes.resize(block, group.zero);
            bytes.extend(pack(&codes));
        }
        scales.extend(groups.iter().map(|group| group.scale));
        zeros.extend(pack(&groups.iter().map(|group| group.zero).collect::<Vec<u8>>()));
    }
    let stem = &product.weight;
    let codes = made(Tensor::from_vec(&[product.n, blocks, block / per_byte], bytes))?;
    let scales = made(Tensor::from_vec(&[product.n, blocks], scales))?;
    let codes = draft.add(&format!("{stem}_Q{bits}"), codes);
    let scales = draft.add(&format!("{stem}_scales"), scales);
    let zeros = match symmetric {
        true => None,
        false => {
            let zeros = made(Tensor::from_vec(&[product.n, blocks.div_ceil(per_byte)], zeros))?;
            Some(draft.add(&format!("{stem}_zero_points"), zeros))
        }
    };
    Ok(Packed { codes, scales, zeros })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ops, products, written};
    use super::*;

    fn quantized(bits: u32, symmetric: bool) -> Draft {
        let mut draft = Draft::from_bytes(products()).unwrap();
        let options = BlockOptions { bits, block: 16, symmetric };
        let summary = weights_only(&mut draft, &options, &AllMoments::new(), &Excluded::new()).unwrap();
        assert_eq!(summary.layers.len(), 2);
        assert_eq!((&*summary.layers[1].node, &*summary.layers[1].op), ("y", "Gemm"));
        draft
    }

    #[test]
    fn codes_stand_for_the_weights() {
        let float = Draft::from_bytes(products()).unwrap();
        let weights = floats_of(&float, "w");
        for (bits, symmetric) in [(4, true), (4, false), (8, true), (8, false)] {
            let draft = quantized(bits, symmetric);
            assert_eq!(ops(&draft), ["MatMulNBits", "Relu", "MatMulNBits", "Add"]);
            written(&draft);
            let codes = draft.constant(&format!("w_Q{bits}")).unwrap();
            assert_eq!(codes.dims(), [3, 3, 16 * bits as usize / 8]);
            let scales = floats_of(&draft, "w_scales");
            let zeros = draft.constant("w_zero_points").map(|tensor| tensor.bytes().to_vec());
            assert_eq!(zeros.is_none(), symmetric);
            let code = |bytes: &[u8], i: usize| match bits {
                4 => bytes[i / 2] >> (4 * (i % 2)) & 15,
                _ => bytes[i],
            };
            for (n, k) in (0..3).flat_map(|n| (0..40).map(move |k| (n, k))) {
                let block = k / 16;
                let zero = match &zeros {
                    None => 1 << (bits - 1),
                    Some(zeros) => code(&zeros[n * if bits == 4 { 2 } else { 3 }..], block),
                };
                let got = f32::from(code(codes.bytes(), (n * 3 + block) * 16 + k % 16)) - f32::from(zero);
                let scale = scales[n * 3 + block];
                let error = (got * scale - weights[k * 3 + n]).abs();
                // The end away from the farthest value may be one code short.
                let most = scale.abs() * if symmetric { 1.001 } else { 0.501 };
                assert!(error <= most, "{bits} {symmetric} {n} {k}: {error}");
            }
            assert!(
                draft.constant("w").is_some()
                    && !draft.model.graph.initializers.iter().any(|t| &*t.name == "w")
            );
        }
    }

    fn floats_of(draft: &Draft, name: &str) -> Vec<f32> {
        draft.constant(name).unwrap().to_vec::<f32>().unwrap()
    }

    #[test]
    fn inputs_that_were_measured_change_codes() {
        let draft = Draft::from_bytes(products()).unwrap();
        let inputs = inputs_of_products(&draft, &Excluded::new());
        assert_eq!(inputs, [("x".into(), 40), ("r".into(), 3)]);
        let mut moments = Moments::new(40).unwrap();
        moments.add(&(0..400).map(|i| (i * i % 17) as f32 - 8.0).collect::<Vec<_>>());
        let options = BlockOptions { bits: 4, block: 16, symmetric: true };
        let codes = |moments: &AllMoments| {
            let mut draft = draft.clone();
            weights_only(&mut draft, &options, moments, &Excluded::new()).unwrap();
            written(&draft);
            ["w_Q4", "v_Q4"].map(|name| draft.constant(name).unwrap().bytes().to_vec())
        };
        let ([w, v], [other, same]) =
            (codes(&AllMoments::new()), codes(&AllMoments::from([("x".into(), moments)])));
        assert!(w != other && v == same);
    }

    #[test]
    fn excluded_nodes_stay() {
        let mut draft = Draft::from_bytes(products()).unwrap();
        let options = BlockOptions { bits: 4, block: 32, symmetric: true };
        let excluded = Excluded::from(["y".into()]);
        assert_eq!(
            weights_only(&mut draft, &options, &AllMoments::new(), &excluded).unwrap().layers.len(),
            1
        );
        assert_eq!(ops(&draft), ["MatMulNBits", "Relu", "Gemm"]);
        assert_eq!(draft.version("com.microsoft"), Some(1));
    }
}
