//! The Flowgate contract, generated from the files beside this one.
//!
//! [`flowgate::v1`] holds the messages, clients and servers, [`flowgate::admin::v1`] those of the admin listener, [`inference`] those of the
//! Open Inference Protocol;
//! [`FILE_DESCRIPTOR_SET`] the descriptors with every option and comment, for reflection, HTTP transcoding and OpenAPI;
//! [`JSON_CODECS`] the canonical JSON mapping by message name.

/// Packages `flowgate.*`.
pub mod flowgate {
    /// The data plane.
    #[allow(missing_docs, rustdoc::all, clippy::all)]
    pub mod v1 {
        include!(concat!(env!("OUT_DIR"), "/flowgate.v1.rs"));
        include!(concat!(env!("OUT_DIR"), "/flowgate.v1.serde.rs"));
    }

    /// What operators do.
    pub mod admin {
        /// The control plane.
        #[allow(missing_docs, rustdoc::all, clippy::all)]
        pub mod v1 {
            include!(concat!(env!("OUT_DIR"), "/flowgate.admin.v1.rs"));
            include!(concat!(env!("OUT_DIR"), "/flowgate.admin.v1.serde.rs"));
        }
    }
}

/// Packages `google.*` that have no crate of their own here.
pub mod google {
    /// `google.rpc.Status`.
    #[allow(missing_docs, rustdoc::all, clippy::all)]
    pub mod rpc {
        include!(concat!(env!("OUT_DIR"), "/google.rpc.rs"));
        include!(concat!(env!("OUT_DIR"), "/google.rpc.serde.rs"));
    }
}

/// The Open Inference Protocol, version 2.
#[allow(missing_docs, rustdoc::all, clippy::all)]
pub mod inference {
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

pub use flowgate::{admin, v1};
pub use pbjson_types as wkt;

/// The encoded `google.protobuf.FileDescriptorSet` of the data plane's contract and all it imports.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));

/// The same of the control plane's, which only the admin listener serves.
pub const ADMIN_FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/admin_descriptor.bin"));

/// The canonical JSON mapping of one message, by its full name.
#[derive(Clone, Copy)]
pub struct JsonCodec {
    /// The message's full name, for example `flowgate.v1.ChatRequest`.
    pub message: &'static str,
    /// JSON text to encoded message; fails with the place and the reason, which may show what stands there.
    pub to_proto: fn(&[u8]) -> Result<Vec<u8>, serde_json::Error>,
    /// Encoded message to JSON text; fails if the bytes are not that message.
    pub to_json: fn(&[u8]) -> Result<Vec<u8>, String>,
}

/// The JSON mapping of every message that an RPC of the data plane takes or returns, sorted by name.
pub const JSON_CODECS: &[JsonCodec] = include!(concat!(env!("OUT_DIR"), "/json_codecs.rs"));

impl JsonCodec {
    const fn of<M>(message: &'static str) -> Self
    where
        M: prost::Message + Default + serde::Serialize + serde::de::DeserializeOwned,
    {
        Self {
            message,
            to_proto: |json| serde_json::from_slice::<M>(json).map(|message| message.encode_to_vec()),
            to_json: |bytes| {
                let message = M::decode(bytes).map_err(|error| error.to_string())?;
                serde_json::to_vec(&message).map_err(|error| error.to_string())
            },
        }
    }
}

impl std::fmt::Debug for JsonCodec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("JsonCodec").field(&self.message).finish()
    }
}
