//! `eval`: accuracy from labels and folders, and what changed against another model.

use super::schema::fits;
use super::{Scratch, model, sardonyx};

/// A `TensorProto` of one row of three scores, the highest at `class`.
fn scores(class: usize) -> Vec<u8> {
    let mut row = [-1.0f32; 3];
    row[class] = 5.0;
    model::tensor(&[1, 3], &row)
}

#[test]
fn accuracy_and_changes() {
    let scratch = Scratch::new("eval");
    scratch.write("same.onnx", &model::relu());
    // The smallest score becomes the largest.
    let negated = [("Neg", &["x"][..], "a"), ("Relu", &["a"], "y")];
    scratch.write("negated.onnx", &model::chain(&negated, &[model::Dim::Name("batch"), model::Dim::N(3)]));
    for (file, class) in [("a.pb", 0), ("b.pb", 1), ("c.pb", 2), ("d.pb", 2)] {
        scratch.write(&format!("data/{file}"), &scores(class));
    }
    scratch.write("labels.txt", b"a.pb, 0\nb.pb, one\n\nc.pb 2\nd.pb, 0\n");
    scratch.write("names.txt", b"zero\none\ntwo\n");
    let words = ["eval", "same.onnx", "--data", "data", "--labels", "labels.txt", "--names", "names.txt"];
    let ended = sardonyx(&scratch, &[&words[..], &["--against", "negated.onnx", "--json"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    fits("eval", &document);
    let accuracy = &document["accuracy"];
    assert_eq!((&accuracy["right"], &accuracy["value"]), (&3.into(), &0.75.into()));
    let changed = accuracy["changed"].as_array().unwrap();
    assert!(
        changed.iter().any(|c| c["input"] == "a.pb" && c["answer"] == 0 && c["reference"] == 1),
        "{document}"
    );
    let text = sardonyx(&scratch, &words);
    assert!(text.out.contains("3 of 4 right"), "{}", text.out);
    for (file, class) in [("0/a.pb", 0), ("2/b.pb", 2), ("1/c.pb", 0)] {
        scratch.write(&format!("folders/{file}"), &scores(class));
    }
    let ended = sardonyx(&scratch, &["eval", "same.onnx", "--data", "folders", "--json"]);
    assert_eq!(ended.json()["accuracy"]["right"], 2, "{}", ended.err);
}

#[test]
fn outputs_against_another_model() {
    let scratch = Scratch::new("eval-outputs");
    scratch.write("product.onnx", &model::product());
    let set = model::tensor(&[2, 32], &[0.5; 64]);
    scratch.write("sets/test_data_set_0/input_0.pb", &set);
    let words = ["eval", "product.onnx", "--data", "sets", "--metric", "sqnr"];
    assert_eq!(sardonyx(&scratch, &words).code, 2, "against what?");
    let ended = sardonyx(&scratch, &[&words[..], &["--against", "product.onnx", "--json"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    fits("eval", &document);
    assert!(
        document["outputs"][0]["sqnr_db"].is_null()
            && document["outputs"][0]["cosine"].as_f64().unwrap() > 0.999
    );
    scratch.write("bad.txt", b"a.pb, none\n");
    scratch.write("relu.onnx", &model::relu());
    let bad = sardonyx(&scratch, &["eval", "relu.onnx", "--data", "sets", "--labels", "bad.txt"]);
    assert_eq!(bad.code, 4, "{}", bad.err);
    assert_eq!(sardonyx(&scratch, &["eval", "relu.onnx", "--data", "sets/test_data_set_0"]).code, 2);
}
