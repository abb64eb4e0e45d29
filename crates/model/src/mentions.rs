//! Whom a message mentions.

use serde::{Deserialize, Serialize};

use crate::UserId;

/// The users whom a message mentions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<String>", into = "Vec<String>")]
pub enum Mentions {
    /// `["*"]`: every member. Only admins and owners may use it.
    All,
    /// Up to 50 users.
    Users(Vec<String>),
}

impl Mentions {
    /// Returns whether a user is mentioned.
    #[must_use]
    pub fn include(&self, user: &UserId) -> bool {
        match self {
            Self::All => true,
            Self::Users(users) => users.iter().any(|name| name == user.as_str()),
        }
    }
}

impl From<Vec<String>> for Mentions {
    fn from(users: Vec<String>) -> Self {
        if users.iter().any(|u| u == "*") { Self::All } else { Self::Users(users) }
    }
}

impl From<Mentions> for Vec<String> {
    fn from(mentions: Mentions) -> Self {
        match mentions {
            Mentions::All => vec!["*".to_owned()],
            Mentions::Users(users) => users,
        }
    }
}
