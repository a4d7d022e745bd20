//! The certificate that the server shows, read from PEM files, and read again when they have been renewed.
//!
//! Invariant: what is shown was whole when it was read. A renewal replaces two files one after the other, and between them they do not belong
//! together; then the old certificate is kept, until a later look finds the new one whole. Sockets that are open keep what they were
//! opened with.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use tokio::net::TcpStream;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
        server::{ClientHello, ResolvesServerCert},
        sign::CertifiedKey,
    },
};

use crate::stream::Stream;

/// A certificate with its key, and the files that they are from. Copies show the same.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
}

/// Why there is no TLS, or no new certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file cannot be read, or holds no such thing.
    #[error("{path}: {source}; it must hold PEM (a certificate with its chain, or a private key)")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("the certificate and its key cannot be used: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Reads the certificate with its chain, and its private key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn read(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let shown = Arc::new(Shown {
            current: RwLock::new(Arc::new(read(certificates, key)?)),
            certificates: certificates.to_owned(),
            key: key.to_owned(),
        });
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        // It is what a WebSocket opens with.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), shown })
    }

    /// Reads the files again. Whoever comes from now on is shown what they hold. True when that is another certificate.
    ///
    /// # Errors
    /// [`TlsError`]; then the old certificate is still shown.
    pub fn renew(&self) -> Result<bool, TlsError> {
        let new = read(&self.shown.certificates, &self.shown.key)?;
        let mut current = self.shown.current.write().unwrap_or_else(PoisonError::into_inner);
        let renewed = current.cert != new.cert;
        *current = Arc::new(new);
        Ok(renewed)
    }

    /// Shakes hands.
    pub(crate) async fn accept(&self, stream: TcpStream) -> io::Result<Stream> {
        Ok(Stream::Tls(Box::new(self.acceptor.accept(stream).await?)))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// What newcomers are shown.
#[derive(Debug)]
struct Shown {
    current: RwLock<Arc<CertifiedKey>>,
    certificates: PathBuf,
    key: PathBuf,
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn read(certificates: &Path, key: &Path) -> Result<CertifiedKey, TlsError> {
    let file = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::File { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificates)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file(certificates))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(file(key))?;
    Ok(CertifiedKey::from_der(chain, key, &ring::default_provider())?)
}
