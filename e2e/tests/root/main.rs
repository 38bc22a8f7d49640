//! What needs root and real mounts, but no cluster: node processes that are killed, and what they leave; the memory that one
//! takes; random operations under faults. All below one module, so that the suite can tell them from the cluster's tests.

mod root;
