//! Generated from `proto/`: the interfaces that the kubelet speaks.

/// The Container Storage Interface, v1.
#[allow(missing_docs, clippy::all)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// The kubelet's plugin registration, v1.
#[allow(missing_docs, clippy::all)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
