//! Bearer tokens: known by hash, compared in constant time, scoped to a tenant.

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use super::problem::{Kind, Problem};
use crate::settings::{Auth, Scope};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// Name of the token, for logs.
    pub name: String,
    /// The tenant it acts for; none: an operator of all tenants.
    pub tenant_id: Option<String>,
    scopes: Vec<Scope>,
}

impl Caller {
    /// Whether this caller may see things of `tenant_id`.
    pub fn may_see(&self, tenant_id: &str) -> bool {
        self.tenant_id.as_deref().is_none_or(|own| own == tenant_id)
    }

    /// Whether this caller acts for all tenants.
    pub fn is_operator(&self) -> bool {
        self.tenant_id.is_none()
    }

    /// Refuses a caller without `scope`.
    ///
    /// # Errors
    /// The problem to answer with.
    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Problem::new(Kind::Forbidden).detail(format!("the token lacks the scope {:?}", scope.as_str())))
    }
}

/// The tokens of this process.
#[derive(Debug, Clone)]
pub struct Tokens {
    known: Vec<([u8; 32], Caller)>,
}

impl Tokens {
    /// Reads the settings; entries that `settings::check` refuses are left out.
    pub fn new(auth: &Auth) -> Self {
        let known = auth
            .tokens
            .iter()
            .filter_map(|token| {
                let hash = hex::decode(&token.sha256).ok()?.try_into().ok()?;
                let tenant_id = Some(token.tenant_id.clone()).filter(|id| id != "*");
                let scopes = match (token.scopes.is_empty(), &tenant_id) {
                    (false, _) => token.scopes.clone(),
                    (true, Some(_)) => vec![Scope::Send, Scope::Control, Scope::Read],
                    (true, None) => vec![Scope::Send, Scope::Control, Scope::Read, Scope::Manage],
                };
                Some((hash, Caller { name: token.name.clone(), tenant_id, scopes }))
            })
            .collect();
        Self { known }
    }

    /// Who calls, by the `Authorization` header.
    ///
    /// Every known hash is compared in full, so the time tells nothing of which, or how much of one, fits.
    ///
    /// # Errors
    /// The problem to answer with.
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<&Caller, Problem> {
        let token = bearer(headers).ok_or_else(|| {
            Problem::new(Kind::Unauthorized).detail("send the header Authorization: Bearer <token>")
        })?;
        let presented: [u8; 32] = Sha256::digest(token).into();
        // Index + 1 of the token that fits, 0 for none.
        let mut found = 0_u64;
        for (i, (hash, _)) in self.known.iter().enumerate() {
            let fits: Choice = hash.ct_eq(&presented);
            found.conditional_assign(&(i as u64 + 1), fits);
        }
        (found as usize)
            .checked_sub(1)
            .and_then(|i| self.known.get(i))
            .map(|(_, caller)| caller)
            .ok_or_else(|| Problem::new(Kind::Unauthorized).detail("the token is not known"))
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(header::AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked(7)?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

/// SHA-256 of a token as the settings want it.
pub fn token_sha256(token: &str) -> String {
    hex::encode(Sha256::digest(token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Token;

    fn tokens() -> Tokens {
        let token = |name: &str, tenant: &str, scopes: &[Scope]| Token {
            name: name.into(),
            sha256: token_sha256(&format!("t-{name}")),
            tenant_id: tenant.into(),
            scopes: scopes.to_vec(),
        };
        Tokens::new(&Auth {
            tokens: vec![
                token("shop", "acme", &[]),
                token("ops", "*", &[]),
                token("ro", "acme", &[Scope::Read]),
            ],
        })
    }

    fn with(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, value.parse().unwrap())])
    }

    #[test]
    fn a_token_acts_for_its_tenant_only_and_an_operator_for_all() {
        let tokens = tokens();
        let shop = tokens.authenticate(&with("Bearer t-shop")).unwrap();
        assert!(shop.may_see("acme") && !shop.may_see("other") && !shop.is_operator());
        let ops = tokens.authenticate(&with("bearer t-ops")).unwrap();
        assert!(ops.may_see("acme") && ops.may_see("other") && ops.is_operator());
    }

    #[test]
    fn without_a_known_token_nobody_gets_in() {
        let tokens = tokens();
        for headers in
            [HeaderMap::new(), with("Bearer "), with("Bearer x"), with("Basic t-shop"), with("t-shop")]
        {
            assert_eq!(tokens.authenticate(&headers).unwrap_err().kind, Kind::Unauthorized);
        }
    }

    #[test]
    fn a_scope_that_is_not_given_is_refused() {
        let tokens = tokens();
        let read_only = tokens.authenticate(&with("Bearer t-ro")).unwrap();
        assert!(read_only.require(Scope::Read).is_ok());
        assert_eq!(read_only.require(Scope::Send).unwrap_err().kind, Kind::Forbidden);
        let shop = tokens.authenticate(&with("Bearer t-shop")).unwrap();
        assert_eq!(shop.require(Scope::Manage).unwrap_err().kind, Kind::Forbidden);
    }
}
