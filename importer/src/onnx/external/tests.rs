use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

/// A folder `model/` with 64 known bytes in `w.bin`, beside a `secret.bin` of as many; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let unique =
            format!("sardonyx-external-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let root = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(root.join("model/sub")).unwrap();
        let data: Vec<u8> = (0..64).collect();
        std::fs::write(root.join("model/w.bin"), &data).unwrap();
        std::fs::write(root.join("model/sub/v.bin"), &data).unwrap();
        std::fs::write(root.join("secret.bin"), &data).unwrap();
        Folder(root)
    }

    fn model(&self) -> PathBuf {
        self.0.join("model")
    }

    fn data(&self) -> ExternalData {
        ExternalData::new(&self.model()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An `f32` constant named `w` with these entries.
fn constant(dims: &[i64], entries: &[(&str, &str)]) -> TensorProto {
    TensorProto {
        name: "w".into(),
        dims: dims.to_vec(),
        data_type: 1,
        data: TensorData::External(entries.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()),
    }
}

fn load(data: &mut ExternalData, dims: &[i64], entries: &[(&str, &str)]) -> Result<Tensor> {
    data.tensor(&constant(dims, entries), &LoadLimits::default())
}

#[test]
fn tensors_share_one_mapping() {
    let folder = Folder::new();
    let mut data = folder.data();
    let whole = load(&mut data, &[4, 4], &[("location", "w.bin")]).unwrap();
    let part = load(&mut data, &[2], &[("location", "w.bin"), ("offset", "8"), ("length", "8")]).unwrap();
    assert_eq!(part.bytes(), [8, 9, 10, 11, 12, 13, 14, 15]);
    assert_eq!(part.bytes().as_ptr(), whole.bytes()[8..].as_ptr());
    assert!(load(&mut data, &[16], &[("location", "./sub/v.bin"), ("unknown", "x")]).is_ok());
    assert!(load(&mut data, &[0], &[("location", "w.bin"), ("offset", "64"), ("length", "0")]).is_ok());
    assert!(load(&mut data, &[1], &[("location", "w.bin"), ("offset", "3")]).is_ok(), "unaligned");
    assert_eq!(data.files.len(), 2);
}

#[test]
fn ranges_and_keys_are_checked() {
    let folder = Folder::new();
    let mut data = folder.data();
    let mut code =
        |dims: &[i64], entries: &[(&str, &str)]| load(&mut data, dims, entries).unwrap_err().code();
    let location = ("location", "w.bin");
    assert_eq!(code(&[17], &[location]), "SDX-0213");
    assert_eq!(code(&[16], &[location, ("offset", "1")]), "SDX-0213");
    assert_eq!(code(&[1], &[location, ("length", "8")]), "SDX-0213");
    assert_eq!(code(&[1], &[location, ("offset", "18446744073709551612")]), "SDX-0213");
    assert_eq!(code(&[1], &[location, ("offset", "18446744073709551616")]), "SDX-0213");
    for number in ["-1", "+1", " 1", "1.0", "0x1", ""] {
        assert_eq!(code(&[1], &[location, ("offset", number)]), "SDX-0213", "{number:?}");
    }
    assert_eq!(code(&[1], &[location, location]), "SDX-0213");
    assert_eq!(code(&[1], &[("offset", "0")]), "SDX-0213");
    assert_eq!(code(&[-1], &[location]), "SDX-0209");
    assert_eq!(code(&[1], &[("location", "absent.bin")]), "SDX-0101");
    let error = load(&mut folder.data(), &[1], &[("location", "absent.bin")]).unwrap_err();
    assert_eq!(error.value(), Some("w"));
    let few = LoadLimits { external_files: 0, ..LoadLimits::default() };
    let error = folder.data().tensor(&constant(&[1], &[location]), &few).unwrap_err();
    assert_eq!(error.code(), "SDX-0409");
}

#[test]
fn names_that_leave_the_folder_are_refused() {
    let folder = Folder::new();
    let mut data = folder.data();
    let absolute = folder.0.join("secret.bin");
    let long = "a/".repeat(3000) + "w.bin";
    for location in [
        "../secret.bin",
        "sub/../../secret.bin",
        "sub/../w.bin",
        "..",
        ".",
        "",
        "/etc/passwd",
        absolute.to_str().unwrap(),
        "C:w.bin",
        "c:/w.bin",
        "file:///etc/passwd",
        "https://example.org/w.bin",
        "sub\\v.bin",
        "..\\secret.bin",
        "w.bin\0",
        "sub//v.bin",
        "w.bin/",
        &long,
    ] {
        let error = load(&mut data, &[1], &[("location", location)]).unwrap_err();
        assert_eq!(error.code(), "SDX-0213", "{location:?}: {error}");
    }
    assert_eq!(load(&mut data, &[1], &[("location", "sub")]).unwrap_err().code(), "SDX-0213", "a folder");
}

#[cfg(unix)]
#[test]
fn links_pipes_and_devices_are_refused() {
    use std::os::unix::fs::symlink;
    let folder = Folder::new();
    let model = folder.model();
    symlink("../secret.bin", model.join("out.bin")).unwrap();
    symlink("..", model.join("up")).unwrap();
    symlink("w.bin", model.join("in.bin")).unwrap();
    symlink("loop.bin", model.join("loop.bin")).unwrap();
    symlink("/dev/zero", model.join("zero.bin")).unwrap();
    std::fs::hard_link(folder.0.join("secret.bin"), model.join("hard.bin")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(model.join("pipe.bin")).status();
    let mut data = folder.data();
    let mut code = |location: &str| {
        load(&mut data, &[1], &[("location", location)]).err().map_or("fine", |error| error.code())
    };
    assert_eq!(code("out.bin"), "SDX-0213");
    assert_eq!(code("up/secret.bin"), "SDX-0213");
    assert_eq!(code("zero.bin"), "SDX-0213");
    assert_eq!(code("hard.bin"), "SDX-0213");
    assert_eq!(code("loop.bin"), "SDX-0101");
    assert_eq!(code("in.bin"), "fine", "a link that stays in the folder");
    if fifo.is_ok_and(|status| status.success()) {
        assert_eq!(code("pipe.bin"), "SDX-0213", "and without waiting");
    }
    let mut trusting = folder.data().with_hard_links(true);
    assert!(load(&mut trusting, &[1], &[("location", "hard.bin")]).is_ok());
    // A model reached through a link: the folder is where the link leads.
    symlink(&model, folder.0.join("alias")).unwrap();
    let mut alias = ExternalData::new(&folder.0.join("alias")).unwrap();
    assert!(load(&mut alias, &[1], &[("location", "w.bin")]).is_ok());
    assert_eq!(ExternalData::new(Path::new("/nonexistent")).unwrap_err().code(), "SDX-0101");
}

#[test]
fn checksums_are_compared() {
    let folder = Folder::new();
    let mut data = folder.data();
    // sha1sum of the bytes 0 to 63.
    let right = "c6138d514ffa2135bfce0ed0b8fac65669917ec7";
    let location = ("location", "w.bin");
    assert!(load(&mut data, &[1], &[location, ("checksum", right)]).is_ok());
    assert!(load(&mut data, &[1], &[location, ("checksum", &right.to_uppercase())]).is_ok());
    let error = load(&mut data, &[1], &[location, ("checksum", &right.replace('c', "d"))]).unwrap_err();
    assert_eq!((error.code(), error.value()), ("SDX-0110", Some("w")));
}

#[test]
fn safetensors_by_name() {
    let folder = Folder::new();
    let values: Vec<u8> = [1.0f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![3], &values).unwrap();
    let file = safetensors::serialize([("v", view.clone()), ("w", view)], None).unwrap();
    let path = folder.model().join("m.safetensors");
    std::fs::write(&path, &file).unwrap();
    let location = ("location", "m.safetensors");
    let tensor = load(&mut folder.data(), &[3], &[location]).unwrap();
    assert_eq!(tensor.to_vec::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    let code =
        |dims: &[i64], entries: &[(&str, &str)]| load(&mut folder.data(), dims, entries).unwrap_err().code();
    assert_eq!(code(&[1, 3], &[location]), "SDX-0213", "other dimensions");
    assert_eq!(code(&[3], &[location, ("length", "8")]), "SDX-0213");
    let mut half = constant(&[3], &[location]);
    half.data_type = 10;
    assert!(folder.data().tensor(&half, &LoadLimits::default()).is_err(), "other type");
    half.data_type = 1;
    half.name = "absent".into();
    assert!(folder.data().tensor(&half, &LoadLimits::default()).is_err(), "other name");
    for cut in 0..file.len() {
        std::fs::write(&path, &file[..cut]).unwrap();
        assert_eq!(code(&[3], &[location]), "SDX-0213", "cut at {cut}");
    }
    // Eight tensors whose sizes add up to the end of the address space.
    let size = (1u64 << 61) - 1;
    let rows: Vec<String> = (0..8)
        .map(|i| {
            let name = if i == 7 { "w".into() } else { format!("t{i}") };
            format!(
                r#""{name}":{{"dtype":"U8","shape":[{size}],"data_offsets":[{},{}]}}"#,
                i * size,
                (i + 1) * size
            )
        })
        .collect();
    let header = format!("{{{}}}", rows.join(","));
    let mut hostile = (header.len() as u64).to_le_bytes().to_vec();
    hostile.extend(header.as_bytes());
    std::fs::write(&path, &hostile).unwrap();
    assert_eq!(code(&[3], &[location]), "SDX-0213");
    std::fs::write(&path, u64::MAX.to_le_bytes()).unwrap();
    assert_eq!(code(&[3], &[location]), "SDX-0213");
}

#[test]
fn models_find_their_data() {
    use crate::onnx::testing::{Model as Encoded, bytes, int, packed};
    let folder = Folder::new();
    let entry = |key: &[u8], value: &[u8]| bytes(13, &[bytes(1, key), bytes(2, value)].concat());
    let tensor = [
        bytes(8, b"w"),
        packed(1, &[2, 1]),
        int(2, 1),
        entry(b"location", b"sub/v.bin"),
        entry(b"offset", b"16"),
        int(14, 1),
    ];
    let model = Encoded::new(&["x"], vec![], &["w"]).encode();
    let file = [model, bytes(7, &bytes(5, &tensor.concat()))].concat();
    let path = folder.model().join("model.onnx");
    std::fs::write(&path, &file).unwrap();
    let opened = crate::Model::open(&path).unwrap();
    let constant = opened.graph().constants.values().next().unwrap();
    assert_eq!(constant.bytes(), [16, 17, 18, 19, 20, 21, 22, 23]);
    // From memory there is no folder to look into.
    assert_eq!(crate::Model::from_bytes(file).unwrap_err().code(), "SDX-0213");
}
