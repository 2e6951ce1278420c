//! What can go wrong between a file and a plan.
//!
//! Errors carry fields, and a stable code for telemetry; the text made here is short, the command line adds
//! the rest. Codes: `SDX-01xx` reading and decoding, `SDX-02xx` invalid models, `SDX-03xx` unsupported ones,
//! `SDX-04xx` budgets, `SDX-05xx` inputs, `SDX-09xx` defects.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sardonyx_ops::OpError;

/// Why a model was refused.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The operating system would not give a file.
    #[error("{at}{}: {source}", path.display())]
    Io {
        /// The tensor that names the file; nothing for the model itself.
        at: Box<Place>,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<std::io::Error>,
    },
    /// The bytes are not the protobuf message they should be.
    #[error("{what} (at byte {offset})")]
    Parse {
        /// What is wrong there.
        what: ParseFault,
        /// Bytes from the start of the file.
        offset: u64,
    },
    /// The message decodes, but breaks a rule of ONNX.
    #[error("{at}{fault}: {detail}")]
    Invalid {
        /// Where in the model.
        at: Box<Place>,
        /// The rule that is broken.
        fault: InvalidFault,
        /// What was found, and what the rule wants.
        detail: Cow<'static, str>,
    },
    /// The model may be sound, but asks for something this version does not have.
    #[error("{at}{fault}: {detail}")]
    Unsupported {
        /// Where in the model.
        at: Box<Place>,
        /// What kind of thing is missing.
        fault: UnsupportedFault,
        /// What was asked for.
        detail: Cow<'static, str>,
    },
    /// The model asks for more than [`crate::LoadLimits`] allows.
    #[error("{at}budget {} exceeded: {asked} asked, {allowed} allowed", which.name())]
    BudgetExceeded {
        /// The budget.
        which: Budget,
        /// What the model asks for; a lower bound where counting stopped early.
        asked: u64,
        /// What the budget allows.
        allowed: u64,
        /// Where in the model, as far as known.
        at: Box<Place>,
    },
    /// A file beside the model is not the one the model was made with.
    #[error("{at}{file:?} has SHA-1 {got}, the model expects {expected}")]
    Integrity {
        /// The tensor that names the file.
        at: Box<Place>,
        /// The file, as the model names it.
        file: Arc<str>,
        /// The digest in the model, in hexadecimal.
        expected: Arc<str>,
        /// The digest of the file.
        got: Arc<str>,
    },
    /// What the caller gives does not fit the model.
    #[error("input {}: {detail}", Quoted(name))]
    Input {
        /// The model's input; empty when all of them are meant.
        name: Arc<str>,
        /// What the model declares, and what was given.
        detail: String,
    },
    /// A defect of this library.
    #[error("{at}internal: {detail}")]
    Internal {
        /// Where in the model.
        at: Box<Place>,
        /// The invariant that does not hold.
        detail: Cow<'static, str>,
    },
}

/// A node or a value of the model, for messages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The node's name, or its first output when it has none.
    pub node: Option<Arc<str>>,
    /// The node's operator; empty without a node.
    pub op: Arc<str>,
    /// The operator's domain; empty for ONNX's own.
    pub domain: Arc<str>,
    /// The operator set version that applies to the node; 0 when unknown.
    pub opset: i64,
    /// The value (tensor, input, output).
    pub value: Option<Arc<str>>,
}

impl Place {
    /// The model as a whole.
    pub fn model() -> Place {
        Place::default()
    }

    /// A value without a node: an input, an initializer.
    pub fn value(name: &Arc<str>) -> Place {
        Place { value: Some(name.clone()), ..Place::default() }
    }

    /// The same place, narrowed to one value.
    #[must_use]
    pub fn with_value(self, name: &Arc<str>) -> Place {
        Place { value: Some(name.clone()), ..self }
    }
}

impl fmt::Display for Place {
    /// Text that ends in a space when it is not empty; names are quoted and cut to a bearable length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(node) = &self.node {
            write!(f, "node {} (", Quoted(node))?;
            if !self.domain.is_empty() {
                write!(f, "{}::", Plain(&self.domain))?;
            }
            write!(f, "{}", Plain(&self.op))?;
            if self.opset > 0 {
                write!(f, ", opset {}", self.opset)?;
            }
            f.write_str("): ")?;
        }
        if let Some(value) = &self.value {
            write!(f, "value {}: ", Quoted(value))?;
        }
        Ok(())
    }
}

/// A name from a model as a message shows it: quoted, control characters escaped, at most 120 characters.
pub(crate) struct Quoted<'a>(pub &'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", Plain(self.0))
    }
}

struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 120;
        let mut characters = self.0.chars();
        for character in characters.by_ref().take(SHOWN) {
            write!(f, "{}", character.escape_debug())?;
        }
        if characters.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $code:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$case_doc])* $case,)*
        }

        impl $name {
            /// The stable code.
            pub fn code(self) -> &'static str {
                match self {
                    $($name::$case => concat!("SDX-", $code),)*
                }
            }

            #[cfg(test)]
            const CODES: &'static [&'static str] = &[$(concat!("SDX-", $code)),*];
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $($name::$case => $text,)*
                })
            }
        }
    };
}

coded! {
    /// What is wrong with the bytes.
    ParseFault {
        /// Empty, or no trace of a model message.
        NotOnnx = "0102", "not an ONNX file";
        /// A length or a number runs past the end of its message.
        Truncated = "0103", "a field runs past the end of its message";
        /// A variable-length integer of more than 64 bits.
        Varint = "0104", "an integer is longer than 64 bits";
        /// A field number of zero or beyond 2^29, or one of the wire types that ONNX never uses.
        Tag = "0105", "malformed field tag";
        /// A known field in another wire type than its own.
        WireType = "0106", "a field has the wrong wire type";
        /// A packed list of fixed-size elements whose length is not a multiple of the element's.
        Packed = "0107", "a packed list ends in the middle of an element";
        /// A name that is not UTF-8.
        Utf8 = "0108", "a name is not UTF-8";
        /// A message that can stand only once stands twice.
        Repeated = "0109", "a message field is given twice";
    }
}

coded! {
    /// The rule of ONNX that a model breaks.
    InvalidFault {
        /// Something that must be there is not (`ir_version`, `graph`, a node's `op_type`, a name).
        Missing = "0201", "required field is missing";
        /// Two definitions of one name: inputs, initializers, functions, opset imports, attributes.
        DuplicateName = "0202", "duplicate name";
        /// A value that two nodes write, or that a node writes over an input or initializer.
        TwoWriters = "0203", "value is written twice";
        /// A value that is read and never defined.
        MissingValue = "0204", "value is not defined";
        /// A node that depends on its own output.
        Cycle = "0205", "the graph has a cycle";
        /// Too many or too few inputs or outputs.
        Arity = "0206", "wrong number of inputs or outputs";
        /// An unknown, missing or wrongly typed attribute.
        Attribute = "0207", "bad attribute";
        /// Element types that do not fit together or the operator.
        ElementType = "0208", "bad element type";
        /// Dimensions that are negative, overflow, or do not fit together.
        Shape = "0209", "bad dimensions";
        /// Tensor data whose length or kind is not what type and dimensions say.
        TensorData = "0210", "bad tensor data";
        /// An operator set that is not imported, or imported wrongly.
        Opset = "0211", "bad operator set";
        /// A local function that is recursive or does not fit its call.
        Function = "0212", "bad local function";
        /// External data that is out of bounds, outside the model's folder, or not allowed here.
        ExternalData = "0213", "bad external data";
        /// An operator parameter out of its range.
        Parameter = "0214", "bad parameter";
    }
}

coded! {
    /// What this version does not have.
    UnsupportedFault {
        /// An IR version newer than this reader.
        IrVersion = "0301", "IR version is not supported";
        /// An operator, or a version of one.
        Operator = "0302", "operator is not supported";
        /// A domain.
        Domain = "0303", "operator domain is not supported";
        /// An element type.
        ElementType = "0304", "element type is not supported";
        /// A kind of value: sparse tensors, maps, opaque types.
        ValueKind = "0305", "kind of value is not supported";
        /// A value of an attribute or input that has no implementation.
        Variant = "0306", "variant is not supported";
    }
}

coded! {
    /// What is counted while loading.
    Budget {
        /// Bytes of the model file.
        FileBytes = "0401", "file_bytes";
        /// Nested messages.
        MessageDepth = "0402", "message_depth";
        /// Nested subgraphs.
        SubgraphDepth = "0403", "subgraph_depth";
        /// Nodes of all graphs, after functions are inlined.
        Nodes = "0404", "nodes";
        /// Bytes of memory for everything but tensor data.
        StructureBytes = "0405", "structure_bytes";
        /// Bytes of one name.
        NameBytes = "0406", "name_bytes";
        /// Dimensions of one tensor.
        Rank = "0407", "rank";
        /// Bytes of one tensor.
        TensorBytes = "0408", "tensor_bytes";
        /// Distinct files of external data.
        ExternalFiles = "0409", "external_files";
        /// Bytes that constant folding may make.
        FoldBytes = "0410", "fold_bytes";
    }
}

impl Budget {
    /// The name of the limit's field.
    pub fn name(self) -> String {
        self.to_string()
    }
}

impl ImportError {
    /// A broken rule at a place.
    pub fn invalid(at: Place, fault: InvalidFault, detail: impl Into<Cow<'static, str>>) -> ImportError {
        ImportError::Invalid { at: Box::new(at), fault, detail: detail.into() }
    }

    /// Something this version does not have, at a place.
    pub fn unsupported(
        at: Place,
        fault: UnsupportedFault,
        detail: impl Into<Cow<'static, str>>,
    ) -> ImportError {
        ImportError::Unsupported { at: Box::new(at), fault, detail: detail.into() }
    }

    /// A budget that a place exceeds.
    pub fn budget(at: Place, which: Budget, asked: u64, allowed: u64) -> ImportError {
        ImportError::BudgetExceeded { which, asked, allowed, at: Box::new(at) }
    }

    /// A defect of this library, at a place.
    pub(crate) fn internal(at: Place, detail: impl Into<Cow<'static, str>>) -> ImportError {
        ImportError::Internal { at: Box::new(at), detail: detail.into() }
    }

    /// What an operator says about one of its uses.
    pub(crate) fn operator(at: Place, error: &OpError) -> ImportError {
        let detail = error.to_string();
        let fault = match error {
            OpError::Attribute { .. } => InvalidFault::Attribute,
            OpError::Arity { .. } => InvalidFault::Arity,
            OpError::Type { .. } => InvalidFault::ElementType,
            OpError::Size => InvalidFault::Shape,
            OpError::Unsupported { .. } => {
                return ImportError::unsupported(at, UnsupportedFault::Variant, detail);
            }
            OpError::Internal(what) => return ImportError::internal(at, *what),
            _ => InvalidFault::Parameter,
        };
        ImportError::invalid(at, fault, detail)
    }

    /// The same error, at this node or value if it did not know one.
    #[must_use]
    pub(crate) fn within(mut self, place: impl FnOnce() -> Place) -> ImportError {
        if let ImportError::Io { at, .. }
        | ImportError::Invalid { at, .. }
        | ImportError::Unsupported { at, .. }
        | ImportError::BudgetExceeded { at, .. }
        | ImportError::Internal { at, .. }
        | ImportError::Integrity { at, .. } = &mut self
            && at.node.is_none()
        {
            let place = place();
            **at = Place { value: at.value.take().or(place.value), ..place };
        }
        self
    }

    /// The stable code, for telemetry and for people who search: `SDX-0204`.
    pub fn code(&self) -> &'static str {
        match self {
            ImportError::Io { .. } => "SDX-0101",
            ImportError::Integrity { .. } => "SDX-0110",
            ImportError::Parse { what, .. } => what.code(),
            ImportError::Invalid { fault, .. } => fault.code(),
            ImportError::Unsupported { fault, .. } => fault.code(),
            ImportError::BudgetExceeded { which, .. } => which.code(),
            ImportError::Input { .. } => "SDX-0501",
            ImportError::Internal { .. } => "SDX-0901",
        }
    }

    /// Where in the model, if the error belongs to a place.
    pub fn place(&self) -> Option<&Place> {
        match self {
            ImportError::Parse { .. } | ImportError::Input { .. } => None,
            ImportError::Io { at, .. }
            | ImportError::Invalid { at, .. }
            | ImportError::Unsupported { at, .. }
            | ImportError::BudgetExceeded { at, .. }
            | ImportError::Internal { at, .. }
            | ImportError::Integrity { at, .. } => Some(at),
        }
    }

    /// The node's name, or its first output when it has none.
    pub fn node(&self) -> Option<&str> {
        self.place()?.node.as_deref()
    }

    /// The value's name.
    pub fn value(&self) -> Option<&str> {
        self.place()?.value.as_deref()
    }

    /// What to do next, where there is something to do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            ImportError::Parse { what: ParseFault::Truncated, .. } => {
                "the file may be cut off: compare its size with the original, or check it out of LFS"
            }
            ImportError::Parse { .. } => {
                "check that this is a binary ONNX model and not text, JSON or a link"
            }
            ImportError::Invalid { fault, .. } => match fault {
                InvalidFault::Opset => "add the domain to the model's opset_import, or re-export",
                InvalidFault::ExternalData => {
                    "external data must be regular files beside or beneath the model, named relatively"
                }
                InvalidFault::Cycle | InvalidFault::MissingValue | InvalidFault::TwoWriters => {
                    "the graph was edited wrongly: onnx.checker.check_model shows the same"
                }
                _ => return None,
            },
            ImportError::Unsupported { fault, .. } => match fault {
                UnsupportedFault::IrVersion => "re-export with an older IR version",
                UnsupportedFault::Operator | UnsupportedFault::Variant => {
                    "re-export with another opset, or replace the operator"
                }
                UnsupportedFault::Domain => {
                    "export the operators of this domain as standard ones, or as functions of the model"
                }
                UnsupportedFault::ElementType => "convert the value to a type such as f32 or i64",
                UnsupportedFault::ValueKind => "re-export with dense tensors in its place",
            },
            ImportError::BudgetExceeded { .. } => "raise the limit of this name if the model is trusted",
            ImportError::Integrity { .. } => "fetch model and data again: they do not belong together",
            ImportError::Internal { .. } => "please report this with the model",
            ImportError::Io { .. } | ImportError::Input { .. } => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct() {
        let mut all = vec!["SDX-0101", "SDX-0110", "SDX-0501", "SDX-0901"];
        for codes in [ParseFault::CODES, InvalidFault::CODES, UnsupportedFault::CODES, Budget::CODES] {
            all.extend_from_slice(codes);
        }
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }

    #[test]
    fn text_names_the_place_and_cuts_long_names() {
        let at = Place {
            node: Some("a\n".into()),
            op: "Conv".into(),
            opset: 13,
            value: Some("v".repeat(500).into()),
            ..Place::default()
        };
        let error = ImportError::invalid(at, InvalidFault::MissingValue, "no node writes it");
        assert_eq!((error.code(), error.node()), ("SDX-0204", Some("a\n")));
        let text = error.to_string();
        assert!(text.starts_with("node \"a\\n\" (Conv, opset 13): value \"vvv"), "{text}");
        assert!(text.len() < 260 && text.ends_with("value is not defined: no node writes it"), "{text}");
    }
}
