//! `quantize`: every scheme gives a model that runs, with the loss in its document.

use super::schema::fits;
use super::{Scratch, model, sardonyx};

#[test]
fn every_scheme_gives_a_model_that_runs() {
    let scratch = Scratch::new("quantize");
    scratch.write("product.onnx", &model::product());
    let input = "random:seed=3,min=-1,max=1";
    let want = ["run", "product.onnx", "-i", input, "--save-outputs", "want.npz"];
    assert_eq!(sardonyx(&scratch, &want).code, 0);
    // The least signal to noise in dB that each scheme is held to on this model.
    let schemes: [(&str, f64, &[&str]); 9] = [
        ("int4-weights", 15.0, &["--block", "16"]),
        ("int4-weights", 15.0, &["--symmetric", "none"]),
        ("int4-weights", 15.0, &["--compensate"]),
        ("int8-weights", 38.0, &[]),
        ("f16", 55.0, &[]),
        ("int8-dynamic", 35.0, &["--per-channel", "false"]),
        ("int8-static", 32.0, &[]),
        ("int8-static", 30.0, &["--activations", "s8", "--per-channel=false"]),
        ("int8-static", 25.0, &["--calib-method", "percentile:99.9"]),
    ];
    for (scheme, least, options) in schemes {
        let words =
            ["quantize", "product.onnx", "-o", "q.onnx", "--scheme", scheme, "--calib", input, "--json"];
        let ended = sardonyx(&scratch, &[&words[..], options].concat());
        assert_eq!(ended.code, 0, "{scheme}: {}", ended.err);
        let document = ended.json();
        fits("quantize", &document);
        assert_eq!(document["layers"][0]["operator"], "MatMul");
        for loss in [&document["layers"][0]["sqnr_db"], &document["outputs"][0]["sqnr_db"]] {
            assert!(loss.as_f64().unwrap() > least, "{scheme} {options:?}: {document}");
        }
        let run = ["run", "q.onnx", "-i", input, "--expect", "want.npz", "--atol", "1", "--rtol", "0"];
        let ended = sardonyx(&scratch, &run);
        assert_eq!(ended.code, 0, "{scheme}: {}{}", ended.out, ended.err);
    }
}

#[test]
fn wrong_usage_is_said() {
    let scratch = Scratch::new("quantize-usage");
    scratch.write("product.onnx", &model::product());
    scratch.write("relu.onnx", &model::relu());
    let run = |model: &str, words: &[&str]| {
        sardonyx(&scratch, &[&["quantize", model, "-o", "q.onnx", "--scheme"], words].concat())
    };
    for words in [
        &["int8-static"][..],
        &["f16", "--block", "32"],
        &["f16", "--compensate", "--calib", "zeros"],
        &["int4-weights", "--compensate"],
        &["int4-weights", "--block", "24"],
        &["int4-weights", "--exclude", "nothing*"],
        &["int8-static", "--calib", "zeros", "--calib-method", "percentile:0"],
    ] {
        assert_eq!(run("product.onnx", words).code, 2, "{words:?}");
    }
    let none = run("relu.onnx", &["int4-weights"]);
    assert_eq!(none.code, 2, "{}", none.err);
    let all = run("product.onnx", &["int4-weights", "--exclude", "the Mat*"]);
    assert_eq!(all.code, 2, "nothing is left: {}", all.err);
    assert!(!scratch.0.join("q.onnx").exists());
}
