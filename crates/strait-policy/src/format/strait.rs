//! Strait's own document, as one format among the others.

use super::{Codec, Exported, Imported, as_text};
use crate::policy::{KIND, Policy};

pub(super) const CODEC: Codec = Codec {
    name: "strait",
    recognises: |sample| sample.kind() == Some(KIND),
    import: |bytes, _| Ok(Imported { policy: Policy::parse(as_text(bytes)?)?, notes: Vec::new() }),
    export: |policy, _| Ok(Exported { text: policy.to_string(), ..Exported::default() }),
};
