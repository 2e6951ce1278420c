//! Damaged models: any change of a file gives an error or a model that runs, never a panic, a hang or memory without
//! bounds.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sardonyx::{Device, Error, Model, RunOptions, Session, Tensor};
use sardonyx_importer::onnx::{LoadLimits, decode_tensor};
use sardonyx_tests::{Random, shared};

/// Changed files in all.
const MUTATIONS: usize = 2000;
/// The largest file that is changed.
const MOST_BYTES: u64 = 4096;
/// The longest that one of them may take.
const LONGEST: Duration = Duration::from_secs(5);

/// Small official cases, in the order of their names.
fn cases(shared: &Path) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(shared.join("onnx-conformance/node")).unwrap();
    let small = |folder: &PathBuf| {
        let file = folder.join("model.onnx").metadata();
        file.is_ok_and(|file| file.len() <= MOST_BYTES)
    };
    let mut all: Vec<PathBuf> = folders.map(|entry| entry.unwrap().path()).filter(small).collect();
    all.sort();
    all
}

/// A file with a few bits or bytes changed, or its end cut off.
fn changed(mut file: Vec<u8>, random: &mut Random) -> Vec<u8> {
    match random.below(4) {
        0 => file.truncate(random.below(file.len())),
        1 => {
            let at = random.below(file.len());
            file[at] = [0, 0x7f, 0x80, 0xff][random.below(4)];
        }
        _ => {
            for _ in 0..=random.below(3) {
                let bit = random.below(8 * file.len());
                file[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
    file
}

/// Opens and runs a model on the inputs of its official case.
fn run(file: Vec<u8>, folder: &Path) -> Result<(), Error> {
    let model = Model::from_bytes(file)?;
    let session = Session::builder().device(Device::cpu()).threads(1).build(&model)?;
    let inputs: Vec<Tensor> = (0..)
        .map(|index| folder.join(format!("test_data_set_0/input_{index}.pb")))
        .map_while(|path| std::fs::read(path).ok())
        .map_while(|bytes| decode_tensor(bytes.into(), &LoadLimits::default()).ok())
        .map(|(_, tensor)| tensor)
        .collect();
    let named: Vec<(&str, &Tensor)> = model.inputs().iter().map(|spec| &*spec.name).zip(&inputs).collect();
    let options = RunOptions { deadline: Some(LONGEST), ..RunOptions::default() };
    session.run_with(named, &options).map(drop)
}

/// The most memory that this process has had, in KiB, where the system says so.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn changed_models_give_errors_or_run() {
    let Some(shared) = shared() else { return };
    let cases = cases(&shared);
    let mut random = Random(20);
    let (mut ran, mut refused) = (0, 0);
    let before = peak();
    for _ in 0..MUTATIONS {
        let folder = &cases[random.below(cases.len())];
        let file = changed(std::fs::read(folder.join("model.onnx")).unwrap(), &mut random);
        let start = Instant::now();
        let outcome = std::panic::catch_unwind(AssertUnwindSafe(|| run(file.clone(), folder)));
        let took = start.elapsed();
        let save = || {
            let path = std::env::temp_dir().join("sardonyx_hostile.onnx");
            std::fs::write(&path, &file).unwrap();
            format!("{} changed to {}", folder.display(), path.display())
        };
        match outcome {
            Err(_) => panic!("{}: panics", save()),
            Ok(Err(error)) if error.code().starts_with("SDX-09") => panic!("{}: {error}", save()),
            Ok(Ok(())) => ran += 1,
            Ok(Err(_)) => refused += 1,
        }
        assert!(took < LONGEST, "{} takes {took:?}", save());
    }
    println!("{ran} changed models ran, {refused} were refused");
    assert!(ran > MUTATIONS / 20 && refused > MUTATIONS / 4, "{ran} ran, {refused} were refused");
    if let (Some(before), Some(after)) = (before, peak()) {
        assert!(after - before < 2 << 20, "memory grew by {} KiB", after - before);
    }
}
