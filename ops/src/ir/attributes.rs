//! Attributes of an operator, free of any file format.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::graph::Graph;
use super::tensor::Tensor;
use crate::error::OpError;

/// The value of one attribute.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Attribute {
    /// A 64-bit integer.
    Int(i64),
    /// A 32-bit float.
    Float(f32),
    /// Text.
    Str(String),
    /// A tensor.
    Tensor(Tensor),
    /// A nested graph; the values it takes from outside are named in [`Graph::captures`].
    Graph(Arc<Graph>),
    /// Integers.
    Ints(Vec<i64>),
    /// Floats.
    Floats(Vec<f32>),
    /// Texts.
    Strs(Vec<String>),
    /// The type of a value: nothing depends on which.
    Type,
}

/// The attributes of a node by name. Reading one with the wrong type is an error; one that no
/// reader asked for is reported by [`Attributes::unread`].
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    map: BTreeMap<String, Attribute>,
    read: std::cell::RefCell<std::collections::BTreeSet<String>>,
}

impl Attributes {
    /// Adds one attribute.
    pub fn insert(&mut self, name: impl Into<String>, value: Attribute) {
        self.map.insert(name.into(), value);
    }

    /// The raw value.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.read.borrow_mut().insert(name.to_owned());
        self.map.get(name)
    }

    /// Names that nothing has asked for: a model's author expected an effect that there is not.
    pub fn unread(&self) -> Vec<&str> {
        let read = self.read.borrow();
        self.map.keys().filter(|name| !read.contains(*name)).map(String::as_str).collect()
    }
}

macro_rules! readers {
    ($($(#[$doc:meta])* $get:ident, $or:ident, $kind:ident, $rust:ty, $owned:ty, $text:literal;)*) => {
        impl Attributes {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// When the attribute has another type.
            pub fn $get(&self, name: &'static str) -> Result<Option<$rust>, OpError> {
                match self.get(name) {
                    None => Ok(None),
                    Some(Attribute::$kind(value)) => Ok(Some(value)),
                    Some(_) => Err(OpError::Attribute { name, expected: $text }),
                }
            }

            /// The same, or a default.
            ///
            /// # Errors
            /// When the attribute has another type.
            pub fn $or(&self, name: &'static str, default: $owned) -> Result<$owned, OpError> {
                Ok(self.$get(name)?.map_or(default, |value| value.to_owned()))
            }
        )*}
    };
}

readers! {
    /// An integer attribute.
    int, int_or, Int, &i64, i64, "an integer";
    /// A float attribute.
    float, float_or, Float, &f32, f32, "a float";
    /// A text attribute.
    str, str_or, Str, &str, String, "a string";
    /// A list of integers.
    ints, ints_or, Ints, &[i64], Vec<i64>, "a list of integers";
    /// A list of floats.
    floats, floats_or, Floats, &[f32], Vec<f32>, "a list of floats";
    /// A list of texts.
    strs, strs_or, Strs, &[String], Vec<String>, "a list of strings";
}

impl Attributes {
    /// A tensor attribute.
    ///
    /// # Errors
    /// When the attribute has another type.
    pub fn tensor(&self, name: &'static str) -> Result<Option<&Tensor>, OpError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Tensor(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(OpError::Attribute { name, expected: "a tensor" }),
        }
    }

    /// A graph attribute.
    ///
    /// # Errors
    /// When the attribute is absent or has another type.
    pub fn graph(&self, name: &'static str) -> Result<Arc<Graph>, OpError> {
        match self.get(name) {
            Some(Attribute::Graph(graph)) => Ok(Arc::clone(graph)),
            _ => Err(OpError::Attribute { name, expected: "a graph" }),
        }
    }

    /// A yes/no attribute, stored as an integer.
    ///
    /// # Errors
    /// When the attribute has another type.
    pub fn flag(&self, name: &'static str, default: bool) -> Result<bool, OpError> {
        Ok(self.int_or(name, i64::from(default))? != 0)
    }
}
