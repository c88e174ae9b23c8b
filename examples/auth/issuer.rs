//! Tokens: an issuer signs them with its private key, a service checks them with the public one.

use std::fs;
use std::path::Path;
use std::time::Duration;

use jsonwebtoken::errors::Error;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, get_current_timestamp};
use serde::{Deserialize, Serialize};

use super::user::User;

/// How long a token is valid. Nobody can take it back, so it is short.
const LIFE: Duration = Duration::from_secs(600);

const ISSUER: &str = "https://issuer.example";

/// The service that tokens are for. A token for another service is of no use here.
const AUDIENCE: &str = "orders";

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: String,
    exp: u64,
    #[serde(default)]
    is_admin: bool,
}

/// Checks tokens.
pub(crate) struct PublicKey {
    key: DecodingKey,
    validation: Validation,
}

/// Signs tokens, as an issuer does. Only `auth token` and `auth call` have it, and never a service.
pub(crate) struct SigningKey(EncodingKey);

/// A token, and how long it is valid.
pub(crate) struct Signed {
    pub(crate) token: String,
    pub(crate) expires_in: Duration,
}

impl PublicKey {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let key = DecodingKey::from_ed_pem(&read(path)?)?;
        // One algorithm, by the service's choice: a token must not choose how it is checked.
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[ISSUER]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        Ok(Self { key, validation })
    }

    pub(crate) fn verify(&self, token: &str) -> Result<User, Error> {
        let Claims { sub, is_admin, .. } = decode::<Claims>(token, &self.key, &self.validation)?.claims;
        Ok(User { name: sub, is_admin })
    }
}

impl SigningKey {
    pub(crate) fn read(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        Ok(Self(EncodingKey::from_ed_pem(&read(path)?)?))
    }

    pub(crate) fn sign(&self, name: &str, is_admin: bool) -> Result<Signed, Error> {
        let exp = get_current_timestamp() + LIFE.as_secs();
        let claims = Claims { iss: ISSUER.into(), aud: AUDIENCE.into(), sub: name.into(), exp, is_admin };
        let token = encode(&Header::new(Algorithm::EdDSA), &claims, &self.0)?;
        Ok(Signed { token, expires_in: LIFE })
    }
}

/// The content of a file. The error of the standard library does not name the file.
fn read(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|why| format!("can't read {}: {why}", path.display()))
}
