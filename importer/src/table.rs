//! The operator table: which constructor an ONNX node gets.

use std::collections::HashMap;
use std::sync::LazyLock;

use sardonyx_ops::build::OperatorRow;
use sardonyx_ops::{
    attention, control, conv, loss, matmul, ml, movement, norm, picture, pointwise, pool, quantize, random,
    recurrent, reduce, resize, sequence, signal, sort, text, training,
};

use crate::error::{ImportError, UnsupportedFault};
use crate::onnx::NodeProto;
use crate::standard;

/// The rows of every family.
const FAMILIES: &[&[OperatorRow]] = &[
    attention::OPERATORS,
    control::OPERATORS,
    conv::OPERATORS,
    loss::OPERATORS,
    matmul::OPERATORS,
    ml::OPERATORS,
    movement::OPERATORS,
    norm::OPERATORS,
    picture::OPERATORS,
    pointwise::OPERATORS,
    pool::OPERATORS,
    quantize::OPERATORS,
    random::OPERATORS,
    recurrent::OPERATORS,
    reduce::OPERATORS,
    resize::OPERATORS,
    sequence::OPERATORS,
    signal::OPERATORS,
    sort::OPERATORS,
    text::OPERATORS,
    training::OPERATORS,
];

/// Rows by domain and name, the newest first.
static INDEX: LazyLock<HashMap<(&str, &str), Vec<&OperatorRow>>> = LazyLock::new(|| {
    let mut index: HashMap<_, Vec<&OperatorRow>> = HashMap::new();
    for row in rows() {
        index.entry((row.domain, row.name)).or_default().push(row);
    }
    for rows in index.values_mut() {
        rows.sort_by_key(|row| std::cmp::Reverse(row.since));
    }
    index
});

/// All rows, family by family.
pub fn rows() -> impl Iterator<Item = &'static OperatorRow> {
    FAMILIES.iter().copied().flatten()
}

/// The row for an operator: the one with the largest `since` not above `opset`. The domain `ai.onnx` is the empty one.
pub fn lookup(domain: &str, name: &str, opset: i64) -> Option<&'static OperatorRow> {
    let rows = INDEX.get(&(canonical(domain), name))?;
    rows.iter().find(|row| row.since <= opset).copied()
}

/// The row for a node.
///
/// # Errors
/// [`ImportError::Unsupported`], which says whether the name is misspelt, too old, or known to ONNX but not done here.
pub(crate) fn row(node: &NodeProto) -> Result<&'static OperatorRow, ImportError> {
    lookup(&node.domain, &node.op_type, node.opset).ok_or_else(|| {
        let (fault, detail) = missing(canonical(&node.domain), &node.op_type, node.opset);
        ImportError::unsupported(node.place(), fault, detail)
    })
}

fn canonical(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Why there is no row.
fn missing(domain: &str, name: &str, opset: i64) -> (UnsupportedFault, String) {
    const SHOWN: usize = 64;
    let short: String = name.chars().take(SHOWN).collect();
    if let Some(first) = INDEX.get(&(domain, name)).and_then(|rows| rows.last()) {
        let since = first.since;
        return (
            UnsupportedFault::Operator,
            format!("{short} is supported from opset {since} on, not {opset}"),
        );
    }
    if domain.is_empty() && standard::OPERATORS.contains(&name) {
        return (UnsupportedFault::Operator, format!("{short} is an ONNX operator that is not implemented"));
    }
    if !domain.is_empty() && !rows().any(|row| row.domain == domain) {
        let domain: String = domain.chars().take(SHOWN).collect();
        return (UnsupportedFault::Domain, format!("no operator of domain {domain:?} is known"));
    }
    let known = rows().filter(|row| row.domain == domain).map(|row| row.name);
    let known = known.chain(standard::OPERATORS.iter().copied().filter(|_| domain.is_empty()));
    let nearest = known.map(|known| (distance(&short, known), known)).min();
    let detail = match nearest {
        Some((distance, nearest)) if distance * 3 <= nearest.len() => {
            format!("there is no operator {short:?}; did you mean {nearest}?")
        }
        _ => format!("there is no operator {short:?}"),
    };
    (UnsupportedFault::Operator, detail)
}

/// The number of single-character edits between two short names, letter case ignored.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for ((&y, pair), &left_above) in b.iter().zip(row.iter().skip(1)).zip(&row) {
            let replace = left_above + usize::from(!x.eq_ignore_ascii_case(&y));
            let insert = next.last().map_or(0, |&last| last + 1);
            next.push(replace.min(insert).min(pair + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("Conv", "Conv"), 0);
        assert_eq!(distance("conv", "Conv"), 0);
        assert_eq!(distance("Gridsampel", "GridSample"), 2);
        assert_eq!(distance("", "Add"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn missing_operators_are_explained() {
        let (fault, detail) = missing("", "GridSampel", 16);
        assert_eq!(fault, UnsupportedFault::Operator);
        assert!(detail.ends_with("did you mean GridSample?"), "{detail}");
        assert_eq!(missing("my.domain", "Add", 1).0, UnsupportedFault::Domain);
        assert!(missing("", "Frobnicate", 16).1.ends_with("\"Frobnicate\""));
        assert!(missing("", "Upsample", 6).1.contains("from opset"));
    }

    #[test]
    fn rows_are_distinct_and_standard() {
        let mut seen = std::collections::HashSet::new();
        for row in rows() {
            assert!(seen.insert((row.domain, row.name, row.since)), "{} twice", row.name);
            // Exporters write some contributed operators into the standard domain.
            let contributed = rows().any(|other| !other.domain.is_empty() && other.name == row.name);
            assert!(contributed || standard::OPERATORS.contains(&row.name), "{}", row.name);
        }
    }
}
