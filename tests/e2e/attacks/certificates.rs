use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::json;

use super::Grant::{self, Rule};
use super::{EVERYWHERE, STRONG, nothing, patiently, reign, stage};

const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";

#[test]
fn a_certificate_is_requested_approved_and_taken_from_the_approval() {
    const SPACE: &str = "certificates";
    const CREATE: Grant<'_> = Rule(
        EVERYWHERE,
        "create | certificates.k8s.io | certificatesigningrequests",
    );
    const UPDATE: Grant<'_> = Rule(
        EVERYWHERE,
        "update | certificates.k8s.io | certificatesigningrequests/approval",
    );
    const APPROVE: Grant<'_> = Rule(
        EVERYWHERE,
        "approve | certificates.k8s.io | signers | kubernetes.io/kube-apiserver-client",
    );
    let stage = stage();
    stage.namespace(SPACE);
    let thief = stage.actor("certificates-thief", &[CREATE, UPDATE, APPROVE]);
    let other_signer = stage.actor(
        "certificates-other-signer",
        &[
            CREATE,
            UPDATE,
            Rule(
                EVERYWHERE,
                "approve | certificates.k8s.io | signers | kubernetes.io/kubelet-serving",
            ),
        ],
    );
    let no_signer = stage.actor("certificates-no-signer", &[CREATE, UPDATE]);
    let no_approval = stage.actor("certificates-no-approval", &[CREATE, APPROVE]);
    stage.contest(
        "a client certificate requested, approved and taken from the approval's answer",
        (
            &thief,
            "critical (csr-approve-client@* critical, csr-approve-partial@* high)",
        ),
        &[
            (&other_signer, "none ()"),
            (&no_signer, "none ()"),
            (&no_approval, "none ()"),
        ],
        |actor| {
            let key = KeyPair::generate().expect("a key can be made");
            let mut params = CertificateParams::default();
            params.distinguished_name.push(
                DnType::CommonName,
                format!("system:serviceaccount:{SPACE}:{STRONG}"),
            );
            let request = params.serialize_request(&key).expect("it can be signed");
            let pem = request.pem().expect("it can be written");
            let mut request = actor.caller.post(
                REQUESTS,
                &json!({
                    "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                    "metadata": {"name": actor.name},
                    "spec": {
                        "request": BASE64.encode(pem), "usages": ["client auth"],
                        "signerName": "kubernetes.io/kube-apiserver-client",
                    },
                }),
            )?;
            request["status"] = json!({"conditions": [
                {"type": "Approved", "status": "True", "reason": "Wanted"},
            ]});
            // Nobody else has to agree, whatever has happened to it in between.
            request["metadata"]
                .as_object_mut()
                .expect("metadata")
                .remove("resourceVersion");
            let approval = format!("{REQUESTS}/{actor}/approval");
            actor.caller.put(&approval, &request)?;
            // The signer takes a moment; approving once more shows what it has made.
            let certificate = patiently(|| {
                let approved = actor.caller.put(&approval, &request)?;
                let certificate = approved["status"]["certificate"].clone();
                if certificate.is_null() {
                    Err(nothing("certificate"))
                } else {
                    Ok(certificate)
                }
            })?;
            reign(&stage.world.caller(&json!({
                "client-certificate-data": certificate,
                "client-key-data": BASE64.encode(key.serialize_pem()),
            })))
        },
    );
}
