//! The options for rates.

use sendpi_model::Rates;

/// How often clients may ask something.
#[derive(Debug, clap::Args)]
pub(crate) struct RateArgs {
    /// Set a rate: frames, sends, invitations, lists or sign_ins to N/s,BURST or N/m,BURST, connections or unsigned (of
    /// one address) to a number, each also to off. Repeatable.
    #[arg(long = "rate", value_name = "NAME=VALUE")]
    rates: Vec<String>,
    /// Switch all rates off that are not set with --rate.
    #[arg(long)]
    no_rates: bool,
}

/// A rate that cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("--rate {0}: {1}")]
pub(crate) struct RateArgsError(String, String);

impl RateArgs {
    pub(crate) fn rates(&self) -> Result<Rates, RateArgsError> {
        let mut rates = if self.no_rates { Rates::off() } else { Rates::default() };
        for text in &self.rates {
            rates.set(text).map_err(|rule| RateArgsError(text.clone(), rule))?;
        }
        Ok(rates)
    }
}
