//! What the commands print and write.

use super::model::{self, Dim};
use super::schema::fits;
use super::{Scratch, sardonyx};

#[test]
fn run_prints_a_document_and_saves_outputs() {
    let scratch = Scratch::new("run");
    scratch.write("relu.onnx", &model::relu());
    let ended = sardonyx(
        &scratch,
        &["run", "relu.onnx", "-i", "[[-1,2,-3],[4,-5,6]]", "--json", "--save-outputs", "o.npz", "--finite"],
    );
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    assert_eq!(document["schema"], "sardonyx.run/1");
    assert_eq!(document["device"]["id"], "cpu");
    assert_eq!(document["outputs"][0]["dims"], serde_json::json!([2, 3]));
    assert_eq!(document["outputs"][0]["stats"]["max"], 6.0);
    assert_eq!(document["outputs"][0]["stats"]["min"], 0.0);
    assert!(document["model"]["digest"].as_str().unwrap().starts_with("sha256:"));
    assert!(document["run_ns"]["total"].as_u64().unwrap() > 0);
    // The saved outputs are what another run must give.
    let same = ["run", "relu.onnx", "-i", "[[-1,2,-3],[4,-5,6]]", "--expect", "o.npz"];
    assert_eq!(sardonyx(&scratch, &same).code, 0);
    let other = ["run", "relu.onnx", "-i", "[[-1,2,-3],[4,-5,6.1]]", "--expect", "o.npz"];
    let ended = sardonyx(&scratch, &other);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.out.contains("FAIL") && ended.out.contains("1 of 6 outside, first at 5"), "{}", ended.out);
    let loose = [&other[..], &["--rtol", "0.1"]].concat();
    assert_eq!(sardonyx(&scratch, &loose).code, 0);
}

#[test]
fn a_saved_plan_runs_or_is_refused() {
    let scratch = Scratch::new("plan");
    scratch.write("relu.onnx", &model::relu());
    let save = ["inspect", "relu.onnx", "--device", "cpu", "--dim", "batch=3", "--save-plan", "plan.json"];
    let ended = sardonyx(&scratch, &save);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("plan of 1 steps written to plan.json"), "{}", ended.err);
    let plan = std::fs::read_to_string(scratch.0.join("plan.json")).unwrap();
    let document: serde_json::Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(document["schema"], "sardonyx.plan/1");
    assert_eq!(document["steps"][0]["op"], "Relu");
    let with =
        |plan: &'static str| ["run", "relu.onnx", "--device", "cpu", "--dim", "batch=3", "--plan", plan];
    let ran = sardonyx(&scratch, &[&with("plan.json")[..], &["--json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(ran.json()["plan"]["digest"], document["plan"]);
    for command in ["bench", "profile", "explain", "inspect"] {
        let ended = sardonyx(&scratch, &[&[command], &with("plan.json")[1..], &["--quiet"]].concat());
        assert_eq!(ended.code, 0, "{command}: {}", ended.err);
    }
    scratch.write("other.json", plan.replace("\"Relu\"", "\"Tanh\"").as_bytes());
    scratch.write("text.json", b"plan");
    for (file, code) in [("other.json", 2), ("text.json", 2), ("absent.json", 7)] {
        let ended = sardonyx(&scratch, &with(file));
        assert_eq!(ended.code, code, "{file}: {}", ended.err);
        assert!(code == 7 || ended.err.contains("error[SDX-0511]"), "{file}: {}", ended.err);
    }
    let halved = sardonyx(&scratch, &[&with("plan.json")[..], &["--precision", "f16"]].concat());
    assert_eq!(halved.code, 2);
    assert!(halved.err.contains("a plan for --precision model"), "{}", halved.err);
}

#[test]
fn made_up_inputs_are_announced() {
    let scratch = Scratch::new("made-up");
    scratch.write("relu.onnx", &model::relu());
    let ended = sardonyx(&scratch, &["run", "relu.onnx", "--json", "--out", "copy.json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    assert!(ended.err.contains("warning: dimension batch of input \"x\" is not given: 1"), "{}", ended.err);
    assert!(ended.err.contains("made up as random:seed=1,min=0,max=1, f32[1,3]"), "{}", ended.err);
    let document = ended.json();
    assert_eq!(document["warnings"].as_array().unwrap().len(), 2);
    assert_eq!(document["inputs"][0]["made_up"], true);
    assert_eq!(std::fs::read_to_string(scratch.0.join("copy.json")).unwrap(), ended.out);
    let sized = sardonyx(&scratch, &["run", "relu.onnx", "--dim", "batch=5", "-i", "ones", "--print", "3"]);
    assert!(sized.err.is_empty(), "{}", sized.err);
    assert!(sized.out.contains("y f32[5,3]") && sized.out.contains("\n        1 1 1\n"), "{}", sized.out);
    let quiet = sardonyx(&scratch, &["run", "relu.onnx", "-q"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (0, ""));
}

/// Two test data sets of a sum of two inputs.
pub fn write_sets(scratch: &Scratch, folder: &str, wanted: &[f32]) {
    for k in 0..2 {
        scratch.write(&format!("{folder}/test_data_set_{k}/input_0.pb"), &model::tensor(&[2], &[1.0, 2.0]));
        scratch.write(&format!("{folder}/test_data_set_{k}/input_1.pb"), &model::tensor(&[2], &[0.5, 0.5]));
        scratch.write(&format!("{folder}/test_data_set_{k}/output_0.pb"), &model::tensor(&[2], wanted));
    }
}

#[test]
fn test_sets_bring_inputs_and_expectations() {
    let scratch = Scratch::new("sets");
    scratch.write("add.onnx", &model::add());
    write_sets(&scratch, "good", &[1.5, 2.5]);
    write_sets(&scratch, "bad", &[1.5, 2.75]);
    let ended = sardonyx(&scratch, &["run", "add.onnx", "-i", "good", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let samples = ended.json()["samples"].clone();
    assert_eq!(samples.as_array().unwrap().len(), 2);
    assert_eq!(samples[1]["label"], "test_data_set_1");
    assert_eq!(samples[1]["expect"][0]["pass"], true);
    assert_eq!(sardonyx(&scratch, &["run", "add.onnx", "-i", "bad"]).code, 1);
    assert_eq!(sardonyx(&scratch, &["run", "add.onnx", "--expect", "good"]).code, 0);
    let saved = sardonyx(&scratch, &["run", "add.onnx", "-i", "good", "--save-outputs", "saved/"]);
    assert_eq!(saved.code, 0, "{}", saved.err);
    let written = std::fs::read(scratch.0.join("saved/test_data_set_1/output_0.pb")).unwrap();
    assert!(written.ends_with(&[0, 0, 192, 63, 0, 0, 32, 64]), "1.5 and 2.5");
}

#[test]
fn conformance_tells_pass_fail_and_skip() {
    let scratch = Scratch::new("conformance");
    for (name, op, wanted) in [
        ("test_add", "Add", [1.5, 2.5]),
        ("test_add_off", "Add", [1.5, 2.6]),
        ("test_odd", "NoSuchOperator", [0.0, 0.0]),
    ] {
        scratch.write(&format!("suite/{name}/model.onnx"), &model::model(op, &["a", "b"], &[Dim::N(2)]));
        write_sets(&scratch, &format!("suite/{name}"), &wanted);
    }
    let arguments =
        ["conformance", "--suite", "suite", "--jobs", "2", "--junit", "j.xml", "--out", "known.json"];
    let ended = sardonyx(&scratch, &arguments);
    assert_eq!(ended.code, 1, "{}", ended.err);
    let lines: Vec<&str> = ended.out.lines().collect();
    assert_eq!(lines[0], "PASS test_add");
    assert!(lines[1].starts_with("FAIL test_add_off y: max abs 0.1"), "{}", lines[1]);
    assert!(lines[2].starts_with("SKIP test_odd SDX-0302"), "{}", lines[2]);
    assert_eq!(lines.last(), Some(&"1 passed, 1 failed, 1 skipped"));
    assert!(
        std::fs::read_to_string(scratch.0.join("j.xml")).unwrap().contains("failures=\"1\" skipped=\"1\"")
    );
    // The same again is no change for the worse; a case that passed before and fails now is.
    let again = ["conformance", "--suite", "suite", "--expect", "known.json"];
    assert_eq!(sardonyx(&scratch, &again).code, 0);
    scratch.write("better.json", br#"{"test_add_off": "pass"}"#);
    let worse = sardonyx(&scratch, &["conformance", "--suite", "suite", "--expect", "better.json"]);
    assert_eq!(worse.code, 1);
    assert!(worse.out.contains("WORSE test_add_off: pass -> fail"), "{}", worse.out);
    let filtered = sardonyx(&scratch, &["conformance", "--suite", "suite", "--filter", "ADD*", "--json"]);
    assert_eq!((filtered.code, filtered.json()["cases"].as_array().unwrap().len()), (1, 2));
}

#[test]
fn bench_measures_and_gates() {
    let scratch = Scratch::new("bench");
    scratch.write("add.onnx", &model::add());
    let arguments = ["bench", "add.onnx", "--duration", "20ms", "--min-runs", "7", "--warmup", "3", "--json"];
    let gates = ["--assert", "p50_ms < 10000", "--samples", "s.csv", "--include", "device=cpu"];
    let ended = sardonyx(&scratch, &[&arguments[..], &gates].concat());
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    let latency = &document["latency_ns"];
    let at = |name: &str| latency[name].as_u64().unwrap();
    assert!(at("count") >= 7 && at("min") <= at("p50") && at("p50") <= at("p99") && at("p99") <= at("max"));
    assert_eq!(document["warmup_runs"], 3);
    assert_eq!(document["gates"][0]["pass"], true);
    assert_eq!(document["included"].as_array().unwrap().len(), 1);
    assert!(document["cold_ns"]["first"].as_u64().unwrap() > 0);
    let rows = std::fs::read_to_string(scratch.0.join("s.csv")).unwrap().lines().count() as u64;
    let included = document["included"][0]["latency_ns"]["count"].as_u64().unwrap();
    assert_eq!(rows, 1 + at("count") + included);
    let turns =
        ["bench", "add.onnx", "--include", "model=add.onnx", "--duration", "1s", "--regress", "p50=900%"];
    let ended = sardonyx(&scratch, &[&turns[..], &["--json"]].concat());
    assert_eq!(ended.code, 0, "{}{}", ended.out, ended.err);
    let included = &ended.json()["included"][0];
    assert_eq!(
        (&included["include"], &included["gates"][0]["pass"]),
        (&"model=add.onnx".into(), &true.into())
    );
    let [change, least, most] =
        [0, 1, 2].map(|at| included["against_first"]["p50_change"][at].as_f64().unwrap());
    assert!(least <= change && change <= most, "{included}");
    let impossible = ["bench", "add.onnx", "--duration", "5ms", "--min-runs", "1", "--assert", "p50_ms <= 0"];
    let ended = sardonyx(&scratch, &impossible);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.out.contains("FAIL  p50_ms <= 0"), "{}", ended.out);
}

#[test]
fn inspect_shows_models_that_cannot_run() {
    let scratch = Scratch::new("inspect");
    scratch.write("odd.onnx", &model::model("NoSuchOperator", &["x"], &[Dim::Name("n"), Dim::N(2)]));
    let ended = sardonyx(&scratch, &["inspect", "odd.onnx", "--show", "io,ops,nodes"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    for words in ["f32[n,2]", "NoSuchOperator 1", "x -> y"] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    scratch.write("relu.onnx", &model::relu());
    let ended =
        sardonyx(&scratch, &["inspect", "relu.onnx", "--show", "plan,memory", "--dim", "batch=4", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let document = ended.json();
    assert_eq!(document["plan"]["step_list"][0]["operator"], "Relu");
    assert_eq!(document["plan"]["operators"], 1);
    let dot = sardonyx(&scratch, &["inspect", "relu.onnx", "--dot", "-"]);
    assert!(dot.out.starts_with("digraph model {") && dot.out.contains("n0 -> o0;"), "{}", dot.out);
}

#[test]
fn explain_says_what_the_plan_did() {
    let scratch = Scratch::new("explain");
    scratch.write("relu.onnx", &model::relu());
    let arguments = ["explain", "relu.onnx", "--why", "--dim", "batch=4", "--fallback", "deny"];
    let ended = sardonyx(&scratch, &arguments);
    assert_eq!(ended.code, 0, "{}", ended.err);
    for words in ["relu.onnx  1 operators in 1 steps, 0 dispatches", "(on the CPU)", "alive at once"] {
        assert!(ended.out.contains(words), "{words}: {}", ended.out);
    }
    let document = sardonyx(&scratch, &[&arguments[..], &["--json"]].concat()).json();
    fits("explain", &document);
    assert_eq!(document["plan"]["operators"], 1);
    // Twelve floats, in whole cache lines.
    assert_eq!(document["memory_bytes"]["host_live"], 48);
    assert_eq!(document["memory_bytes"]["host_activations"], 64);
}

#[test]
fn check_says_what_runs_where() {
    let scratch = Scratch::new("check");
    scratch.write("relu.onnx", &model::relu());
    scratch.write("odd.onnx", &model::model("NoSuchOperator", &["x"], &[Dim::N(2)]));
    let ended =
        sardonyx(&scratch, &["check", "relu.onnx", "--device", "cpu", "--min-coverage", "1", "--json"]);
    assert_eq!(ended.code, 0, "{}", ended.err);
    let cell = ended.json()["models"][0]["devices"][0].clone();
    assert_eq!(
        (&cell["device"], &cell["on_device"], &cell["operators"]),
        (&"cpu".into(), &1.into(), &1.into())
    );
    scratch.write("text.onnx", b"this is no model at all");
    let both = ["check", "relu.onnx", "odd.onnx", "text.onnx", "--device", "cpu", "--matrix", "m.md"];
    let ended = sardonyx(&scratch, &both);
    assert_eq!(ended.code, 1, "{}", ended.err);
    assert!(ended.out.contains("there is no operator"), "{}", ended.out);
    let matrix = std::fs::read_to_string(scratch.0.join("m.md")).unwrap();
    assert!(
        matrix.contains("| relu.onnx | 1/1 |\n| odd.onnx | no: NoSuchOperator |\n| text.onnx | no: "),
        "{matrix}"
    );
}

#[test]
fn devices_and_completions() {
    let scratch = Scratch::new("lists");
    let devices = sardonyx(&scratch, &["devices", "--json"]).json();
    assert_eq!(devices["schema"], "sardonyx.devices/1");
    assert!(devices["devices"].as_array().unwrap().iter().any(|device| device["id"] == "cpu"));
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = sardonyx(&scratch, &["completions", shell]);
        assert!(script.code == 0 && script.out.contains("conformance"), "{shell}");
    }
    assert_eq!(
        sardonyx(&scratch, &["--version"]).out.trim(),
        concat!("sardonyx ", env!("CARGO_PKG_VERSION"))
    );
    assert!(sardonyx(&scratch, &["run", "--help"]).out.lines().all(|line| line.chars().count() <= 100));
}

/// A reader that goes away after a line ends the command quietly.
#[test]
#[cfg(unix)]
fn a_closed_pipe_is_no_error() {
    use std::io::Read;
    use std::process::{Command, Stdio};
    let scratch = Scratch::new("pipe");
    scratch.write("relu.onnx", &model::relu());
    let mut child = Command::new(env!("CARGO_BIN_EXE_sardonyx"))
        .args([
            "run",
            "relu.onnx",
            "-i",
            "zeros",
            "--print",
            "1000000",
            "--dim",
            "batch=300000",
            "--device",
            "cpu",
        ])
        .current_dir(&scratch.0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut err = String::new();
    child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!((child.wait().unwrap().code(), err.as_str()), (Some(0), ""));
}

#[test]
fn a_log_says_what_the_engine_does() {
    let scratch = Scratch::new("log");
    scratch.write("relu.onnx", &model::relu());
    let run = ["run", "relu.onnx", "--dim", "batch=2", "-i", "ones"];
    assert_eq!(sardonyx(&scratch, &run).err, "");
    let info = sardonyx(&scratch, &[&run[..], &["--log", "info"]].concat());
    let has =
        |text: &str, span: &str| text.lines().any(|line| line.contains(span) && line.contains("time.busy="));
    for span in
        ["load{from=relu.onnx bytes=", "plan{device=cpu model=sha256:", "run{device=cpu model=sha256:"]
    {
        assert!(has(&info.err, span), "{span}: {}", info.err);
    }
    assert!(!info.err.contains("stage{") && info.code == 0);
    let debug = sardonyx(&scratch, &[&run[..], &["--log", "sardonyx=debug"]].concat());
    assert!(has(&debug.err, "stage{name=\"cpu steps\"}"), "{}", debug.err);
    assert_eq!(sardonyx(&scratch, &[&run[..], &["--log", "a=b=c"]].concat()).code, 2);
}
