//! Library functions: `wgsl/lib/*.wgsl`, taken into a kernel one by one as they are called.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

const FILES: &[&str] = &[
    include_str!("../wgsl/lib/activation.wgsl"),
    include_str!("../wgsl/lib/bool.wgsl"),
    include_str!("../wgsl/lib/cast.wgsl"),
    include_str!("../wgsl/lib/elementary.wgsl"),
    include_str!("../wgsl/lib/f32.wgsl"),
    include_str!("../wgsl/lib/i32.wgsl"),
    include_str!("../wgsl/lib/i64.wgsl"),
    include_str!("../wgsl/lib/normalize.wgsl"),
    include_str!("../wgsl/lib/reduce.wgsl"),
    include_str!("../wgsl/lib/u32.wgsl"),
    include_str!("../wgsl/lib/u64.wgsl"),
    include_str!("../wgsl/lib/value.wgsl"),
];

/// Function name → its text, comments before it included.
static FUNCTIONS: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    let mut all = HashMap::new();
    for file in FILES {
        let starts: Vec<usize> = file
            .match_indices("fn ")
            .map(|(at, _)| at)
            .filter(|&at| at == 0 || file.as_bytes().get(at - 1) == Some(&b'\n'))
            .collect();
        for (i, &start) in starts.iter().enumerate() {
            let text = &file[start..starts.get(i + 1).copied().unwrap_or(file.len())];
            // Comments that follow belong to the next function.
            let end = text.rfind("\n}").map_or(text.len(), |at| at + 2);
            let end = if text.lines().next().is_some_and(|line| line.ends_with('}')) {
                text.find('\n').unwrap_or(text.len())
            } else {
                end
            };
            let name = text[3..].split('(').next().unwrap_or_default();
            all.insert(name, &text[..end]);
        }
    }
    all
});

/// Whether the library has a function of this name.
pub fn has(name: &str) -> bool {
    FUNCTIONS.contains_key(name)
}

/// Appends every library function that `text` calls, and those that they call.
pub(crate) fn append(text: &mut String) {
    let mut taken: HashSet<&str> = HashSet::new();
    let mut queue: Vec<&'static str> = called(text);
    while let Some(name) = queue.pop() {
        if taken.insert(name)
            && let Some(body) = FUNCTIONS.get(name)
        {
            text.push_str(body);
            text.push('\n');
            queue.extend(called(&body[3..]));
        }
    }
}

fn called(text: &str) -> Vec<&'static str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter_map(|word| FUNCTIONS.get_key_value(word).map(|(name, _)| *name))
        .collect()
}
