//! `sendpi token`: prints a token for the Sendpi of a data folder.

use std::path::PathBuf;
use std::time::Duration;

use sendpi_gateway::{TokenError, TokenKey, TokenRules, Tokens, TokensError};
use sendpi_model::flow::Requester;
use sendpi_model::{IdError, Millis, UserId};

use crate::output::say;
use crate::token_key;

/// The options of `sendpi token`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenCommand {
    /// The user, or the name of the service.
    #[arg(long)]
    user: String,
    /// Make the token of a service, which may act as itself or for any user.
    #[arg(long)]
    service: bool,
    /// How long the token is valid.
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    valid: Duration,
    /// The folder with the data of the Sendpi that is to accept the token.
    #[arg(long, default_value = ".sendpi", env = "SENDPI_DATA")]
    data: PathBuf,
}

/// The reason why no token could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenCommandError {
    /// The user is no id.
    #[error("--user {0}")]
    User(#[from] IdError),
    /// There is no key.
    #[error("cannot use the key in {path}: {source}; start sendpi dev there once, or name its folder with --data")]
    Key {
        /// The data folder.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The key cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// The token cannot be made.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// Prints a token.
pub(crate) fn run(args: &TokenCommand) -> Result<(), TokenCommandError> {
    let user = UserId::parse_chosen(&args.user)?;
    let key = token_key::read(&args.data);
    let key = key.map_err(|source| TokenCommandError::Key { path: args.data.clone(), source })?;
    let tokens = Tokens::new(TokenRules { keys: vec![TokenKey::Hs256(key)], ..TokenRules::default() })?;
    let who = if args.service { Requester::Service(&user) } else { Requester::User(&user) };
    let now = Millis::now();
    say(tokens.make(who, now, now.after(args.valid))?);
    Ok(())
}
