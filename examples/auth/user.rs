//! Who is calling: [`User`]. The one place where the proofs of an identity become a user.

use byname::{Code, Context, Error, Identity, Next, Reply, Request};

use super::issuer::PublicKey;

/// The services that may call, by the SPIFFE ID in their certificates. A certificate with another name is valid, and has
/// no rights here.
const SERVICES: [&str; 2] = ["spiffe://prod/billing", "spiffe://prod/shipping"];

/// The caller, whatever has proven who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) is_admin: bool,
}

impl User {
    /// The caller of the function that runs.
    pub(crate) fn current() -> Result<Self, Error> {
        let user = Context::current().and_then(|call| call.extensions().get::<Self>().cloned());
        // The rules let nobody in without a user. A rule that is too wide must not make one up.
        user.ok_or_else(|| Error::new(Code::Unauthenticated, "this function needs to know who is calling"))
    }

    /// The user that a request proves; `None` if it proves nothing, and an error if its proof is wrong.
    ///
    /// Each kind of proof is one step here: a token, or what the connection proves.
    fn of(request: &Request, key: &PublicKey) -> Result<Option<Self>, Error> {
        let Some(token) = request.bearer() else {
            return Ok(request.peer().and_then(|peer| peer.identity.as_ref()).and_then(Self::of_connection));
        };
        match key.verify(token.as_str()) {
            Ok(user) => Ok(Some(user)),
            Err(why) => Err(Error::new(Code::Unauthenticated, format!("the token was rejected: {why}; get a new one"))),
        }
    }

    /// The user that a connection proves. A proxy that connects so would be this user, whoever has called it.
    fn of_connection(identity: &Identity) -> Option<Self> {
        match identity {
            // The kernel says which user of this machine has opened the unix socket.
            Identity::Unix(caller) => Some(Self { name: format!("uid {}", caller.uid), is_admin: false }),
            // The authority of the server's clients has signed this name.
            Identity::Certificate(certificate) => {
                let name = certificate.spiffe_id().filter(|id| SERVICES.contains(id))?;
                Some(Self { name: name.to_owned(), is_admin: false })
            }
            _ => None,
        }
    }
}

/// An interceptor that puts the [`User`] into the extensions of each call, where rules and functions read it.
pub(crate) fn identify(key: PublicKey) -> impl Fn(Request, Next) -> Identified + Send + Sync + 'static {
    move |mut request, next| {
        let user = User::of(&request, &key);
        Box::pin(async move {
            match user {
                Ok(Some(user)) => {
                    request.extensions_mut().insert(user);
                    Ok(next.run(request).await)
                }
                Ok(None) => Ok(next.run(request).await),
                Err(error) => {
                    let mut reply = Reply::from(error);
                    reply.set_header("www-authenticate", r#"Bearer error="invalid_token""#)?;
                    Ok(reply)
                }
            }
        })
    }
}

type Identified = std::pin::Pin<Box<dyn Future<Output = Result<Reply, Error>> + Send>>;
