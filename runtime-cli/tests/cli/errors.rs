//! What goes wrong says what it is, in one form, with one exit code.

use super::model::{self, Dim};
use super::{Scratch, sardonyx};

/// Fails with this exit code and error code, in the form of the contract, and says each of these words.
fn fails(scratch: &Scratch, arguments: &[&str], exit: i32, code: &str, words: &[&str]) {
    let ended = sardonyx(scratch, arguments);
    assert_eq!(ended.code, exit, "{arguments:?}: {}", ended.err);
    let head = format!("error[{code}]: ");
    let error = ended.err.find(&head).unwrap_or_else(|| panic!("{arguments:?}: no {head} in {}", ended.err));
    for word in words {
        assert!(ended.err[error..].contains(word), "{arguments:?}: no {word:?} in {}", ended.err);
    }
    assert_eq!(ended.out, "", "{arguments:?}: results beside an error");
}

fn scratch(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    scratch.write("relu.onnx", &model::relu());
    scratch.write("add.onnx", &model::add());
    scratch
}

#[test]
fn files_that_are_not_there_or_no_models() {
    let scratch = scratch("files");
    fails(&scratch, &["run", "none.onnx"], 7, "SDX-0101", &["none.onnx"]);
    scratch.write("text.onnx", b"this is no model at all");
    let ended = sardonyx(&scratch, &["run", "text.onnx"]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(ended.err.starts_with("error[SDX-01"), "{}", ended.err);
    scratch.write("odd.onnx", &model::model("NoSuchOperator", &["x"], &[Dim::N(2)]));
    fails(&scratch, &["run", "odd.onnx"], 3, "SDX-0302", &["NoSuchOperator", "model   odd.onnx"]);
    fails(&scratch, &["inspect", "none.onnx"], 7, "SDX-0101", &[]);
    fails(&scratch, &["conformance", "--suite", "none"], 7, "SDX-0805", &["none"]);
}

#[test]
fn wrong_usage() {
    let scratch = scratch("usage");
    fails(&scratch, &["run", "relu.onnx", "--no-such-flag"], 2, "SDX-0801", &["--no-such-flag"]);
    fails(&scratch, &["walk"], 2, "SDX-0801", &["walk"]);
    fails(&scratch, &["run"], 2, "SDX-0801", &["MODEL"]);
    fails(&scratch, &["run", "relu.onnx", "--dim", "depth=2"], 2, "SDX-0801", &["batch"]);
    fails(&scratch, &["run", "relu.onnx", "--draw", "a.png"], 2, "SDX-0801", &["--task"]);
    fails(&scratch, &["run", "relu.onnx", "--task", "classify", "--nms", "1"], 2, "SDX-0801", &["--nms"]);
    fails(&scratch, &["run", "relu.onnx", "--atol", "1"], 2, "SDX-0801", &["--expect"]);
    fails(&scratch, &["run", "relu.onnx", "--outputs", "z"], 2, "SDX-0801", &["its outputs are y"]);
    fails(&scratch, &["run", "relu.onnx", "--pre", "unit"], 2, "SDX-0801", &["picture"]);
    fails(&scratch, &["bench", "relu.onnx", "--assert", "speed < 3"], 2, "SDX-0801", &["p95_ms"]);
    fails(&scratch, &["conformance", "--suite", "."], 2, "SDX-0801", &["no cases"]);
}

#[test]
fn inputs_that_do_not_fit() {
    let scratch = scratch("inputs");
    scratch.write("f64.bin", &[0; 24]);
    scratch.write("f32.bin", &[0; 12]);
    scratch.write("broken.png", b"\x89PNG\r\n\x1a\n and no more");
    scratch.write("broken.npy", b"\x93NUMPY\x01\x00\x10\x00{");
    scratch
        .write("picture.onnx", &model::model("Relu", &["x"], &[Dim::N(1), Dim::N(3), Dim::N(4), Dim::N(4)]));
    let run = |input: &'static str| ["run", "relu.onnx", "-i", input];
    fails(&scratch, &run("z=ones"), 4, "SDX-0502", &["\"z\"", "its inputs are \"x\""]);
    fails(&scratch, &run("f64.bin:f64:1x3"), 4, "SDX-0503", &["f32[batch,3]", "f64[1,3]"]);
    fails(&scratch, &run("f32.bin:f32:3x1"), 4, "SDX-0504", &["1 should be 3"]);
    fails(&scratch, &run("f32.bin:f32:3"), 4, "SDX-0504", &["2 dimensions"]);
    fails(&scratch, &run("f32.bin:f32:9"), 4, "SDX-0803", &["36 bytes"]);
    fails(&scratch, &run("broken.npy"), 4, "SDX-0803", &["broken.npy"]);
    fails(&scratch, &run("missing.npy"), 7, "SDX-0805", &["missing.npy"]);
    fails(&scratch, &run("[[1,2],[3]]"), 2, "SDX-0802", &["lengths"]);
    fails(&scratch, &["run", "picture.onnx", "-i", "broken.png"], 4, "SDX-0803", &["broken.png"]);
    fails(&scratch, &["run", "add.onnx", "-i", "ones"], 2, "SDX-0801", &["NAME=SOURCE"]);
    fails(&scratch, &["run", "add.onnx", "--shape", "a=3"], 4, "SDX-0504", &["3 should be 2"]);
}

#[test]
fn devices_that_are_not_there() {
    let scratch = scratch("devices");
    let arguments = ["run", "relu.onnx", "--device", "no such device"];
    fails(&scratch, &arguments, 5, "SDX-0601", &["no such device", "help    list the devices"]);
}
