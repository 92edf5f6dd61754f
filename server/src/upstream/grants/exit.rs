//! The way out to whoever grants credentials: the proxy and the authorities of the deployments that need them.

use std::{fmt, path::PathBuf, sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::Uri;

use crate::{
    error::{Error, Result},
    upstream::tls,
};

/// How long a connection may take: metadata addresses lead nowhere outside of their cloud.
const CONNECT: Duration = Duration::from_secs(2);

/// How a deployment reaches what is not near.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Route {
    /// Its `upstream.proxy`.
    pub proxy: Option<Uri>,
    /// Its `upstream.ca`: the certificate authorities themselves, and the file that they are from.
    pub ca: Option<(PathBuf, Bytes)>,
}

/// An HTTP client by one route, made when first needed, because it reads the system's certificates.
#[derive(Default)]
pub(super) struct Exit {
    route: Route,
    client: OnceLock<reqwest::Client>,
}

impl fmt::Debug for Route {
    /// The proxy's address may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").finish_non_exhaustive()
    }
}

impl Exit {
    pub(super) fn new(route: Route) -> Self {
        Self { route, client: OnceLock::new() }
    }

    /// # Errors
    /// An internal error when the proxy or the authorities are none.
    pub(super) fn client(&self) -> Result<&reqwest::Client> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let mut roots = tls::system_roots();
        if let Some((path, pem)) = &self.route.ca {
            roots = tls::trust(roots, path, pem)?;
        }
        let tls = (*tls::client(roots)?).clone();
        let mut builder = reqwest::Client::builder().tls_backend_preconfigured(tls).no_proxy().connect_timeout(CONNECT);
        if let Some(proxy) = &self.route.proxy {
            // The parser's words may quote the password.
            let proxy = reqwest::Proxy::all(proxy.to_string()).map_err(|_| Error::internal("`upstream.proxy` is not an address"))?;
            builder = builder.proxy(proxy);
        }
        let builder = builder.redirect(reqwest::redirect::Policy::none()).user_agent(concat!("flowgate/", env!("CARGO_PKG_VERSION")));
        let client = builder.build().map_err(|error| Error::internal("the client for credentials cannot be made").because(error))?;
        Ok(self.client.get_or_init(|| client))
    }
}
