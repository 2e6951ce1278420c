//! Finding cases.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::failure::{Failure, Fault};
use crate::formats::{protobuf, read_file};
use crate::glob;

/// Folders beneath the suite's that are looked into.
const DEEPEST: usize = 6;
/// The most bytes of a `cases.json`.
const MOST_BYTES: u64 = 64 << 20;

/// A folder with a model and test sets.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub folder: PathBuf,
    /// The operator tested, as far as a `cases.json` at the suite says so.
    pub operator: Option<String>,
    /// Where the suite says so: the relative tolerance, if it is not the official one.
    pub rtol: Option<f64>,
}

impl Case {
    /// One of the patterns fits the name (with or without `test_`), the end of the path, or the operator, upper and
    /// lower case alike; no patterns fit everything.
    pub fn fits(&self, patterns: &[String]) -> bool {
        let name = self.name.to_lowercase();
        let bare = name.strip_prefix("test_").unwrap_or(&name).to_owned();
        let parent = self.folder.parent().and_then(Path::file_name).map(|parent| parent.to_string_lossy());
        let path = format!("{}/{name}", parent.unwrap_or_default().to_lowercase());
        let operator = self.operator.as_deref().unwrap_or("").to_lowercase();
        let fits = |pattern: &String| {
            let pattern = pattern.to_lowercase();
            [&name, &bare, &path, &operator].iter().any(|text| glob::matches(&pattern, text))
        };
        patterns.is_empty() || patterns.iter().any(fits)
    }
}

/// All cases beneath a folder, in the order of their paths.
///
/// # Errors
/// When the folder cannot be read, or its `cases.json` is damaged.
pub fn find(folder: &Path) -> Result<Vec<Case>, Failure> {
    std::fs::read_dir(folder).map_err(|error| Failure::file(folder, &error))?;
    let facts = facts(folder)?;
    let mut cases = Vec::new();
    let mut folders = vec![(folder.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        if folder.join("model.onnx").is_file() && !protobuf::test_sets(&folder).is_empty() {
            let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
            let (operator, rtol) = facts.get(&name).cloned().unwrap_or_default();
            cases.push(Case { name, folder, operator, rtol });
            continue;
        }
        if depth < DEEPEST {
            let entries = std::fs::read_dir(&folder).into_iter().flatten().flatten();
            folders.extend(
                entries.map(|entry| entry.path()).filter(|path| path.is_dir()).map(|path| (path, depth + 1)),
            );
        }
    }
    cases.sort_by(|a, b| a.folder.cmp(&b.folder));
    Ok(cases)
}

/// Operator and tolerance by the name of the case, from a `cases.json` in the folder or one of the two above it.
type Facts = HashMap<String, (Option<String>, Option<f64>)>;

fn facts(folder: &Path) -> Result<Facts, Failure> {
    let folder = folder.canonicalize().map_err(|error| Failure::file(folder, &error))?;
    let Some(path) =
        folder.ancestors().take(3).map(|folder| folder.join("cases.json")).find(|path| path.is_file())
    else {
        return Ok(Facts::new());
    };
    let value: Value = serde_json::from_slice(&read_file(&path, MOST_BYTES)?)
        .map_err(|error| Failure::new(Fault::Malformed, format!("{}: {error}", path.display())))?;
    let case = |case: &Value| {
        let name = case["name"].as_str()?.to_owned();
        Some((name, (case["op"].as_str().map(str::to_owned), case["rtol"].as_f64())))
    };
    Ok(value.as_array().into_iter().flatten().filter_map(case).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn cases_are_found_filtered_and_described() {
        let scratch = Scratch::new("suite");
        for name in ["node/test_relu", "node/test_conv_pads", "node/no_sets", "light/test_net"] {
            std::fs::create_dir_all(scratch.path(name)).unwrap();
            scratch.write(&format!("{name}/model.onnx"), b"");
            if name != "node/no_sets" {
                std::fs::create_dir(scratch.path(&format!("{name}/test_data_set_0"))).unwrap();
            }
        }
        scratch
            .write("cases.json", br#"[{"name": "test_relu", "op": "Relu", "rtol": 0.001}, {"nameless": 1}]"#);
        let cases = find(&scratch.path("")).unwrap();
        let names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names, ["test_net", "test_conv_pads", "test_relu"]);
        assert_eq!((cases[2].operator.as_deref(), cases[2].rtol), (Some("Relu"), Some(0.001)));
        assert_eq!(find(&scratch.path("node")).unwrap()[1].operator.as_deref(), Some("Relu"));
        let fitting = |pattern: &str| {
            let patterns = [pattern.to_owned()];
            cases
                .iter()
                .filter(|case| case.fits(&patterns))
                .map(|case| case.name.as_str())
                .collect::<Vec<_>>()
        };
        assert_eq!(fitting("Conv*"), ["test_conv_pads"]);
        assert_eq!(fitting("relu"), ["test_relu"]);
        assert_eq!(fitting("light/*"), ["test_net"]);
        assert!(fitting("nothing").is_empty());
        assert!(find(&scratch.path("missing")).is_err());
    }
}
