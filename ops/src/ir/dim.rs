//! Dimensions that may be unknown until a model's inputs are.
//!
//! A dimension is a number or a linear expression over *atoms*: names that the model declares
//! (`batch`), and quotients of other expressions. Arithmetic stays exact; what cannot be said
//! becomes a new name.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// One extent of a tensor.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    /// A number.
    Known(usize),
    /// An expression over names.
    Symbolic(Arc<Linear>),
}

/// `constant + Σ coefficient · atom`; never without atoms.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Linear {
    constant: i64,
    terms: BTreeMap<Atom, i64>,
}

#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Atom {
    Name(Arc<str>),
    Product(Vec<Atom>),
    Quotient(Arc<Linear>, i64),
}

/// Why dimension arithmetic has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a dimension is negative or too large")]
pub struct DimError;

impl Dim {
    /// A dimension known by name only.
    pub fn named(name: &str) -> Dim {
        Dim::from_atom(Atom::Name(name.into()))
    }

    /// The number, if it is one.
    pub fn known(&self) -> Option<usize> {
        match self {
            Dim::Known(n) => Some(*n),
            Dim::Symbolic(_) => None,
        }
    }

    /// `true` when this is the number `n`.
    pub fn is(&self, n: usize) -> bool {
        self.known() == Some(n)
    }

    /// The sum of two dimensions.
    ///
    /// # Errors
    /// When the result overflows.
    pub fn add(&self, other: &Dim) -> Result<Dim, DimError> {
        let (mut sum, other) = (self.linear(), other.linear());
        sum.constant = sum.constant.checked_add(other.constant).ok_or(DimError)?;
        for (atom, n) in other.terms {
            let slot = sum.terms.entry(atom).or_insert(0);
            *slot = slot.checked_add(n).ok_or(DimError)?;
        }
        sum.into_dim()
    }

    /// This dimension plus a number, which may be negative.
    ///
    /// # Errors
    /// When the result is known to be negative, or overflows.
    pub fn offset(&self, by: i64) -> Result<Dim, DimError> {
        let mut sum = self.linear();
        sum.constant = sum.constant.checked_add(by).ok_or(DimError)?;
        sum.into_dim()
    }

    /// The difference of two dimensions.
    ///
    /// # Errors
    /// When the result is known to be negative, or overflows.
    pub fn sub(&self, other: &Dim) -> Result<Dim, DimError> {
        let (mut difference, other) = (self.linear(), other.linear());
        difference.constant = difference.constant.checked_sub(other.constant).ok_or(DimError)?;
        for (atom, n) in other.terms {
            let slot = difference.terms.entry(atom).or_insert(0);
            *slot = slot.checked_sub(n).ok_or(DimError)?;
        }
        difference.into_dim()
    }

    /// This dimension times a number.
    ///
    /// # Errors
    /// When the result overflows.
    pub fn scale(&self, by: usize) -> Result<Dim, DimError> {
        let by = i64::try_from(by).map_err(|_| DimError)?;
        let mut product = self.linear();
        product.constant = product.constant.checked_mul(by).ok_or(DimError)?;
        for n in product.terms.values_mut() {
            *n = n.checked_mul(by).ok_or(DimError)?;
        }
        product.into_dim()
    }

    /// The product of two dimensions.
    ///
    /// # Errors
    /// When the result overflows.
    pub fn mul(&self, other: &Dim) -> Result<Dim, DimError> {
        match (self, other) {
            (Dim::Known(n), dim) | (dim, Dim::Known(n)) => dim.scale(*n),
            (Dim::Symbolic(a), Dim::Symbolic(b)) => {
                let mut product = Dim::Known(0);
                for (left, n) in a.factors() {
                    for (right, m) in b.factors() {
                        let factor = Dim::from_atom(Atom::product(left.iter().chain(&right).cloned()));
                        let count = n.checked_mul(m).ok_or(DimError)?;
                        let mut term = if left.is_empty() && right.is_empty() {
                            Linear { constant: 1, terms: BTreeMap::new() }
                        } else {
                            factor.linear()
                        };
                        term.constant = term.constant.checked_mul(count).ok_or(DimError)?;
                        for n in term.terms.values_mut() {
                            *n = n.checked_mul(count).ok_or(DimError)?;
                        }
                        let mut sum = product.linear();
                        sum.constant = sum.constant.checked_add(term.constant).ok_or(DimError)?;
                        for (atom, n) in term.terms {
                            let slot = sum.terms.entry(atom).or_insert(0);
                            *slot = slot.checked_add(n).ok_or(DimError)?;
                        }
                        product = sum.into_dim()?;
                    }
                }
                Ok(product)
            }
        }
    }

    /// The quotient rounded down.
    ///
    /// # Errors
    /// When `by` is zero.
    pub fn div_floor(&self, by: usize) -> Result<Dim, DimError> {
        let by = i64::try_from(by).ok().filter(|&n| n > 0).ok_or(DimError)?;
        let mut linear = self.linear();
        if linear.terms.values().all(|n| n % by == 0) {
            linear.constant = linear.constant.div_euclid(by);
            for n in linear.terms.values_mut() {
                *n /= by;
            }
            return linear.into_dim();
        }
        Ok(Dim::from_atom(Atom::Quotient(Arc::new(linear), by)))
    }

    /// The quotient rounded up.
    ///
    /// # Errors
    /// When `by` is zero, or the result overflows.
    pub fn div_ceil(&self, by: usize) -> Result<Dim, DimError> {
        let shift = i64::try_from(by).ok().and_then(|n| n.checked_sub(1)).ok_or(DimError)?;
        self.offset(shift)?.div_floor(by)
    }

    /// The quotient of two dimensions when it is exact and can be said, such as `4·batch / batch`.
    pub fn div_exact(&self, by: &Dim) -> Option<Dim> {
        match (self, by) {
            (_, Dim::Known(0)) => None,
            (Dim::Known(a), Dim::Known(b)) => a.is_multiple_of(*b).then(|| Dim::Known(a / b)),
            (Dim::Symbolic(a), Dim::Known(b)) => {
                let b = i64::try_from(*b).ok()?;
                let exact = a.constant % b == 0 && a.terms.values().all(|n| n % b == 0);
                exact.then(|| self.div_floor(usize::try_from(b).ok()?).ok()).flatten()
            }
            (Dim::Symbolic(a), Dim::Symbolic(b)) if a == b => Some(Dim::Known(1)),
            (Dim::Symbolic(a), Dim::Symbolic(b)) => a.divide(b),
            (Dim::Known(_), Dim::Symbolic(_)) => None,
        }
    }

    fn from_atom(atom: Atom) -> Dim {
        Dim::Symbolic(Arc::new(Linear { constant: 0, terms: BTreeMap::from([(atom, 1)]) }))
    }

    fn linear(&self) -> Linear {
        match self {
            // A size beyond i64 cannot be allocated; saturating keeps the later checks failing.
            Dim::Known(n) => {
                Linear { constant: i64::try_from(*n).unwrap_or(i64::MAX), terms: BTreeMap::new() }
            }
            Dim::Symbolic(linear) => Linear::clone(linear),
        }
    }
}

impl Linear {
    fn into_dim(mut self) -> Result<Dim, DimError> {
        self.terms.retain(|_, n| *n != 0);
        if self.terms.is_empty() {
            return usize::try_from(self.constant).map(Dim::Known).map_err(|_| DimError);
        }
        Ok(Dim::Symbolic(Arc::new(self)))
    }

    /// Each summand as (atoms multiplied, coefficient); the constant has no atoms.
    fn factors(&self) -> Vec<(Vec<Atom>, i64)> {
        let mut all: Vec<_> = self
            .terms
            .iter()
            .map(|(atom, n)| {
                let atoms = match atom {
                    Atom::Product(atoms) => atoms.clone(),
                    other => vec![other.clone()],
                };
                (atoms, *n)
            })
            .collect();
        if self.constant != 0 {
            all.push((Vec::new(), self.constant));
        }
        all
    }

    /// Exact division by a single term.
    fn divide(&self, by: &Linear) -> Option<Dim> {
        let [(divisor, count)] = <[_; 1]>::try_from(by.factors()).ok()?;
        let mut quotient = Linear { constant: 0, terms: BTreeMap::new() };
        for (mut atoms, n) in self.factors() {
            for atom in &divisor {
                let at = atoms.iter().position(|a| a == atom)?;
                atoms.remove(at);
            }
            if n % count != 0 {
                return None;
            }
            if atoms.is_empty() {
                quotient.constant = quotient.constant.checked_add(n / count)?;
            } else {
                quotient.terms.insert(Atom::product(atoms), n / count);
            }
        }
        quotient.into_dim().ok()
    }
}

impl Atom {
    fn product(atoms: impl IntoIterator<Item = Atom>) -> Atom {
        let mut atoms: Vec<Atom> = atoms.into_iter().collect();
        atoms.sort();
        match <[Atom; 1]>::try_from(atoms) {
            Ok([atom]) => atom,
            Err(atoms) => Atom::Product(atoms),
        }
    }
}

impl From<usize> for Dim {
    fn from(n: usize) -> Dim {
        Dim::Known(n)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dim::Known(n) => n.fmt(f),
            Dim::Symbolic(linear) => linear.fmt(f),
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (atom, n)) in self.terms.iter().enumerate() {
            match (i, *n) {
                (0, 1) => {}
                (_, 1) => f.write_str("+")?,
                (_, -1) => f.write_str("-")?,
                (0, n) => write!(f, "{n}*")?,
                (_, n) => write!(f, "{n:+}*")?,
            }
            atom.fmt(f)?;
        }
        match self.constant {
            0 => Ok(()),
            n => write!(f, "{n:+}"),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Name(name) => f.write_str(name),
            Atom::Product(atoms) => {
                for (i, atom) in atoms.iter().enumerate() {
                    if i > 0 {
                        f.write_str("*")?;
                    }
                    atom.fmt(f)?;
                }
                Ok(())
            }
            Atom::Quotient(linear, by) => write!(f, "floor(({linear})/{by})"),
        }
    }
}

impl fmt::Debug for Linear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The numbers of a shape, if all of them are known.
pub fn known(shape: &[Dim]) -> Option<Vec<usize>> {
    shape.iter().map(Dim::known).collect()
}

/// A shape of numbers.
pub fn from_known(dims: &[usize]) -> Vec<Dim> {
    dims.iter().map(|&n| Dim::Known(n)).collect()
}

/// The product of a run of dimensions.
///
/// # Errors
/// When it overflows.
pub fn product(dims: &[Dim]) -> Result<Dim, DimError> {
    dims.iter().try_fold(Dim::Known(1), |product, dim| product.mul(dim))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_print_and_cancel() {
        let h = Dim::named("height");
        let half = h.offset(1).unwrap().div_floor(2).unwrap();
        assert_eq!(half.to_string(), "floor((height+1)/2)");
        let back = h.offset(3).unwrap().offset(-3).unwrap();
        assert_eq!(back, h);
        assert_eq!(h.scale(3).unwrap().sub(&h).unwrap(), h.scale(2).unwrap());
        assert_eq!(h.sub(&h), Ok(Dim::Known(0)));
        assert_eq!(Dim::Known(2).sub(&Dim::Known(3)), Err(DimError));
        let n = Dim::named("batch").mul(&h.scale(4).unwrap()).unwrap();
        assert_eq!(n.to_string(), "4*batch*height");
        assert_eq!(n.div_exact(&h), Some(Dim::named("batch").scale(4).unwrap()));
        assert_eq!(n.div_exact(&Dim::Known(4)).unwrap().to_string(), "batch*height");
        assert_eq!(n.div_exact(&Dim::Known(8)), None);
    }

    #[test]
    fn overflow_and_negative_sizes_are_errors() {
        assert_eq!(Dim::Known(2).offset(-3), Err(DimError));
        assert_eq!(Dim::Known(usize::MAX).scale(2), Err(DimError));
        assert_eq!(Dim::Known(7).div_floor(0), Err(DimError));
        assert_eq!(Dim::Known(7).div_ceil(2), Ok(Dim::Known(4)));
    }
}
