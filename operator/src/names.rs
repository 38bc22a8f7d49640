//! Names that only the operator uses; those that others rely on are in `granary_crds::names`.

/// Field manager of everything that the operator applies, and reporter of its events.
pub const OPERATOR: &str = "granary-operator";
/// Name of the Lease.
pub const LEASE: &str = "granary-operator";

/// Label of index Jobs: UID of the Dataset. For selecting only.
pub const DATASET_UID_LABEL: &str = "granary.dev/dataset-uid";
/// Annotation of an index Job: what was ordered, see [`crate::reconcile::dataset::order::Order`].
pub const ORDER_ANNOTATION: &str = "granary.dev/index-order";
/// Annotation of an index Job: what came of it, see [`crate::reconcile::dataset::order::Outcome`].
pub const OUTCOME_ANNOTATION: &str = "granary.dev/index-outcome";
/// Annotation of a Dataset: the last complete look at its sources, see [`crate::reconcile::dataset::order::Look`].
pub const LOOK_ANNOTATION: &str = "granary.dev/last-index";

/// Annotation by which Kubernetes says who made a volume.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
