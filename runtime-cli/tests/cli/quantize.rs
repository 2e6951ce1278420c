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
fn layers_return_to_float_until_the_loss_is_within_its_limit() {
    let scratch = Scratch::new("quantize-budget");
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/detector");
    let (model, picture) = (format!("{examples}/parts.onnx"), format!("{examples}/pictures/belt_1.png"));
    let quantize = |limit: &str| {
        let words = ["quantize", &model, "-o", "q.onnx", "--scheme", "int8-static", "--calib", &picture];
        let ended = sardonyx(&scratch, &[&words[..], &["--max-drop", limit, "--json"]].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
        let document = ended.json();
        fits("quantize", &document);
        document
    };
    let count = |document: &serde_json::Value, list: &str| document[list].as_array().unwrap().len();
    let all = quantize("cosine=1");
    let lost = all["budget"]["drop"].as_f64().unwrap();
    assert_eq!(all["budget"]["all_quantized"], lost);
    assert_eq!(count(&all["budget"], "float_layers"), 0);
    let some = quantize(&format!("cosine={}", lost / 2.0));
    let floats = count(&some["budget"], "float_layers");
    assert!(some["budget"]["drop"].as_f64().unwrap() <= lost / 2.0 && floats > 0, "{}", some["budget"]);
    assert_eq!(count(&some, "layers") + floats, count(&all, "layers"));
    assert_eq!(some["budget"]["float_layers"][0], all["layers"][0]["node"], "worst first");
    // A limit that cannot be held leaves no file behind.
    let words = ["quantize", &model, "-o", "none.onnx", "--scheme", "int8-static", "--calib", &picture];
    let ended = sardonyx(&scratch, &[&words[..], &["--max-drop", "cosine=0"]].concat());
    assert_eq!((ended.code, scratch.0.join("none.onnx").exists()), (2, false), "{}", ended.err);
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
        &["int4-weights", "--max-drop", "top1=1%"],
        &["int4-weights", "--calib", "zeros", "--max-drop", "top1=1"],
        &["int4-weights", "--calib", "zeros", "--data", "."],
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
