//! The door of the server, as the flags ask for it.

use super::Failure;
use crate::cli::Auth;
use crate::export::door::{Answer, Door, Identity, Reviewer};
use crate::source::cluster::{Access, TokenOwner, may_get_path, owner_of_token};
use std::path::Path;
use std::sync::Arc;

/// Makes it. `access` is that of the cluster that is watched, if one is.
pub(super) fn door(
    file: Option<&Path>,
    auth: Option<Auth>,
    access: Option<&Access>,
    telemetry_path: &str,
) -> Result<Door, Failure> {
    let reviewer: Option<Arc<dyn Reviewer>> = match (auth, access) {
        (None | Some(Auth::None), _) => None,
        (Some(Auth::Kubernetes), Some(access)) => Some(Arc::new(ApiServer(access.clone()))),
        (Some(Auth::Kubernetes), None) => {
            return Err(Failure::Usage(
                "--web.auth=kubernetes asks an API server, and with --source.manifests there is none; \
                 --web.config.file knows users and client certificates"
                    .into(),
            ));
        }
    };
    Door::new(file, reviewer.map(|reviewer| (reviewer, telemetry_path)))
        .map_err(|error| Failure::Configuration(error.complaints().collect()))
}

/// The API server that is watched answers for its users.
struct ApiServer(Access);

impl Reviewer for ApiServer {
    fn who(&self, token: String) -> Answer<Option<Identity>> {
        let client = self.0.beside();
        Box::pin(async move {
            let owner = owner_of_token(&client, &token).await?;
            Ok(owner.map(|owner| Identity {
                user: owner.username,
                uid: owner.uid,
                groups: owner.groups,
                extra: owner.extra,
            }))
        })
    }

    fn may(&self, who: Arc<Identity>, path: String) -> Answer<bool> {
        let client = self.0.beside();
        Box::pin(async move {
            let owner = TokenOwner {
                username: who.user.clone(),
                uid: who.uid.clone(),
                groups: who.groups.clone(),
                extra: who.extra.clone(),
            };
            may_get_path(&client, &owner, &path).await
        })
    }
}
