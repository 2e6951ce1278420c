//! `bench`, `profile`, `compare` and `doctor`: documents that fit their schemas, files, gates and exit codes.

use super::commands::write_sets;
use super::model::{self, Dim};
use super::schema::fits;
use super::{Scratch, sardonyx};

const NODES: [(&str, &[&str], &str); 4] =
    [("Sin", &["x"], "a"), ("Softmax", &["a"], "b"), ("MatMul", &["b", "x"], "c"), ("Tanh", &["c"], "y")];

fn square() -> Vec<u8> {
    model::chain(&NODES, &[Dim::N(33), Dim::N(33)])
}

#[test]
fn profile_accounts_for_the_whole_run() {
    let scratch = Scratch::new("profile");
    scratch.write("square.onnx", &square());
    let files = ["--trace", "t.json", "--flame", "f.svg", "--folded", "f.txt", "--roofline", "r.svg"];
    let more = ["--csv", "p.csv", "--ort-json", "o.json", "--runs", "5", "--json"];
    let ended = sardonyx(&scratch, &[&["profile", "square.onnx"], &files[..], &more].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    fits("profile", &document);
    let number = |name: &str| document[name].as_f64().unwrap();
    assert!((number("sum_ns") / number("total_ns") - 1.0).abs() < 0.03, "{document}");
    let rows = document["rows"].as_array().unwrap();
    assert!(
        rows.iter()
            .any(|row| row["name"] == "the MatMul" && row["flops"].as_u64().unwrap() >= 2 * 33 * 33 * 33)
    );
    let read = |name: &str| std::fs::read_to_string(scratch.0.join(name)).unwrap();
    let trace: serde_json::Value = serde_json::from_str(&read("t.json")).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    assert!(events.iter().all(|event| match event["ph"].as_str() {
        Some("M") => event["args"]["name"].is_string(),
        Some("X") => event["ts"].as_f64().unwrap() >= 0.0 && event["dur"].as_f64().unwrap() >= 0.0,
        _ => false,
    }));
    // Steps lie within the run that they belong to.
    let runs: Vec<(f64, f64)> = events
        .iter()
        .filter(|event| event["cat"] == "run")
        .map(|run| (run["ts"].as_f64().unwrap(), run["ts"].as_f64().unwrap() + run["dur"].as_f64().unwrap()))
        .collect();
    assert_eq!(runs.len(), 5);
    for event in events.iter().filter(|event| event["cat"] == "cpu") {
        let (from, to) = (event["ts"].as_f64().unwrap(), event["dur"].as_f64().unwrap());
        assert!(runs.iter().any(|run| run.0 <= from && from + to <= run.1 + 1.0), "{event}");
    }
    let ort: serde_json::Value = serde_json::from_str(&read("o.json")).unwrap();
    assert!(ort.as_array().unwrap().iter().any(|event| event["name"] == "the MatMul_kernel_time"));
    assert!(read("f.svg").starts_with("<svg") && read("r.svg").contains("GFLOP/s measured"));
    assert!(read("p.csv").starts_with("name,kernels,place,ns") && read("f.txt").contains("cpu;MatMul;"));
    let by = sardonyx(&scratch, &["profile", "square.onnx", "--runs", "2", "--by", "op", "--roofs", "off"]);
    assert!(by.out.contains("MatMul") && by.out.contains("cost    a plain run"), "{}", by.out);
}

#[test]
fn bench_in_processes_with_a_baseline() {
    let scratch = Scratch::new("bench-more");
    scratch.write("relu.onnx", &model::relu());
    let quick = ["--duration", "20ms", "--min-runs", "5", "--warmup", "2"];
    let first = ["bench", "relu.onnx", "--dim", "batch=4", "--repeat", "3", "--out", "base.json"];
    let ended = sardonyx(&scratch, &[&first[..], &quick, &["--json"]].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    fits("bench", &document);
    assert_eq!(document["processes"].as_array().unwrap().len(), 3);
    let files = ["--report", "r.html", "--junit", "j.xml", "--samples", "s.csv", "--regress", "p50=100000%"];
    let again =
        ["bench", "relu.onnx", "--dim", "batch=4", "--baseline", "base.json", "--repeat", "2", "--json"];
    let ended = sardonyx(&scratch, &[&again[..], &quick, &files].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    fits("bench", &document);
    assert!(document["baseline"]["p50_change"].as_array().unwrap().len() == 3, "{document}");
    let read = |name: &str| std::fs::read_to_string(scratch.0.join(name)).unwrap();
    let page = read("r.html");
    assert!(page.contains("<svg") && !page.contains("<script") && !page.contains("src="));
    assert!(read("j.xml").contains("tests=\"1\" failures=\"0\""));
    let other = ["--baseline", "base.json", "--end-to-end"];
    let ended =
        sardonyx(&scratch, &[&["bench", "relu.onnx", "--dim", "batch=4"][..], &quick, &other].concat());
    assert!(ended.code == 2 && ended.err.contains("--end-to-end"), "{}", ended.err);
    // A limit that a sound measurement of a fast model cannot be within fails or is undecided; never does it pass.
    let strict =
        ["bench", "relu.onnx", "--dim", "batch=200000", "--baseline", "base.json", "--regress", "p50=0%"];
    let ended = sardonyx(&scratch, &[&strict[..], &quick].concat());
    assert!([1, 8].contains(&ended.code), "{}", ended.err);
    let sweep = ["bench", "relu.onnx", "--batch", "1,3", "--format", "md"];
    let ended = sardonyx(&scratch, &[&sweep[..], &quick].concat());
    assert!(ended.out.contains("batch=1 |") && ended.out.contains("batch=3 |"), "{}", ended.out);
    let cold =
        sardonyx(&scratch, &["bench", "relu.onnx", "--dim", "batch=1", "--cold", "--repeat", "2", "--json"]);
    let cold = cold.json();
    assert_eq!(cold["latency_ns"]["count"], 2, "without the cache, and as often with it");
    assert!(cold["cached_ns"]["first"].as_u64().unwrap() > 0 && cold["cached_ns"]["shaders"] == 0);
    fits("bench", &cold);
    let off =
        ["bench", "relu.onnx", "--dim", "batch=1", "--cold", "--repeat", "1", "--cache", "off", "--json"];
    assert!(sardonyx(&scratch, &off).json()["cached_ns"].is_null());
    for pace in [["--rate", "200"], ["--concurrency", "2"]] {
        let ended =
            sardonyx(&scratch, &[&["bench", "relu.onnx", "--dim", "batch=1"][..], &quick, &pace].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
    }
}

#[test]
fn bench_measures_what_is_around_a_run() {
    let scratch = Scratch::new("end-to-end");
    let example = |name: &str| format!("{}/../examples/detector/{name}", env!("CARGO_MANIFEST_DIR"));
    let (net, picture, labels) =
        (example("parts.onnx"), example("pictures/belt_1.png"), example("labels.txt"));
    let bench = ["bench", &net, "-i", &picture, "--duration", "50ms", "--min-runs", "5", "--warmup", "2"];
    let task = ["--task", "detect", "--labels", &labels];
    let gates = ["--assert", "pre_ms > 0", "--assert", "post_ms > 0", "--assert", "run_ms > 0"];
    let files = ["--samples", "s.csv", "--report", "r.html", "--json", "--end-to-end"];
    let ended = sardonyx(&scratch, &[&bench[..], &task, &gates, &files].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    fits("bench", &document);
    let part = |name: &str| document["end_to_end_ns"][name]["mean"].as_f64().unwrap();
    let mean = document["latency_ns"]["mean"].as_f64().unwrap();
    let sum = part("pre") + part("run") + part("post");
    assert!((sum / mean - 1.0).abs() < 0.01, "the parts make up the whole: {document}");
    let samples = std::fs::read_to_string(scratch.0.join("s.csv")).unwrap();
    let (heading, rows) = samples.split_once('\n').unwrap();
    assert!(heading.ends_with(",host_ns,pre_ns,post_ns"), "{heading}");
    assert!(rows.lines().all(|row| row.split(',').count() == heading.split(',').count()));
    let page = std::fs::read_to_string(scratch.0.join("r.html")).unwrap();
    assert!(page.contains(">pre  ") && page.contains(">post  "));
    for pace in [["--rate", "100"], ["--concurrency", "2"], ["--repeat", "2"]] {
        let ended = sardonyx(&scratch, &[&bench[..], &task, &pace, &["--end-to-end"]].concat());
        assert_eq!(ended.code, 0, "{}", ended.err);
        let rows = ["pre", "run", "post"];
        assert!(rows.iter().all(|row| ended.out.contains(&format!("\n{row:<9} p50 "))), "{}", ended.out);
    }
    let alone = sardonyx(&scratch, &[&bench[..], &["--json"]].concat());
    let document = alone.json();
    fits("bench", &document);
    assert!(document["end_to_end_ns"].is_null() && document["settings"]["end_to_end"] == false);
    assert_eq!(sardonyx(&scratch, &[&bench[..], &task].concat()).code, 2, "a task that nothing measures");
    let drawn = ["--end-to-end", "--draw", "d.png"];
    assert_eq!(sardonyx(&scratch, &[&bench[..], &task, &drawn].concat()).code, 2);
    let wrong = ["--end-to-end", "--assert", "pre_ms < 0"];
    assert_eq!(sardonyx(&scratch, &[&bench[..], &wrong].concat()).code, 1);
}

#[test]
fn compare_finds_the_first_wrong_step_and_a_small_model() {
    let scratch = Scratch::new("compare");
    let size = [Dim::N(33), Dim::N(33)];
    scratch.write("square.onnx", &square());
    let mut other = NODES;
    other[1].0 = "LogSoftmax";
    scratch.write("other.onnx", &model::chain(&other, &size));
    let same =
        sardonyx(&scratch, &["compare", "square.onnx", "--layers", "first", "--json", "--samples", "2"]);
    assert_eq!(same.code, 0, "{}", same.err);
    let document = same.json();
    fits("compare", &document);
    assert_eq!(document["samples"].as_array().unwrap().len(), 2);
    assert!(document["samples"][0]["layers"]["first_divergence"].is_null());
    let words = ["compare", "square.onnx", "--against", "other.onnx", "--layers", "first", "--isolate"];
    let more = ["--reduce", "small.onnx", "--save-npz", "all.npz", "--json"];
    let ended = sardonyx(&scratch, &[&words[..], &more].concat());
    assert_eq!(ended.code, 1, "{}", ended.err);
    let document = ended.json();
    fits("compare", &document);
    let layers = &document["samples"][0]["layers"];
    assert_eq!(layers["first_divergence"]["operator"], "Softmax", "{layers}");
    assert_eq!(layers["first_divergence"]["isolated"]["pass"], false, "{layers}");
    assert_eq!(layers["reduced"]["nodes"], 1, "{layers}");
    let small = sardonyx(&scratch, &["run", "small.onnx", "-i", "small.npz"]);
    assert_eq!(small.code, 0, "{}", small.err);
    let saved = sardonyx(&scratch, &["run", "square.onnx", "-i", "ones", "--save-outputs", "o.npz"]);
    assert_eq!(saved.code, 0, "{}", saved.err);
    let against = sardonyx(&scratch, &["compare", "square.onnx", "-i", "ones", "--against", "o.npz"]);
    assert_eq!(against.code, 0, "{}{}", against.out, against.err);
    let names = sardonyx(&scratch, &["compare", "square.onnx", "--atol", "z:1"]);
    assert_eq!(names.code, 2, "{}", names.err);
}

#[test]
fn other_documents_fit_their_schemas() {
    let scratch = Scratch::new("documents");
    scratch.write("relu.onnx", &model::relu());
    let run = sardonyx(&scratch, &["run", "relu.onnx", "--dim", "batch=2", "--json"]);
    fits("run", &run.json());
    fits("check", &sardonyx(&scratch, &["check", "relu.onnx", "--device", "cpu", "--json"]).json());
    fits("devices", &sardonyx(&scratch, &["devices", "--json"]).json());
    let doctor = sardonyx(&scratch, &["doctor", "--bundle", "b.zip", "--json"]);
    let document = doctor.json();
    fits("doctor", &document);
    let line = |document: &serde_json::Value| {
        let checks = document["checks"].as_array().unwrap();
        checks.iter().find(|check| check["what"] == "cache is writable").unwrap().clone()
    };
    assert_eq!(line(&document)["state"], "ok");
    scratch.write("file", b"a file is no folder");
    let doctor = sardonyx(&scratch, &["doctor", "--quick", "--cache", "file/below", "--json"]);
    assert_eq!(line(&doctor.json())["state"], "warn");
    assert!(std::fs::read(scratch.0.join("b.zip")).unwrap().starts_with(b"PK"));
    let man = sardonyx(&scratch, &["man", "pages"]);
    assert_eq!(man.code, 0, "{}", man.err);
    let page = std::fs::read_to_string(scratch.0.join("pages/sardonyx-bench.1")).unwrap();
    assert!(page.starts_with(".TH SARDONYX-BENCH 1\n.SH NAME\n"), "{page}");
    let limited = ["run", "relu.onnx", "--dim", "batch=2", "--limits", "commodore"];
    assert_eq!(sardonyx(&scratch, &limited).code, 2);
}

#[test]
fn the_portability_report_tells_what_works_and_why_not() {
    let scratch = Scratch::new("portability");
    scratch.write("relu.onnx", &model::relu());
    scratch.write("odd.onnx", &model::model("NoSuchOperator", &["x"], &[Dim::N(2)]));
    for (name, op) in [("test_add", "Add"), ("test_odd", "NoSuchOperator")] {
        scratch.write(&format!("suite/{name}/model.onnx"), &model::model(op, &["a", "b"], &[Dim::N(2)]));
        write_sets(&scratch, &format!("suite/{name}"), &[1.5, 2.5]);
    }
    let mut words = vec!["doctor", "--quick", "--suite", "suite", "--models", "relu.onnx,odd.onnx", "--f16"];
    words.extend(["--narrowed", "webgpu-default,mali", "--duration", "1ms", "--json", "--report"]);
    let ended = sardonyx(&scratch, &[&words[..], &["r.html"]].concat());
    let document = ended.json();
    fits("doctor", &document);
    let report = &document["report"];
    let listed = sardonyx(&scratch, &["devices", "--json"]).json();
    let listed = listed["devices"].as_array().unwrap();
    let with_f16 =
        listed.iter().filter(|one| one["features"].as_array().unwrap().contains(&"f16".into())).count();
    let narrowed = if listed.len() > 1 { 2 } else { 0 };
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), listed.len() + with_f16 + narrowed, "{}", ended.err);
    assert!(report["devices"][0]["roofs"]["bytes_per_second"].as_f64().unwrap() > 0.0);
    for row in rows {
        let states: Vec<_> =
            row["cells"].as_array().unwrap()[1..].iter().map(|cell| &cell["state"]).collect();
        assert_eq!(states, ["warn", "ok", "fail"], "{row}");
        let reason = row["cells"][1]["reasons"][0]["reason"].as_str().unwrap();
        assert!(reason.contains("NoSuchOperator"), "{reason}");
    }
    let page = std::fs::read_to_string(scratch.0.join("r.html")).unwrap();
    assert!(page.contains("<h2>What works</h2>") && page.contains("NoSuchOperator"), "{page}");
    assert_eq!(sardonyx(&scratch, &["doctor", "--quick", "--report", "r.pdf"]).code, 2);
}

#[test]
fn bench_kernel_verifies_what_it_measures() {
    let scratch = Scratch::new("bench-kernel");
    let problems = ["-p", "matmul:17x33x65", "-p", "conv:5x3x3x9", "-p", "softmax:3x127"];
    let short = ["--device", "cpu", "--duration", "1ms", "--json"];
    let ended = sardonyx(&scratch, &[&["bench-kernel"], &problems[..], &short].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    fits("bench-kernel", &document);
    let rows = document["kernels"].as_array().unwrap();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["flops"], 17 * 33 * (2 * 65 + 1));
    assert!(rows.iter().all(|row| row["verified"] == true && row["runs"].as_u64().unwrap() >= 3));
    assert_eq!(sardonyx(&scratch, &["bench-kernel", "no_such_*", "--device", "cpu"]).code, 2);
    assert_eq!(sardonyx(&scratch, &["bench-kernel", "-p", "matmul:0x1x1"]).code, 2);
}
