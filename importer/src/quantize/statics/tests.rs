use super::super::testing::{file, number, ops, products, value, weight, written};
use super::*;
use crate::onnx::testing::{bytes, int, node};

const OPTIONS: StaticOptions = StaticOptions { per_channel: true, signed_activations: false };

fn range(low: f32, high: f32) -> Range {
    Range { low, high }
}

fn applied(bytes: Vec<u8>, options: &StaticOptions, ranges: &[(&str, Range)]) -> (Draft, Summary) {
    let plan = StaticPlan::new(Draft::from_bytes(bytes).unwrap(), options, &Excluded::new()).unwrap();
    let wanted: Vec<String> = plan.measured().iter().map(|name| name.to_string()).collect();
    assert_eq!(wanted, ranges.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    assert!(plan.apply(&HashMap::new()).is_err(), "without ranges");
    let ranges = ranges.iter().map(|(name, range)| ((*name).into(), *range)).collect();
    plan.apply(&ranges).unwrap()
}

fn floats_of(draft: &Draft, name: &str) -> Vec<f32> {
    draft.constant(name).unwrap().to_vec::<f32>().unwrap()
}

#[test]
fn products_between_pairs() {
    let ranges = [("x", range(-1.0, 1.0)), ("r", range(0.0, 51.0)), ("y", range(-10.0, 10.0))];
    let (draft, summary) = applied(products(), &OPTIONS, &ranges);
    let (q, d) = ("QuantizeLinear", "DequantizeLinear");
    // The codes of `r` begin at 0, so that `Relu` has nothing left to do.
    assert_eq!(ops(&draft), [q, d, d, "MatMul", q, d, d, d, "Gemm", q, d]);
    written(&draft);
    assert_eq!(
        summary.layers.iter().map(|l| (&*l.float, &*l.quantized)).collect::<Vec<_>>(),
        [("r", "r_dequantized"), ("y", "y")]
    );
    // Channels: columns of `w`, rows of the transposed `v`; the bias in steps of both.
    assert_eq!(draft.constant("w_quantized").unwrap().dims(), [40, 3]);
    let (x, v, b) =
        (floats_of(&draft, "r_scale"), floats_of(&draft, "v_scale"), floats_of(&draft, "b_scale"));
    assert_eq!((floats_of(&draft, "w_scale").len(), v.len()), (3, 4));
    assert_eq!(b, v.iter().map(|v| v * x[0]).collect::<Vec<f32>>());
    let codes = draft.constant("b_quantized").unwrap().to_vec::<i32>().unwrap();
    for (i, (code, step)) in codes.iter().zip(&b).enumerate() {
        assert!((*code as f32 * step - i as f32).abs() <= step * 0.501);
    }
    assert_eq!(v[0], 5.5 / 127.0);
}

#[test]
fn bounds_that_codes_leave_stay() {
    let ranges = [("x", range(-128.0, 127.0)), ("r", range(-1.0, 50.0)), ("y", range(-10.0, 10.0))];
    let options = StaticOptions { per_channel: false, signed_activations: true };
    let (draft, summary) = applied(products(), &options, &ranges);
    assert!(ops(&draft).contains(&"Relu".to_owned()));
    assert_eq!(&*summary.layers[0].quantized, "r_dequantized");
    assert_eq!(draft.constant("x_zero_point").unwrap().to_vec::<i8>().unwrap(), [0]);
    assert_eq!(floats_of(&draft, "w_scale").len(), 1);
    written(&draft);
}

/// `y = Reshape(MaxPool(Clip(BatchNormalization(Conv(x)), 0, 6)))` of operator set 9, with a squeeze behind.
fn network() -> Vec<u8> {
    let list = |name: &str, values: &[u64]| {
        let values: Vec<u8> = values.iter().flat_map(|value| int(8, *value)).collect();
        [bytes(1, name.as_bytes()), values, int(20, 7)].concat()
    };
    let nodes = [
        node("Conv", &["x", "w"], &["c"], &[]),
        node("BatchNormalization", &["c", "g", "b", "m", "v"], &["n"], &[]),
        node(
            "Clip",
            &["n"],
            &["r"],
            &[super::super::testing::float("min", 0.0), super::super::testing::float("max", 6.0)],
        ),
        node("MaxPool", &["r"], &["p"], &[list("kernel_shape", &[4, 4])]),
        node("Squeeze", &["p"], &["s"], &[list("axes", &[2, 3])]),
        node("Softmax", &["s"], &["y"], &[number("axis", 1)]),
    ];
    let weights = [
        weight("w", &[2, 1, 1, 1], |i| i as f32 + 1.0),
        weight("g", &[2], |_| 2.0),
        weight("b", &[2], |i| i as f32),
        weight("m", &[2], |_| 0.5),
        weight("v", &[2], |_| 4.0 - 1e-5),
    ];
    file(9, &nodes, &weights, &[value("x", &[1, 1, 4, 4])], &[value("y", &[1, 2])])
}

#[test]
fn old_models_are_rewritten_and_normalization_folded() {
    let ranges = [("x", range(-1.0, 1.0)), ("r", range(0.0, 6.0))];
    let (draft, summary) = applied(network(), &OPTIONS, &ranges);
    let (q, d) = ("QuantizeLinear", "DequantizeLinear");
    // Pooling and squeezing keep the scale of what they move; `Clip` is what the codes do.
    assert_eq!(ops(&draft), [q, d, d, d, "Conv", q, d, "MaxPool", q, d, "Squeeze", q, d, "Softmax"]);
    assert_eq!(draft.version(""), Some(13));
    written(&draft);
    assert_eq!(summary.layers.len(), 1);
    // (x * w - 0.5) * 2 / 2 + b
    let scales = floats_of(&draft, "w_folded_scale");
    assert!((scales[0] - 1.0 / 127.0).abs() < 1e-6 && (scales[1] - 2.0 / 127.0).abs() < 1e-6);
    let bias = floats_of(&draft, "w_folded_bias");
    assert!((bias[0] + 0.5).abs() < 1e-6 && (bias[1] - 0.5).abs() < 1e-6);
}

#[test]
fn what_stays_in_float() {
    let draft = Draft::from_bytes(products()).unwrap();
    let plan = StaticPlan::new(draft, &OPTIONS, &Excluded::from(["a".into(), "y".into()])).unwrap();
    assert!(plan.measured().is_empty());
    let flat = [node("Softmax", &["x"], &["y"], &[number("axis", 1)])];
    let old = file(11, &flat, &[], &[value("x", &[1, 2, 3])], &[value("y", &[1, 2, 3])]);
    let error = StaticPlan::new(Draft::from_bytes(old).unwrap(), &OPTIONS, &Excluded::new()).unwrap_err();
    assert_eq!(error.code(), "SDX-0302");
}

#[test]
fn a_bias_too_large_for_its_steps_widens_them() {
    let nodes = [node("Gemm", &["x", "w", "b"], &["y"], &[])];
    let weights = [weight("w", &[1, 1], |_| 1e-6), weight("b", &[1], |_| 100.0)];
    let bytes = file(13, &nodes, &weights, &[value("x", &[1, 1])], &[value("y", &[1, 1])]);
    let ranges = [("x", range(0.0, 1e-3)), ("y", range(0.0, 100.0))];
    let (draft, _) = applied(bytes, &OPTIONS, &ranges);
    let code = draft.constant("b_quantized").unwrap().to_vec::<i32>().unwrap()[0];
    let value = f64::from(code) * f64::from(floats_of(&draft, "b_scale")[0]);
    assert!((value - 100.0).abs() < 1e-3, "{value}");
}
