//! rustls set up as a web-config asks.

use super::config::{ClientAuth, TlsConfig};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, NamedGroup, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::net::IpAddr;
use std::sync::Arc;

/// Makes the configuration of the server's side.
///
/// # Errors
///
/// A sentence for a certificate or key that cannot be used, or that do not belong together.
pub(super) fn server(config: &TlsConfig) -> Result<Arc<ServerConfig>, String> {
    let mut provider = ring::default_provider();
    if !config.cipher_suites.is_empty() {
        let place = |suite: &rustls::SupportedCipherSuite| {
            let name = format!("{:?}", suite.suite());
            let place = config.cipher_suites.iter().position(|s| *s == name);
            // those of TLS 1.3 are not chosen by configuration
            if suite.version() == &rustls::version::TLS13 {
                Some(0)
            } else {
                place
            }
        };
        provider
            .cipher_suites
            .retain(|suite| place(suite).is_some());
        provider.cipher_suites.sort_by_key(place);
    }
    if !config.curves.is_empty() {
        let place = |group: NamedGroup| {
            let name = match group {
                NamedGroup::X25519 => "X25519",
                NamedGroup::secp256r1 => "CurveP256",
                NamedGroup::secp384r1 => "CurveP384",
                _ => return None,
            };
            config.curves.iter().position(|c| c == name)
        };
        provider
            .kx_groups
            .retain(|group| place(group.name()).is_some());
        provider.kx_groups.sort_by_key(|group| place(group.name()));
    }
    let provider = Arc::new(provider);
    let mut versions = Vec::new();
    if config.tls13 {
        versions.push(&rustls::version::TLS13);
    }
    if config.tls12 {
        versions.push(&rustls::version::TLS12);
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&versions)
        .map_err(|e| format!("these versions, suites and curves do not go together: {e}"))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&config.cert)
        .collect::<Result<_, _>>()
        .map_err(|e| format!("the certificate is no PEM: {e}"))?;
    if chain.is_empty() {
        return Err("there is no certificate in cert or cert_file".to_owned());
    }
    let key = PrivateKeyDer::from_pem_slice(&config.key)
        .map_err(|e| format!("there is no private key in key or key_file: {e}"))?;
    let builder = match config.client_auth {
        ClientAuth::None => builder.with_no_client_auth(),
        _ => builder.with_client_cert_verifier(verifier(config, &provider)?),
    };
    let mut server = builder
        .with_single_cert(chain, key)
        .map_err(|e| format!("failed to load X509KeyPair: {e}"))?;
    server.ignore_client_order = config.prefer_server;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(server))
}

fn verifier(
    config: &TlsConfig,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let authorities = match &config.client_ca {
        None => None,
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|e| format!("client_ca is no PEM: {e}"))?;
                roots
                    .add(certificate)
                    .map_err(|e| format!("client_ca has an unusable certificate: {e}"))?;
            }
            if roots.is_empty() {
                return Err("there is no certificate in client_ca or client_ca_file".to_owned());
            }
            Some(Arc::new(roots))
        }
    };
    let verify = matches!(
        config.client_auth,
        ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify
    );
    let chain = match authorities.filter(|_| verify) {
        None => None,
        Some(roots) => Some(
            WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
                .allow_unauthenticated()
                .build()
                .map_err(|e| format!("client_ca cannot be used: {e}"))?,
        ),
    };
    Ok(Arc::new(Clients {
        chain,
        sans: config.allowed_sans.clone(),
        provider: provider.clone(),
    }))
}

/// Looks at the certificate of a client that shows one. That one is shown at all is asked later, of
/// each request, since a probe of the kubelet has none and must get through to the health endpoints.
#[derive(Debug)]
struct Clients {
    /// Verifies the chain; any certificate is taken without.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    /// Names of which the certificate must have one.
    sans: Option<Vec<String>>,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |c| c.root_hint_subjects())
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(end_entity, intermediates, now)?;
        }
        match &self.sans {
            Some(sans) if !has_name(end_entity, sans) => Err(Error::General(
                "could not find allowed SANs in client cert".to_owned(),
            )),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Does the certificate have one of these as a subject alternative name, letter for letter?
fn has_name(certificate: &CertificateDer<'_>, allowed: &[String]) -> bool {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return false;
    };
    allowed.iter().any(|san| match san.parse::<IpAddr>() {
        Ok(address) => certificate
            .verify_is_valid_for_subject_name(&ServerName::IpAddress(address.into()))
            .is_ok(),
        Err(_) => certificate
            .valid_dns_names()
            .chain(certificate.valid_uri_names())
            .any(|name| name == san),
    })
}
