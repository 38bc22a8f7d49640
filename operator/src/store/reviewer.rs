//! Whose a token is.

use async_trait::async_trait;
use granary_crds::names::TOKEN_AUDIENCE;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::Client;
use kube::api::{Api, PostParams};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `system:serviceaccount:<namespace>:<name>`
    pub username: String,
    /// Name and UID of the pod that the token is bound to.
    pub pod: Option<(String, String)>,
}

impl Identity {
    /// Namespace of the service account.
    pub fn namespace(&self) -> Option<&str> {
        self.username.strip_prefix("system:serviceaccount:")?.split(':').next()
    }
}

/// Finds out whose a token is.
#[async_trait]
pub trait Reviewer: Send + Sync {
    /// The identity behind a token of our audience; none if it is not valid.
    async fn review(&self, token: &str) -> Result<Option<Identity>, kube::Error>;
}

/// Asks the API server.
pub struct KubeReviewer(Client);

impl KubeReviewer {
    /// Asks through this client.
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

#[async_trait]
impl Reviewer for KubeReviewer {
    async fn review(&self, token: &str) -> Result<Option<Identity>, kube::Error> {
        let review = TokenReview {
            spec: TokenReviewSpec { audiences: Some(vec![TOKEN_AUDIENCE.to_owned()]), token: token.to_owned() },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(self.0.clone()).create(&PostParams::default(), &review).await?;
        Ok(identity(answer))
    }
}

fn identity(review: TokenReview) -> Option<Identity> {
    let status = review.status?;
    // An API server that does not know audiences would accept a token for any.
    let ours = status.audiences.is_some_and(|audiences| audiences.iter().any(|audience| audience == TOKEN_AUDIENCE));
    let user = status.user.filter(|_| status.authenticated == Some(true) && ours)?;
    let extra = user.extra.unwrap_or_default();
    let one = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([value]) => Some(value.clone()),
        _ => None,
    };
    Some(Identity { username: user.username?, pod: one(POD_NAME).zip(one(POD_UID)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answered(status: Value) -> Option<Identity> {
        identity(serde_json::from_value(json!({"spec": {}, "status": status})).unwrap())
    }

    #[test]
    fn only_an_authenticated_token_of_our_audience_counts() {
        let user = json!({"username": "system:serviceaccount:ns:default", "extra": {POD_NAME: ["p"], POD_UID: ["u"]}});
        let good = answered(json!({"authenticated": true, "audiences": ["granary"], "user": user})).unwrap();
        assert_eq!(good.pod, Some(("p".to_owned(), "u".to_owned())));
        assert_eq!(good.namespace(), Some("ns"));
        assert_eq!(answered(json!({"authenticated": false, "audiences": ["granary"], "user": user})), None);
        assert_eq!(answered(json!({"authenticated": true, "audiences": ["other"], "user": user})), None);
        assert_eq!(answered(json!({"authenticated": true, "user": user})), None);
        let unbound = json!({"username": "admin"});
        let unbound = answered(json!({"authenticated": true, "audiences": ["granary"], "user": unbound})).unwrap();
        assert_eq!((unbound.pod.as_ref(), unbound.namespace()), (None, None));
    }
}
