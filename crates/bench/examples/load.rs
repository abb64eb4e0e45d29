//! The load generator alone: `cargo run --release -p sendpi-bench --example load -- bench --url http://host:port`.

use clap::Parser;

#[derive(Parser)]
enum Command {
    /// Measure a server
    Bench(sendpi_bench::BenchArgs),
}

#[tokio::main]
async fn main() -> Result<(), sendpi_bench::BenchError> {
    let Command::Bench(args) = Command::parse();
    sendpi_bench::run(args).await
}
