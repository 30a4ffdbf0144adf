//! TLS 1.3 of a TCP connection, with the cipher first that this processor is fast at.
//!
//! Does what libp2p-tls 0.7 does, which prefers ChaCha20 on every processor: with AES instructions that is three times slower. Certificates,
//! their extension that names the peer, and what is asked of them are still libp2p-tls's. What both ends speak is the same, so either
//! understands the other.

use std::io;
use std::iter;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures::future::BoxFuture;
use futures::{AsyncRead, AsyncWrite, FutureExt};
use futures_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use libp2p::PeerId;
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::identity::Keypair;
use libp2p::tls::certificate;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::cipher_suite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, CommonState, DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};

/// What both sides say that they speak inside of TLS.
const ALPN: &[u8] = b"libp2p";

/// The upgrade.
#[derive(Clone)]
pub(super) struct Upgrade {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Upgrade {
    /// With a certificate that `key` signs.
    ///
    /// # Errors
    /// If there is no certificate to be had, which says what the system lacks.
    pub(super) fn new(key: &Keypair) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let (certificate, secret) = certificate::generate(key)?;
        let secret = aws_lc_rs::sign::any_ecdsa_type(&secret)?;
        // Not held against the key: rustls does not know the extension that names the peer.
        let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], secret)));
        let provider = Arc::new(provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier))
            .with_cert_resolver(Arc::<SingleCertAndKey>::clone(&shown));
        server.alpn_protocols = vec![ALPN.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier))
            .with_client_cert_resolver(shown);
        client.alpn_protocols = vec![ALPN.to_vec()];
        // Who a peer is depends on its certificate, not on a name: none is told.
        client.enable_sni = false;
        Ok(Self { server: Arc::new(server), client: Arc::new(client) })
    }
}

/// The client's first cipher is the one that is used.
fn provider() -> CryptoProvider {
    let cipher_suites = if has_aes() {
        vec![TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256]
    } else {
        vec![TLS13_CHACHA20_POLY1305_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_AES_128_GCM_SHA256]
    };
    CryptoProvider { cipher_suites, ..aws_lc_rs::default_provider() }
}

/// Whether the processor has instructions for AES in Galois/counter mode.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes") && std::arch::is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes") && std::arch::is_aarch64_feature_detected!("pmull");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    false
}

impl UpgradeInfo for Upgrade {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/tls/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Upgrade {
    type Output = (PeerId, Sealed<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        let accepting = TlsAcceptor::from(self.server).accept(socket);
        async move { named(accepting.await?.into()) }.boxed()
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Upgrade {
    type Output = (PeerId, Sealed<C>);
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Output>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        let nobody = ServerName::IpAddress(IpAddr::V4(Ipv4Addr::UNSPECIFIED).into());
        let connecting = TlsConnector::from(self.client).connect(nobody, socket);
        async move { named(connecting.await?.into()) }.boxed()
    }
}

/// What is inside of TLS, which takes nothing more while the connection does not take what was sealed before: by itself, 64 KiB.
#[derive(Debug)]
pub(super) struct Sealed<C>(TlsStream<C>);

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncRead for Sealed<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Sealed<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.0.get_ref().1.wants_write() {
            ready!(Pin::new(&mut self.0).poll_flush(cx))?;
        }
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_close(cx)
    }
}

/// The stream with the peer that its certificate names.
fn named<C>(stream: TlsStream<C>) -> io::Result<(PeerId, Sealed<C>)> {
    let state: &CommonState = match &stream {
        TlsStream::Client(client) => client.get_ref().1,
        TlsStream::Server(server) => server.get_ref().1,
    };
    let Some([certificate]) = state.peer_certificates() else {
        return Err(io::Error::other("the peer showed another number of certificates than one"));
    };
    let peer = certificate::parse(certificate).map_err(io::Error::other)?.peer_id();
    Ok((peer, Sealed(stream)))
}

/// Asks of a certificate what libp2p does: one alone, signed by itself, and its key by the peer that it names.
#[derive(Debug)]
struct Verifier;

impl Verifier {
    fn verify(certificate: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !intermediates.is_empty() {
            return Err(rustls::Error::General("a libp2p peer shows one certificate".to_owned()));
        }
        certificate::parse(certificate).map(drop).map_err(|error| rustls::Error::General(error.to_string()))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Self::verify(certificate, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let certificate = certificate::parse(certificate).map_err(|error| rustls::Error::General(error.to_string()))?;
        let verified = certificate.verify_signature(signed.scheme, message, signed.signature());
        verified.map(|()| HandshakeSignatureValid::assertion()).map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP384_SHA384,
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
            SignatureScheme::RSA_PSS_SHA512,
            SignatureScheme::RSA_PSS_SHA384,
            SignatureScheme::RSA_PSS_SHA256,
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Self::verify(certificate, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

#[cfg(test)]
mod tests {
    use futures::{AsyncReadExt, AsyncWriteExt};
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    #[tokio::test]
    async fn both_sides_learn_who_the_other_is_and_speak_the_cipher_that_is_fast_here() {
        let keys = [Keypair::generate_ed25519(), Keypair::generate_ed25519()];
        let [dialler, listener] = keys.each_ref().map(|key| Upgrade::new(key).unwrap());
        let (near, far) = tokio::io::duplex(1 << 16);
        let (near, far) =
            futures::join!(dialler.upgrade_outbound(near.compat(), "/tls/1.0.0"), listener.upgrade_inbound(far.compat(), "/tls/1.0.0"));
        let ((listening, mut near), (dialling, mut far)) = (near.unwrap(), far.unwrap());
        assert_eq!([dialling, listening], keys.each_ref().map(|key| key.public().to_peer_id()));
        let cipher = near.0.get_ref().1.negotiated_cipher_suite().unwrap().suite();
        assert_eq!(cipher == rustls::CipherSuite::TLS13_AES_128_GCM_SHA256, has_aes(), "{cipher:?}");
        near.write_all(b"hello").await.unwrap();
        near.flush().await.unwrap();
        let mut heard = [0; 5];
        far.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[tokio::test]
    async fn nothing_more_is_sealed_while_the_connection_does_not_take_what_was() {
        let ours = Upgrade::new(&Keypair::generate_ed25519()).unwrap();
        let (near, far) = tokio::io::duplex(16 * 1024);
        let (near, _far) =
            futures::join!(ours.clone().upgrade_outbound(near.compat(), "/tls/1.0.0"), ours.upgrade_inbound(far.compat(), "/tls/1.0.0"));
        let mut near = near.unwrap().1;
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(bytes) = Pin::new(&mut near).poll_write(cx, &[1; 4096]) {
            taken += bytes.unwrap();
        }
        assert!((12..=20).contains(&(taken / 1024)), "{taken}");
    }

    #[tokio::test]
    async fn libp2p_tls_understands_it_and_is_understood() {
        let keys = [Keypair::generate_ed25519(), Keypair::generate_ed25519()];
        let theirs = libp2p::tls::Config::new(&keys[1]).unwrap();
        let ours = Upgrade::new(&keys[0]).unwrap();
        let ids = keys.each_ref().map(|key| key.public().to_peer_id());
        let (near, far) = tokio::io::duplex(1 << 16);
        let (us, them) = futures::join!(
            ours.clone().upgrade_outbound(near.compat(), "/tls/1.0.0"),
            theirs.clone().upgrade_inbound(far.compat(), "/tls/1.0.0")
        );
        assert_eq!((us.unwrap().0, them.unwrap().0), (ids[1], ids[0]));
        let (near, far) = tokio::io::duplex(1 << 16);
        let (us, them) =
            futures::join!(ours.upgrade_inbound(near.compat(), "/tls/1.0.0"), theirs.upgrade_outbound(far.compat(), "/tls/1.0.0"));
        assert_eq!((us.unwrap().0, them.unwrap().0), (ids[1], ids[0]));
    }

    #[tokio::test]
    async fn who_shows_the_certificate_of_another_is_refused() {
        let listener = Upgrade::new(&Keypair::generate_ed25519()).unwrap();
        let mut dialler = Upgrade::new(&Keypair::generate_ed25519()).unwrap();
        let (certificate, _) = certificate::generate(&Keypair::generate_ed25519()).unwrap();
        let (_, secret) = certificate::generate(&Keypair::generate_ed25519()).unwrap();
        let secret = aws_lc_rs::sign::any_ecdsa_type(&secret).unwrap();
        let mut client = ClientConfig::clone(&dialler.client);
        client.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], secret)));
        dialler.client = Arc::new(client);
        let (near, far) = tokio::io::duplex(1 << 16);
        let (_, far) =
            futures::join!(dialler.upgrade_outbound(near.compat(), "/tls/1.0.0"), listener.upgrade_inbound(far.compat(), "/tls/1.0.0"));
        let refused = far.map(|(peer, _)| peer).unwrap_err();
        assert!(refused.to_string().contains("Signature"), "{refused}");
    }
}
