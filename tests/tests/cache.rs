//! Compiled kernels on disk: found by the next process, never believed when damaged, never a reason to fail.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use sardonyx::wgpu;
use sardonyx::{About, CacheUse, Device, Event, Observer, Select, Session, Tensor};
use sardonyx_tests::onnx::{model, node};
use sardonyx_tests::{gpu_turn, gpus};

/// What this process is to do when it is a child: the folder, and the device's id.
const FOLDER: &str = "SARDONYX_CACHE_TEST_FOLDER";
const DEVICE: &str = "SARDONYX_CACHE_TEST_DEVICE";

/// What a session told.
#[derive(Default)]
struct Heard {
    uses: Mutex<Vec<CacheUse>>,
    unwritable: Mutex<Vec<String>>,
}

impl Observer for Heard {
    fn event(&self, _: &About<'_>, event: &Event<'_>) {
        match event {
            Event::Compiled { cache, kernels, .. } => {
                assert!(*kernels > 0);
                self.uses.lock().unwrap().push(*cache);
            }
            Event::CacheUnwritable { folder, error } => {
                self.unwritable.lock().unwrap().push(format!("{}: {error}", folder.display()));
            }
            _ => {}
        }
    }
}

/// What came of a session on a device that has compiled nothing so far.
#[derive(Debug, PartialEq)]
struct Started {
    found: CacheUse,
    unwritable: usize,
    results: Vec<f32>,
}

fn start_on(device: Device, folder: Option<&Path>) -> Started {
    let nodes = [node("MatMul", &["x", "w"], "a"), node("Softmax", &["a"], "b"), node("Sin", &["b"], "y")];
    let model = model(&nodes, &[16, 16], &["x", "w"], &["y"]);
    let heard = Arc::new(Heard::default());
    let observer: Arc<dyn Observer> = Arc::<Heard>::clone(&heard);
    let builder = Session::builder().device(device).threads(1).observer(observer);
    let builder = folder.map_or(builder.clone(), |folder| builder.cache(folder));
    let session = builder.build(&model).unwrap();
    let input = Tensor::from_vec(&[16, 16], (0..256).map(|i| (i as f32 * 0.37).sin()).collect()).unwrap();
    let outputs = session.run([("x", &input), ("w", &input)]).unwrap();
    let uses = heard.uses.lock().unwrap().clone();
    assert_eq!(uses.len(), 1, "{uses:?}");
    let unwritable = heard.unwritable.lock().unwrap().len();
    Started { found: uses[0], unwritable, results: outputs["y"].to_vec::<f32>().unwrap() }
}

fn start(id: &str, folder: Option<&Path>) -> Started {
    start_on(Device::open(Select::Name(id)).unwrap(), folder)
}

fn keeps(device: &Device) -> bool {
    let has = device.wgpu().unwrap().0.features().contains(wgpu::Features::PIPELINE_CACHE);
    if !has {
        eprintln!(
            "*** {} gives no compiled kernels: only that it says so is tested there. ***",
            device.info().id
        );
    }
    has
}

fn scratch(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("sardonyx-cache-{name}-{}", std::process::id()));
    // It is there when an earlier process of this number was killed.
    let _ = fs::remove_dir_all(&folder);
    folder
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

#[test]
fn the_next_start_finds_what_this_one_compiled_unless_it_is_damaged() {
    let _turn = gpu_turn();
    for device in gpus() {
        let id = &device.info().id;
        let plain = start(id, None);
        assert_eq!((plain.found, plain.unwritable), (CacheUse::Off, 0));
        let folder = scratch("damaged");
        let started = |found| Started { found, unwritable: 0, results: plain.results.clone() };
        if !keeps(device) {
            assert_eq!(start(id, Some(&folder)), started(CacheUse::Unsupported), "{id}");
            assert!(!folder.exists());
            continue;
        }
        assert_eq!(start(id, Some(&folder)), started(CacheUse::Miss), "{id}");
        assert_eq!(start(id, Some(&folder)), started(CacheUse::Hit), "{id}");
        let file = only_file(&folder);
        let sound = fs::read(&file).unwrap();
        assert_eq!(start(id, Some(&folder)), started(CacheUse::Hit), "{id}");
        assert_eq!(fs::read(&file).unwrap(), sound, "what is found is not written again");
        let mut damages: Vec<Vec<u8>> =
            vec![Vec::new(), sound[..sound.len() / 2].to_vec(), [&sound[..], &sound].concat()];
        // The version, the key, the length, the digest, and what the driver gave.
        damages.extend([8, 20, 44, 51, 60, 84, sound.len() - 1].map(|at| {
            let mut flipped = sound.clone();
            flipped[at] ^= 0x80;
            flipped
        }));
        for (case, damage) in damages.into_iter().enumerate() {
            fs::write(&file, damage).unwrap();
            assert_eq!(start(id, Some(&folder)), started(CacheUse::Refused), "{id}, damage {case}");
            assert_eq!(only_file(&folder), file, "it is replaced, and nothing is left behind");
        }
        assert_eq!(start(id, Some(&folder)), started(CacheUse::Hit), "{id}");
        fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_folder_that_cannot_be_written_is_told_and_nothing_else() {
    let _turn = gpu_turn();
    for device in gpus().iter().filter(|device| keeps(device)) {
        let file = scratch("file");
        fs::write(&file, b"a file is no folder").unwrap();
        let started = start(&device.info().id, Some(&file.join("below")));
        assert_eq!(started.unwritable, 1);
        assert_eq!(started.results, start(&device.info().id, None).results);
        assert_eq!(fs::read(&file).unwrap(), b"a file is no folder");
        fs::remove_file(file).unwrap();
    }
}

#[test]
fn a_host_decides_whether_its_device_gives_compiled_kernels() {
    let _turn = gpu_turn();
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle_from_env());
    let adapters = pollster::block_on(instance.enumerate_adapters(wgpu::Backends::VULKAN));
    if adapters.is_empty() {
        eprintln!("*** NO VULKAN ADAPTER: a host's device was not tested. ***");
    }
    let folder = scratch("host");
    for adapter in &adapters {
        let own = |without: wgpu::Features| {
            let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
                required_features: Device::required_features(adapter) - without,
                required_limits: Device::required_limits(adapter),
                ..Default::default()
            }))
            .unwrap();
            start_on(Device::from_wgpu(adapter, device, queue), Some(&folder)).found
        };
        assert_eq!(own(wgpu::Features::PIPELINE_CACHE), CacheUse::Unsupported);
        if Device::required_features(adapter).contains(wgpu::Features::PIPELINE_CACHE) {
            assert_eq!(own(wgpu::Features::empty()), CacheUse::Miss);
            assert_eq!(own(wgpu::Features::empty()), CacheUse::Hit);
        }
    }
    // Without an adapter there is none.
    let _ = fs::remove_dir_all(folder);
}

#[test]
fn processes_share_a_folder() {
    let _turn = gpu_turn();
    let Some(device) = gpus().iter().find(|device| keeps(device)) else { return };
    let id = &device.info().id;
    let folder = scratch("shared");
    let child = || {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process_among_others", "--ignored"])
            .env(FOLDER, &folder)
            .env(DEVICE, id)
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut children: Vec<_> = (0..4).map(|_| child()).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    only_file(&folder);
    let started = start(id, Some(&folder));
    assert_eq!((started.found, started.unwritable), (CacheUse::Hit, 0));
    fs::remove_dir_all(folder).unwrap();
}

/// What the processes of the test before do.
#[test]
#[ignore = "started by another test"]
fn a_process_among_others() {
    let (Some(folder), Ok(id)) = (std::env::var_os(FOLDER), std::env::var(DEVICE)) else { return };
    let folder = PathBuf::from(folder);
    let plain = start(&id, None);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let started = start(&id, Some(&folder));
                assert_eq!((&started.results, started.unwritable), (&plain.results, 0));
                assert!(matches!(started.found, CacheUse::Miss | CacheUse::Hit), "{started:?}");
            });
        }
    });
    assert_eq!(start(&id, Some(&folder)).found, CacheUse::Hit);
}
