//! Lines of a kernel that stand for several: registers have names, not indices.

use std::collections::BTreeMap;

/// Repeats each line that contains `$NAME`, `NAME` being a constant of the file, for each value below the constant:
/// `let w$ROWS = a_at(a$ROWS);` with `const ROWS = 2u;` becomes two lines, of `w0` and `w1`. A line with several names is
/// repeated for all combinations, the first name outermost. A name is made of capital letters.
pub(crate) fn unroll(text: &str) -> String {
    let mut constants: BTreeMap<&str, u32> = BTreeMap::new();
    let mut result = String::with_capacity(text.len());
    for line in text.lines() {
        if let Some((name, value)) = constant(line) {
            constants.insert(name, value);
        }
        let mut lines = vec![line.to_owned()];
        for name in names(line) {
            let (token, count) = (format!("${name}"), constants.get(name).copied().unwrap_or(0));
            let repeat =
                |line: &String| (0..count).map(|i| line.replace(&token, &i.to_string())).collect::<Vec<_>>();
            lines = lines.iter().flat_map(repeat).collect();
        }
        for line in lines {
            result.push_str(&line);
            result.push('\n');
        }
    }
    result
}

/// `const NAME = 16u;` as name and value.
fn constant(line: &str) -> Option<(&str, u32)> {
    let (name, value) = line.strip_prefix("const ")?.split_once('=')?;
    let value = value.trim().trim_end_matches(';').trim_end_matches('u');
    Some((name.trim(), value.parse().ok()?))
}

/// The names behind `$` in a line, each once.
fn names(line: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for part in line.split('$').skip(1) {
        let end = part.find(|c: char| !c.is_ascii_uppercase()).unwrap_or(part.len());
        if end > 0 && !names.contains(&&part[..end]) {
            names.push(&part[..end]);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_repeated_for_all_combinations() {
        let text = "const ROWS = 2u;\nconst QUADS = 1;\nlet a$ROWS = $ROWSu;\ny$ROWS_$QUADS += a$ROWS;\nend";
        let want =
            "const ROWS = 2u;\nconst QUADS = 1;\nlet a0 = 0u;\nlet a1 = 1u;\ny0_0 += a0;\ny1_0 += a1;\nend\n";
        assert_eq!(unroll(text), want);
    }
}
