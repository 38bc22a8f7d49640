//! The table of who may mount what.

use granary_crds::dataset::{ClaimStatus, Credentials, DatasetSpec, DatasetStatus, SecretRef};
use granary_crds::dataset_grant::{DatasetGrantSpec, DatasetRef, Restriction};

use super::*;

const UID: &str = "uid-1";

fn time(text: &str) -> Time {
    Time(text.parse().unwrap())
}

fn now() -> Time {
    time("2027-01-01T00:00:00Z")
}

fn pod(namespace: &str) -> Pod {
    Pod { namespace: namespace.into(), service_account: "trainer".into() }
}

fn dataset() -> Dataset {
    let mut dataset = Dataset::new("imagenet", DatasetSpec::default());
    dataset.metadata.namespace = Some("vision".into());
    dataset.metadata.uid = Some(UID.into());
    dataset
}

fn with_secret() -> Dataset {
    let mut dataset = dataset();
    dataset.spec.credentials = Some(Credentials { secret_ref: Some(SecretRef { name: "s3-read".into() }) });
    dataset.status = Some(DatasetStatus {
        claim: Some(ClaimStatus { name: "imagenet".into(), uid: "c".into() }),
        ..Default::default()
    });
    dataset
}

fn persistent() -> Volume {
    Volume::Persistent { namespace: "vision".into(), dataset: "imagenet".into(), uid: UID.into() }
}

fn inline() -> Volume {
    Volume::Ephemeral { dataset: "imagenet".into() }
}

fn namespace(name: &str) -> Subject {
    Subject { kind: SubjectKind::Namespace, name: name.into(), namespace: None }
}

fn account(name: &str, namespace: &str) -> Subject {
    Subject { kind: SubjectKind::ServiceAccount, name: name.into(), namespace: Some(namespace.into()) }
}

fn grant(subject: Subject) -> DatasetGrant {
    let spec = DatasetGrantSpec {
        dataset_ref: DatasetRef { name: "imagenet".into() },
        subjects: vec![subject],
        ..Default::default()
    };
    let mut grant = DatasetGrant::new("to-b", spec);
    grant.metadata.namespace = Some("vision".into());
    grant
}

fn expiring(at: &str) -> DatasetGrant {
    let mut grant = grant(namespace("team-b"));
    grant.spec.expiration_time = Some(time(at));
    grant
}

fn restricted() -> DatasetGrant {
    let mut grant = grant(namespace("team-b"));
    grant.spec.restrictions = vec![Restriction { type_: "Purpose".into() }];
    grant
}

/// Name, volume, what the API server has, who asks, and the outcome.
type Row = (&'static str, Volume, Option<Dataset>, Vec<DatasetGrant>, Option<Pod>, Outcome);

/// What a row of the table says of the outcome.
enum Outcome {
    Granted,
    /// Refused, with these words in the text.
    Says(&'static [&'static str]),
}
use Outcome::{Granted, Says};

#[test]
fn table() {
    let of_other_dataset = {
        let mut grant = grant(namespace("team-b"));
        grant.spec.dataset_ref.name = "other".into();
        grant
    };
    let of_other_namespace = {
        let mut grant = grant(namespace("team-b"));
        grant.metadata.namespace = Some("team-b".into());
        grant
    };
    let unknown_kind = grant(Subject { kind: SubjectKind::Unknown, name: "team-b".into(), namespace: None });
    let deleting = {
        let mut dataset = dataset();
        dataset.metadata.deletion_timestamp = Some(now());
        dataset
    };
    let recreated = {
        let mut dataset = dataset();
        dataset.metadata.uid = Some("uid-2".into());
        dataset
    };
    let ungranted: &[&str] = &[
        "'vision/imagenet' does not exist or is not granted",
        "'trainer'",
        "'team-b'",
        "DatasetGrant in namespace 'vision'",
    ];

    let rows: Vec<Row> = vec![
        ("own namespace", persistent(), Some(dataset()), vec![], Some(pod("vision")), Granted),
        ("own namespace, with a secret", persistent(), Some(with_secret()), vec![], Some(pod("vision")), Granted),
        ("no pod information", persistent(), Some(dataset()), vec![], None, Says(&["podInfoOnMount"])),
        (
            "own namespace, unknown",
            persistent(),
            None,
            vec![],
            Some(pod("vision")),
            Says(&["has no Dataset 'imagenet'"]),
        ),
        (
            "own namespace, wrong uid",
            persistent(),
            Some(recreated.clone()),
            vec![],
            Some(pod("vision")),
            Says(&["created again"]),
        ),
        (
            "own namespace, being deleted",
            persistent(),
            Some(deleting),
            vec![],
            Some(pod("vision")),
            Says(&["being deleted"]),
        ),
        ("other namespace, no grant", persistent(), Some(dataset()), vec![], Some(pod("team-b")), Says(ungranted)),
        ("other namespace, unknown", persistent(), None, vec![], Some(pod("team-b")), Says(ungranted)),
        (
            "unknown, though granted",
            persistent(),
            None,
            vec![grant(namespace("team-b"))],
            Some(pod("team-b")),
            Says(ungranted),
        ),
        (
            "granted to the namespace",
            persistent(),
            Some(dataset()),
            vec![grant(namespace("team-b"))],
            Some(pod("team-b")),
            Granted,
        ),
        (
            "granted to the account",
            persistent(),
            Some(dataset()),
            vec![grant(account("trainer", "team-b"))],
            Some(pod("team-b")),
            Granted,
        ),
        (
            "an account of that name elsewhere",
            persistent(),
            Some(dataset()),
            vec![grant(account("trainer", "team-c"))],
            Some(pod("team-b")),
            Says(ungranted),
        ),
        (
            "another account",
            persistent(),
            Some(dataset()),
            vec![grant(account("viewer", "team-b"))],
            Some(pod("team-b")),
            Says(ungranted),
        ),
        (
            "another namespace",
            persistent(),
            Some(dataset()),
            vec![grant(namespace("team-c"))],
            Some(pod("team-b")),
            Says(ungranted),
        ),
        (
            "a subject of an unknown kind",
            persistent(),
            Some(dataset()),
            vec![unknown_kind],
            Some(pod("team-b")),
            Says(ungranted),
        ),
        (
            "a grant of another dataset",
            persistent(),
            Some(dataset()),
            vec![of_other_dataset],
            Some(pod("team-b")),
            Says(ungranted),
        ),
        (
            "a grant that the borrower made",
            persistent(),
            Some(dataset()),
            vec![of_other_namespace],
            Some(pod("team-b")),
            Says(ungranted),
        ),
        (
            "granted, wrong uid",
            persistent(),
            Some(recreated),
            vec![grant(namespace("team-b"))],
            Some(pod("team-b")),
            Says(&["created again"]),
        ),
        (
            "expires later",
            persistent(),
            Some(dataset()),
            vec![expiring("2027-01-01T00:00:01Z")],
            Some(pod("team-b")),
            Granted,
        ),
        (
            "expires now",
            persistent(),
            Some(dataset()),
            vec![expiring("2027-01-01T00:00:00Z")],
            Some(pod("team-b")),
            Says(&["'vision/to-b'", "expired at 2027-01-01T00:00:00Z"]),
        ),
        (
            "restricted",
            persistent(),
            Some(dataset()),
            vec![restricted()],
            Some(pod("team-b")),
            Says(&["restriction 'Purpose'", "upgrade"]),
        ),
        (
            "expired, but granted again",
            persistent(),
            Some(dataset()),
            vec![expiring("2026-01-01T00:00:00Z"), grant(namespace("team-b"))],
            Some(pod("team-b")),
            Granted,
        ),
        ("inline", inline(), Some(dataset()), vec![], Some(pod("vision")), Granted),
        ("inline, no pod information", inline(), Some(dataset()), vec![], None, Says(&["podInfoOnMount"])),
        (
            "inline, with a secret",
            inline(),
            Some(with_secret()),
            vec![],
            Some(pod("vision")),
            Says(&["use a claim", "claimName: imagenet"]),
        ),
        (
            "inline, unknown",
            inline(),
            None,
            vec![grant(namespace("team-b"))],
            Some(pod("team-b")),
            Says(&["namespace 'team-b' has no Dataset"]),
        ),
    ];
    for (name, volume, dataset, grants, pod, outcome) in rows {
        let decision = decide(&volume, dataset.as_ref(), &grants, pod.as_ref(), now());
        match outcome {
            Granted => assert_eq!(decision, Ok(()), "{name}"),
            Says(words) => {
                let text = decision.expect_err(name).to_string();
                for word in words {
                    assert!(text.contains(word), "{name}: '{word}' is not in: {text}");
                }
            }
        }
    }
}
