//! The arguments of the load generator.

use clap::ValueEnum;

/// The arguments of `sendpi bench`.
#[derive(Debug, Clone, clap::Args)]
pub struct BenchArgs {
    /// The cases to run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = CaseName::ALL)]
    pub cases: Vec<CaseName>,
    /// How long each case is measured, in seconds
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// How many times each case is run; the median run is shown
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    pub runs: u16,
    /// Measure the server at this address, http://host:port, instead of starting one. It must issue tokens at
    /// /dev/token. CPU and memory are not measured then.
    #[arg(long)]
    pub url: Option<String>,
    /// Measure on this database, host:port with commas, in place of the embedded store. Each server gets a keyspace of
    /// its own, with one replica
    #[arg(long, value_name = "HOST:PORT", value_delimiter = ',', conflicts_with = "url")]
    pub cql: Vec<String>,
    /// Skip the limit, a bare broadcast without bus and store
    #[arg(long)]
    pub no_limit: bool,
    /// Print one JSON object instead of the table
    #[arg(long)]
    pub json: bool,
    /// How many idle connections `idle` holds
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 10_000])]
    pub idle: Vec<usize>,
    /// How many live rooms of ten each of 1,000 users of `idle` has; 0 leaves live rooms out
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(..=50))]
    pub idle_rooms: u16,
    /// How many rooms the users of `signin` have
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1_000, 10_000])]
    pub rooms: Vec<usize>,
    /// Seconds that `signin` waits between creating the rooms and signing in. With 0, every room is still active and is
    /// joined; after 11 minutes, no room is
    #[arg(long, default_value_t = 0)]
    pub settle: u64,
    /// With --cql, `signin` also measures a user with 50 rooms that were active for so many days without a break
    #[arg(long, default_value_t = 10)]
    pub days: u32,
    /// A further argument for `sendpi dev`; may be repeated
    #[arg(long = "server-arg", allow_hyphen_values = true)]
    pub server_args: Vec<String>,
    /// Serve the limit on this port; the load generator starts itself with this
    #[arg(long, hide = true)]
    pub serve_limit: Option<u16>,
}

/// The cases that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CaseName {
    /// One room of 1,000 members, 50 messages a second
    Big,
    /// 100 rooms of 10 members, 1,000 messages a second in all
    Small,
    /// Like big, but 4 senders send again as soon as answered
    Bigmax,
    /// Like small, but 200 senders, 4 messages in flight each
    Smallmax,
    /// Memory per user who is signed in and idle, and per live room
    Idle,
    /// Time from hello to welcome, with few and with many rooms
    Signin,
    /// With --cql: what rooms of 2, 100 and 1,000 members write
    Writes,
    /// 100 busy rooms of 10 lose all connections at once; how new users fare for 30 s
    Masscut,
    /// A node with 1,000 busy users dies; how long others wait in other rooms for 30 s
    Deadnode,
}

impl CaseName {
    const ALL: [Self; 9] = [
        Self::Big,
        Self::Small,
        Self::Bigmax,
        Self::Smallmax,
        Self::Idle,
        Self::Signin,
        Self::Writes,
        Self::Masscut,
        Self::Deadnode,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Big => "big",
            Self::Small => "small",
            Self::Bigmax => "bigmax",
            Self::Smallmax => "smallmax",
            Self::Idle => "idle",
            Self::Signin => "signin",
            Self::Writes => "writes",
            Self::Masscut => "masscut",
            Self::Deadnode => "deadnode",
        }
    }
}

impl std::fmt::Display for CaseName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: BenchArgs,
    }

    #[test]
    fn without_arguments_every_case_is_run() {
        let args = Command::parse_from(["bench"]).args;
        assert_eq!(args.cases, CaseName::ALL);
        assert_eq!((args.seconds, args.runs, args.idle), (10, 3, vec![5_000, 10_000]));
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let args = Command::parse_from(["bench", "--cases", "big,idle", "--server-arg", "--nodes=3"]).args;
        assert_eq!(args.cases, [CaseName::Big, CaseName::Idle]);
        assert_eq!(args.server_args, ["--nodes=3"]);
    }
}
