//! The driver as its kubelet sees it: gRPC over a Unix socket, with a cluster and a data plane that the tests control.

mod cluster;
mod driver;
mod mounter;
mod operator;

mod access;
mod concurrency;
mod http;
mod identity;
mod index;
mod kubernetes;
mod manifest;
mod node_cache;
mod outage;
mod publish;
mod real;
mod registration;
mod store;
