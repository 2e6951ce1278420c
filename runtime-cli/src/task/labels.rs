//! Names of classes: one a line, or a JSON list, or a JSON object from number to name.

use std::path::Path;

use serde_json::Value;

use crate::failure::{Failure, Fault};
use crate::formats::read_file;

/// The most bytes of a file of names.
const MOST_BYTES: u64 = 16 << 20;

/// Names by the number of the class; classes without one are shown by their number.
#[derive(Clone, Debug, Default)]
pub struct Labels(Vec<String>);

impl Labels {
    /// Reads a file of names.
    ///
    /// # Errors
    /// When it cannot be read, is no UTF-8, or is JSON of another form.
    pub fn read(path: &Path) -> Result<Labels, Failure> {
        let bytes = read_file(path, MOST_BYTES)?;
        let fail = |what: &str| Failure::new(Fault::Malformed, format!("{}: {what}", path.display()));
        let text = std::str::from_utf8(&bytes).map_err(|_| fail("the names are no UTF-8"))?;
        let names = if text.trim_start().starts_with(['[', '{']) {
            let value: Value = serde_json::from_str(text).map_err(|error| fail(&error.to_string()))?;
            from_json(&value)
                .ok_or_else(|| fail("JSON names are a list of texts, or an object from number to text"))?
        } else {
            text.lines().map(|line| line.trim().to_owned()).collect()
        };
        Ok(Labels(names))
    }

    /// The name of a class, if it has one.
    pub fn get(&self, class: usize) -> Option<&str> {
        self.0.get(class).map(String::as_str).filter(|name| !name.is_empty())
    }

    /// The class of a name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|known| known == name && !name.is_empty())
    }

    /// The name of a class, or `class N`.
    pub fn show(&self, class: usize) -> String {
        self.get(class).map_or_else(|| format!("class {class}"), |name| crate::output::format::name(name, 60))
    }
}

fn from_json(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        Value::Object(entries) => {
            let pairs: Vec<(usize, &str)> = entries
                .iter()
                .map(|(key, name)| Some((key.parse().ok()?, name.as_str()?)))
                .collect::<Option<_>>()?;
            // A number far beyond the count of names would make a list of mostly nothing.
            const SPARSEST: usize = 64;
            let length = pairs.iter().map(|(class, _)| class.saturating_add(1)).max().unwrap_or(0);
            if length > (pairs.len() + 16).saturating_mul(SPARSEST) {
                return None;
            }
            let mut names = vec![String::new(); length];
            for (class, name) in pairs {
                names[class] = name.to_owned();
            }
            Some(names)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Scratch;

    #[test]
    fn lines_lists_and_objects() {
        let scratch = Scratch::new("labels");
        for text in ["cat\n\ndog\n", "[\"cat\", \"\", \"dog\"]", "{\"2\": \"dog\", \"0\": \"cat\"}"] {
            let labels = Labels::read(&scratch.write("l.txt", text.as_bytes())).unwrap();
            assert_eq!(
                (labels.get(0), labels.get(1), labels.get(2)),
                (Some("cat"), None, Some("dog")),
                "{text}"
            );
            assert_eq!(labels.show(7), "class 7");
        }
        for text in [&b"[1]"[..], b"{\"a\": \"b\"}", b"{\"99999999999\": \"b\"}", b"\xff\xfe"] {
            assert!(Labels::read(&scratch.write("l.txt", text)).is_err());
        }
    }
}
